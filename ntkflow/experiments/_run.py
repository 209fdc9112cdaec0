"""Running an experiment: everything it leaves in its directory."""

from pathlib import Path

from .._progress import Progress
from ..simulate import LossBelow, Trajectory, log_times, simulate
from ._build import build_problem
from ._build_simulation import build_flows, build_measures, build_solver
from ._description import Experiment
from ._directory import CHECKPOINT, TRAJECTORY, claim_directory, load_results
from ._write import description_attrs


def run_experiment(
    experiment: Experiment,
    out: str | Path,
    *,
    name: str = "experiment",
    resume: bool = False,
    progress: bool = True,
) -> Trajectory:
    """Simulates an experiment and saves it.

    The directory receives `experiment.toml`, the complete description, before anything
    else, and takes no other experiment from then on; `checkpoint`, readable at every
    moment; and at the end `trajectory.zarr`, whose attribute `description` is the
    complete description again.

    Args:
        experiment: The description.
        out: The directory.
        name: Name of the experiment, kept among the results' attributes.
        resume: Whether to go on with a run that the directory holds; one that has
            finished is read.
        progress: Whether to report on standard error.

    Returns:
        The trajectory; a numerical failure is in its `reason`.

    Raises:
        ValueError: If the directory cannot take the run, or something asked for cannot
            be done.
    """  # ruff: ignore[docstring-extraneous-exception]
    out = Path(out)
    with claim_directory(experiment, out, resume=resume):
        Progress(enabled=progress).say(f"{experiment.title}. Results: {out}")
        if (out / TRAJECTORY).is_dir():
            return load_results(out)
        trajectory = _simulate(experiment, out, resume=resume, progress=progress)
        trajectory.dataset.attrs["experiment"] = name
        trajectory.dataset.attrs |= description_attrs(experiment)
        trajectory.save(out / TRAJECTORY)
        return trajectory


def _simulate(
    experiment: Experiment, out: Path, *, resume: bool, progress: bool
) -> Trajectory:
    simulation = experiment.simulation
    problem = build_problem(experiment)
    stop = simulation.stop_loss
    return simulate(
        problem,
        log_times(simulation.t_first, simulation.t_last, simulation.n_times),
        flows=build_flows(experiment, problem.n_examples),
        measures=build_measures(simulation),
        solver=build_solver(experiment.solver),
        rtol=simulation.rtol,
        atol=simulation.atol,
        events=[LossBelow(stop)] if stop > 0 else [],
        max_steps=simulation.max_steps,
        segment_steps=simulation.segment_steps,
        global_error=simulation.global_error,
        checkpoint=out / CHECKPOINT,
        resume=resume,
        progress=progress,
        throw=False,
    )
