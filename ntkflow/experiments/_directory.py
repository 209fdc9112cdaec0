"""The directory of an experiment: what stands in it, and whether it can take a run."""

import os
from pathlib import Path

from ..simulate import Trajectory
from ._description import Experiment
from ._write import to_toml

CHECKPOINT = "checkpoint"
TRAJECTORY = "trajectory.zarr"
DESCRIPTION = "experiment.toml"
REPORT = "report.html"


def check_directory(experiment: Experiment, out: str | Path, *, resume: bool) -> None:
    """Makes the directory, or refuses it; before anything heavy.

    Args:
        experiment: The description.
        out: The directory.
        resume: Whether to go on with a run that the directory holds.

    Raises:
        ValueError: If it cannot be written, holds another experiment, or holds this one
            and `resume` is off.
    """
    out = Path(out)
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
    if not os.access(out, os.W_OK | os.X_OK):
        raise ValueError(
            f"{out} may not be written to. Choose another directory with --out."
        )
    known = out / DESCRIPTION
    if known.exists() and known.read_text(encoding="utf-8") != to_toml(experiment):
        raise ValueError(
            f"{out} holds another experiment, described in {known}. Choose another "
            "directory with --out, or remove this one."
        )
    if resume:
        return
    if (out / TRAJECTORY).is_dir():
        page = out / REPORT
        report = f"Its report is {page}" if page.exists() else "It has no report"
        raise ValueError(
            f"{out} already holds this run, finished. {report}; `ntkflow report {out}` "
            "writes it again. To run it once more, choose another directory with --out."
        )
    if (out / CHECKPOINT).is_dir():
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
    for name in (TRAJECTORY, CHECKPOINT):
        if (out / name).is_dir():
            return Trajectory.load(out / name)
    return Trajectory.load(out)


def report_path(out: str | Path) -> Path:
    """Where the report of a run belongs.

    Args:
        out: What `load_results` was given.

    Returns:
        A file in the directory of the experiment, or beside a saved trajectory, which
        is a store that other files have no place in.
    """
    out = Path(out).absolute()
    if any((out / name).is_dir() for name in (TRAJECTORY, CHECKPOINT)):
        return out / REPORT
    if out.name in {TRAJECTORY, CHECKPOINT}:
        return out.parent / REPORT
    return out.parent / f"{out.stem}-{REPORT}"
