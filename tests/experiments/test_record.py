"""What a run leaves says what was trained on what."""

import shutil
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import xarray as xr

import ntkflow as nf
from ntkflow.experiments import (
    Experiment,
    _run,
    load_experiment,
    load_results,
    override,
    parse_experiment,
    report_path,
    run_experiment,
)
from ntkflow.experiments._write import summarize

QUICK = {
    "title": "Two classes <b>[/b]</b> & [n=64] :smile:",
    "data": {"n_train": 20, "n_test": 10, "classes": [0, 1], "seed": 3},
    "model": {"width": 8, "depth": 1},
    "simulation": {
        "t_last": 1.0,
        "n_times": 4,
        "flows": ["gradient", "residual_frozen"],
        "measures": ["kernel_drift"],
    },
}


@pytest.fixture(scope="module")
def description() -> Experiment:
    return Experiment.model_validate(QUICK)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, description) -> Path:
    """The directory of a finished run."""
    out = tmp_path_factory.mktemp("finished")
    run_experiment(description, out, name="quick", progress=False)
    return out


@pytest.fixture
def out(finished, tmp_path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "out"))


def test_a_run_leaves_its_description_checkpoint_and_results(out, description):
    assert load_experiment(out / "experiment.toml") == description
    loaded = load_results(out)
    assert loaded.dataset.sizes["time"] == 4
    assert loaded.dataset.attrs["experiment"] == "quick"
    other = Experiment.model_validate(override(QUICK, ["model.width=9"]))
    with pytest.raises(ValueError, match="holds another experiment"):
        run_experiment(other, out, progress=False)
    with pytest.raises(ValueError, match="ntkflow report"):
        run_experiment(description, out, progress=False)
    shutil.rmtree(out / "trajectory.zarr")
    with pytest.raises(ValueError, match="--resume"):
        run_experiment(description, out, progress=False)


def test_a_finished_run_is_read_when_it_is_resumed(out, description, monkeypatch):
    run = load_results(out)
    monkeypatch.setattr(_run, "build_problem", lambda _: pytest.fail("was built"))
    again = run_experiment(description, out, resume=True, progress=False)
    assert again.reason == run.reason
    xr.testing.assert_identical(again.dataset, run.dataset)


def test_results_hold_the_whole_description(out, description):
    run = nf.Trajectory.load(out / "trajectory.zarr")
    attrs = run.dataset.attrs
    assert parse_experiment(tomllib.loads(attrs["description"]), "x") == description
    assert attrs["title"] == description.title
    assert attrs["trained_on"] == summarize(description)


def test_an_unfinished_run_is_described_too(out, description):
    shutil.rmtree(out / "trajectory.zarr")
    attrs = load_results(out).dataset.attrs
    assert parse_experiment(tomllib.loads(attrs["description"]), "x") == description
    assert attrs["title"] == description.title
    (out / "experiment.toml").unlink()
    assert "description" not in load_results(out).dataset.attrs


def test_results_keep_their_own_description(out):
    own = load_results(out).dataset.attrs["description"]
    (out / "experiment.toml").write_text('title = "Another"')
    attrs = load_results(out).dataset.attrs
    assert attrs["title"] == QUICK["title"]
    assert attrs["description"] == own


def test_a_report_is_headed_by_the_title_and_says_what_was_trained(out, description):
    nf.plots.report(load_results(out), report_path(out))
    root = ET.fromstring(report_path(out).read_text("utf-8"))
    assert root.findtext("head/title") == description.title
    body = root.find("body")
    assert body is not None
    heading, trained = list(body)[:2]
    assert (heading.tag, heading.text) == ("h1", description.title)
    assert trained.text == summarize(description)
    texts = [element.text or "" for element in body.iter("pre")]
    (described,) = [text for text in texts if "[training]" in text]
    assert parse_experiment(tomllib.loads(described), "x") == description
    nf.plots.report(load_results(out), report_path(out), title="Mine")
    root = ET.fromstring(report_path(out).read_text("utf-8"))
    assert root.findtext("body/h1") == "Mine"


def test_a_sentence_tells_what_is_trained():
    assert summarize(Experiment.model_validate(QUICK)) == (
        "Trained: mlp of width 8 and depth 1, tanh, parameterization ntk, seed 0, loss "
        "squared_error (sum), float64. On: digits, classes 0, 1, 20 training and 10 "
        "test examples, targets centered, seed 3."
    )


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("data.name=mnist", "On: mnist,"),
        ("data.n_train=21", "21 training"),
        ("data.n_test=11", "11 test"),
        ("data.seed=4", "seed 4."),
        ("data.targets=onehot", "targets onehot"),
        ("data.classes=[2]", "classes 2,"),
        ('data={name = "file", path = "mine.npz"}', "On: mine.npz,"),
        ('data={name = "linear_teacher", strengths = [5.0, 0.5]}', "strengths 5, 0.5"),
        ("model.name=cnn", "Trained: cnn"),
        ("model.width=9", "width 9"),
        ("model.depth=3", "depth 3"),
        ("model.activation=relu", "relu"),
        ("model.parameterization=standard", "parameterization standard"),
        ("model.seed=5", "seed 5"),
        ("model.antisymmetric=true", "antisymmetric"),
        ("model.alpha=0.5", "α = 0.5"),
        ("training.loss=hinge", "loss hinge"),
        ("training.reduction=mean", "(mean)"),
        ("training.decay=0.5", "decay 0.5 towards zero"),
        ("precision=float32", "float32"),
    ],
)
def test_whatever_is_trained_is_told(setting, said):
    changed = parse_experiment(override(QUICK, [setting]), "x")
    assert said in summarize(changed)
    assert said not in summarize(Experiment.model_validate(QUICK))


def test_the_title_is_printed_as_it_is(tmp_path, capsys, description, monkeypatch):
    def stop(_):
        raise KeyError

    monkeypatch.setattr(_run, "build_problem", stop)
    out = tmp_path / "[bold]" / "[n=64] :smile:"
    with pytest.raises(KeyError):
        run_experiment(description, out)
    assert capsys.readouterr().err == f"{description.title}. Results: {out}\n"
    assert list(out.iterdir()) == []
