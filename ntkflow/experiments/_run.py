"""Running an experiment: everything it leaves in its directory."""

from pathlib import Path

from ..simulate import LossBelow, Trajectory, log_times, simulate
from ..storage import write_text
from ._build import build_flows, build_measures, build_problem
from ._description import Experiment
from ._directory import (
    CHECKPOINT,
    DESCRIPTION,
    TRAJECTORY,
    check_directory,
    load_results,
)
from ._write import to_toml


def run_experiment(
    experiment: Experiment,
    out: str | Path,
    *,
    name: str = "experiment",
    resume: bool = False,
    progress: bool = True,
) -> Trajectory:
    """Simulates an experiment and saves it.

    The directory receives `experiment.toml`, the complete description; `checkpoint`,
    readable at every moment; and at the end `trajectory.zarr`.

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
    check_directory(experiment, out, resume=resume)
    if (out / TRAJECTORY).is_dir():
        return load_results(out)
    simulation = experiment.simulation
    problem = build_problem(experiment)
    stop = simulation.stop_loss
    write_text(out / DESCRIPTION, to_toml(experiment))
    trajectory = simulate(
        problem,
        log_times(simulation.t_first, simulation.t_last, simulation.n_times),
        flows=build_flows(simulation),
        measures=build_measures(simulation),
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
    trajectory.dataset.attrs |= {"experiment": name, "title": experiment.title}
    trajectory.save(out / TRAJECTORY)
    return trajectory
