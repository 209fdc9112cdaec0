"""A directory belongs to one experiment, from before its run begins."""

import contextlib
import threading

import pytest

from ntkflow.experiments import Experiment, _run, load_experiment, run_experiment
from ntkflow.experiments._directory import claim_directory
from ntkflow.experiments._write import to_toml
from ntkflow.storage import _claim

WIDTHS = range(4, 10)


class _SimulatedError(Exception):
    """In place of a simulation."""


def experiment(width: int) -> Experiment:
    return Experiment.model_validate({"model": {"width": width}})


@pytest.mark.parametrize("locks", [True, False])
def test_of_many_experiments_started_at_once_one_runs(tmp_path, monkeypatch, locks):
    if not locks:
        monkeypatch.setattr(_claim, "fcntl", None)
    out = tmp_path / "out"
    start, ended = threading.Barrier(len(WIDTHS)), threading.Barrier(len(WIDTHS))
    won, refused = [], []

    def run(width: int) -> None:
        start.wait()
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(
                    claim_directory(experiment(width), out, resume=False)
                )
                won.append(width)
            except ValueError as error:
                refused.append(str(error))
            ended.wait()

    threads = [threading.Thread(target=run, args=(width,)) for width in WIDTHS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (width,) = won
    assert load_experiment(out / "experiment.toml") == experiment(width)
    assert len(refused) == len(WIDTHS) - 1
    for error in refused:
        assert "--out" in error
        assert "holds another experiment" in error or "Another run is going on" in error


@pytest.mark.parametrize("locks", [True, False])
def test_a_second_experiment_is_refused_while_the_first_is_built(
    tmp_path, monkeypatch, locks
):
    if not locks:
        monkeypatch.setattr(_claim, "fcntl", None)

    def build(description):
        assert description == experiment(4), "the second was built"
        with pytest.raises(ValueError, match=r"Another run|another experiment"):
            run_experiment(experiment(5), tmp_path, progress=False)
        assert load_experiment(tmp_path / "experiment.toml") == experiment(4)
        raise _SimulatedError

    monkeypatch.setattr(_run, "build_problem", build)
    with pytest.raises(_SimulatedError):
        run_experiment(experiment(4), tmp_path, progress=False)


def test_a_directory_is_refused_while_the_same_run_goes_on(tmp_path):
    with claim_directory(experiment(4), tmp_path, resume=False):
        for resume in (False, True):
            with (
                pytest.raises(ValueError, match="Another run is going on"),
                claim_directory(experiment(4), tmp_path, resume=resume),
            ):
                pytest.fail("was claimed twice")
    # It was interrupted: the same experiment may go on, another may not begin.
    with claim_directory(experiment(4), tmp_path, resume=True):
        pass
    with (
        pytest.raises(ValueError, match="holds another experiment"),
        claim_directory(experiment(5), tmp_path, resume=True),
    ):
        pytest.fail("was claimed by another")


def test_a_run_that_never_began_leaves_no_description(tmp_path, monkeypatch):
    tables = {"data": {"n_train": 100_000}, "model": {"width": 4}}
    with pytest.raises(ValueError, match="1797"):
        run_experiment(Experiment.model_validate(tables), tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(
        _run, "build_problem", lambda _: (_ for _ in ()).throw(KeyError)
    )
    with pytest.raises(KeyError):
        run_experiment(experiment(4), tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_description_that_was_there_is_left_as_it_was(tmp_path):
    known = tmp_path / "experiment.toml"
    known.write_text("[model]\nwidth = 4  # of my own\n")
    with (
        pytest.raises(KeyError),
        claim_directory(experiment(4), tmp_path, resume=False),
    ):
        raise KeyError
    assert "of my own" in known.read_text()
    with (
        pytest.raises(ValueError, match="holds another experiment"),
        claim_directory(experiment(5), tmp_path, resume=False),
    ):
        pytest.fail("was claimed by another")
    known.write_text("[model")
    with (
        pytest.raises(ValueError, match="holds another experiment"),
        claim_directory(experiment(4), tmp_path, resume=False),
    ):
        pytest.fail("was claimed by another")
    assert known.read_text() == "[model"


@pytest.mark.parametrize("results", ["trajectory.zarr", "checkpoint"])
@pytest.mark.parametrize("resume", [True, False])
def test_results_without_a_description_take_no_run(tmp_path, results, resume):
    (tmp_path / results).mkdir()
    with (
        pytest.raises(ValueError, match="no description"),
        claim_directory(experiment(4), tmp_path, resume=resume),
    ):
        pytest.fail("was claimed")
    assert not (tmp_path / "experiment.toml").exists()


def test_results_stay_beside_their_description_when_a_run_fails(tmp_path):
    def fail() -> None:
        with claim_directory(experiment(4), tmp_path, resume=False):
            (tmp_path / "checkpoint").mkdir()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (tmp_path / "experiment.toml").read_text() == to_toml(experiment(4))
