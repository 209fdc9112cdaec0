"""The directory of an experiment: what stands in it, and whether it can take a run."""

import contextlib
import os
from collections.abc import Generator
from pathlib import Path

from ..simulate import Trajectory
from ..storage import claim, write_new_text
from ._description import Experiment
from ._load import load_experiment
from ._write import description_attrs, to_toml

CHECKPOINT = "checkpoint"
TRAJECTORY = "trajectory.zarr"
DESCRIPTION = "experiment.toml"
REPORT = "report.html"


@contextlib.contextmanager
def claim_directory(
    experiment: Experiment, out: str | Path, *, resume: bool
) -> Generator[None]:
    """Makes the directory the experiment's own while the block runs, or refuses it.

    Its description lies there from the beginning, so that no other experiment takes the
    directory, now or later. If the block fails before there are results, the directory
    is left as it was found.

    Args:
        experiment: The description.
        out: The directory.
        resume: Whether to go on with a run that the directory holds.

    Raises:
        ValueError: If it cannot be written, another run is going on in it, it holds
            another experiment, or holds this one and `resume` is off.

    Verified by:
        tests/experiments/test_directory.py::test_of_many_experiments_started_at_once_one_runs
    """
    out = Path(out)
    _make(out)
    with claim(out) as free:
        if not free:
            raise ValueError(
                f"Another run is going on in {out}. Wait until it has ended, or choose "
                "another directory with --out."
            )
        described = _is_described(experiment, out)
        _check_results(out, described=described, resume=resume)
        created = not described and write_new_text(
            out / DESCRIPTION, to_toml(experiment)
        )
        if not created:  # in the meantime, where the system knows no locks
            _is_described(experiment, out)
        try:
            yield
        except BaseException:
            if created and not _results(out):
                (out / DESCRIPTION).unlink(missing_ok=True)
            raise


def _make(out: Path) -> None:
    """Makes a directory, or says why not."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ValueError(
            f"{out} is a file; results are kept in a directory. Choose another path "
            "with --out."
        ) from None
    except OSError as error:
        raise ValueError(
            f"The directory {out} cannot be made: {error.strerror}. Choose another one "
            "with --out."
        ) from None
    if not os.access(out, os.R_OK | os.W_OK | os.X_OK):
        raise ValueError(
            f"{out} may not be written to. Choose another directory with --out."
        )


def _is_described(experiment: Experiment, out: Path) -> bool:
    """Whether the directory has this experiment's description; it may have no other."""
    known = out / DESCRIPTION
    if not known.exists():
        return False
    # As descriptions, not as texts: a file of an earlier version has fewer keys.
    if _read_description(known) != experiment:
        raise ValueError(
            f"{out} holds another experiment, described in {known}. Choose another "
            "directory with --out, or remove this one."
        )
    return True


def _read_description(path: Path) -> Experiment | None:
    """A description; None if there is none that this version can read."""
    try:
        return load_experiment(path)
    except ValueError:
        return None


def _results(out: Path) -> list[str]:
    return [name for name in (TRAJECTORY, CHECKPOINT) if (out / name).is_dir()]


def _check_results(out: Path, *, described: bool, resume: bool) -> None:
    """Refuses results that the run would not go on with."""
    found = _results(out)
    if found and not described:
        raise ValueError(
            f"{out} holds results ({', '.join(found)}) and no description of their "
            f"experiment ({DESCRIPTION}), so that they may be another's. Choose "
            "another directory with --out."
        )
    if resume:
        return
    if TRAJECTORY in found:
        page = out / REPORT
        report = f"Its report is {page}" if page.exists() else "It has no report"
        raise ValueError(
            f"{out} already holds this run, finished. {report}; `ntkflow report {out}` "
            "writes it again. To run it once more, choose another directory with --out."
        )
    if CHECKPOINT in found:
        raise ValueError(
            f"{out} already holds this run, interrupted. Add --resume to go on with "
            "it, or choose another directory with --out."
        )


def load_results(out: str | Path) -> Trajectory:
    """Reads the results of an experiment, finished or not.

    Args:
        out: The directory given to `run_experiment`, or any saved trajectory.

    Returns:
        The trajectory as far as it was saved.

    Raises:
        ValueError: If the directory holds no results.
    """  # ruff: ignore[docstring-extraneous-exception]
    out = Path(out)
    found = _results(out)
    if not found:
        return Trajectory.load(out)
    trajectory = Trajectory.load(out / found[0])
    described = _read_description(out / DESCRIPTION)
    if described is not None and "description" not in trajectory.dataset.attrs:
        # A checkpoint is written by `simulate`, which knows of no experiment.
        trajectory.dataset.attrs |= description_attrs(described)
    return trajectory


def report_path(out: str | Path) -> Path:
    """Where the report of a run belongs.

    Args:
        out: What `load_results` was given.

    Returns:
        A file in the directory of the experiment, or beside a saved trajectory, which
        is a store that other files have no place in.
    """
    out = Path(out).absolute()
    if _results(out):
        return out / REPORT
    if out.name in {TRAJECTORY, CHECKPOINT}:
        return out.parent / REPORT
    return out.parent / f"{out.stem}-{REPORT}"
