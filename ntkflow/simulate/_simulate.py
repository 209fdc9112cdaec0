"""`simulate`: a problem, flows and save times in; a trajectory out."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import diffrax as dfx
import numpy as np
from jaxtyping import ArrayLike

from .._progress import Progress
from .._types import Number, SolverName
from ..flows import AbstractFlow, Coupled, kind_of, with_arrays
from ..measures import (
    AbstractMeasure,
    check_affordable,
    collect_variables,
    default_measures,
)
from ..problem import Problem
from ._compiling import CompileClock
from ._derivatives import check_derivatives, find_obstacles, takes_forward
from ._ensemble import as_lanes, check_events, check_numbers
from ._events import AbstractEvent
from ._going_on import telling_how_to_go_on
from ._growth import growth_warning
from ._judge import ALLOWED, accuracy_warning
from ._kinks import find_kinks
from ._plan import (
    check_kinds,
    check_times,
    complete_flows,
    default_flows,
    plan_solves,
)
from ._request import Request
from ._run import Run
from ._segment_record import SegmentRecord
from ._tolerance import check_tolerances
from ._trajectory import Trajectory
from ._updates import check_updates


class SimulationError(RuntimeError):
    """A simulation ended before it should have.

    Attributes:
        trajectory: Everything computed before.
    """

    def __init__(self, message: str, trajectory: Trajectory):
        super().__init__(message)
        self.trajectory = trajectory


def log_times(first: Number, last: Number, count: int) -> np.ndarray:
    """Save times evenly spaced in the logarithm.

    Modes of a kernel decay at rates that span decades, so a run is read best on a
    logarithmic time axis.

    Args:
        first: First save time, positive.
        last: Last save time.
        count: How many, at least two.

    Returns:
        The times.

    Raises:
        ValueError: If they are not positive and increasing.
    """
    first, last = float(first), float(last)
    if not (0 < first < last and count >= 2):
        raise ValueError(
            "log_times needs 0 < first < last and at least two times; got "
            f"first={first}, last={last}, count={count}."
        )
    times = np.geomspace(first, last, count)
    times[0], times[-1] = first, last
    return times


def simulate(
    problem: Problem,
    ts: ArrayLike | Sequence[float | int],
    *,
    flows: Sequence[AbstractFlow] | None = None,
    measures: Sequence[AbstractMeasure] | None = None,
    solver: SolverName | dfx.AbstractSolver | Mapping[str, Any] = "auto",
    controller: dfx.AbstractStepSizeController | None = None,
    dt0: float | int | None = None,
    rtol: float | int = 1e-4,
    atol: float | int = 1e-6,
    events: Sequence[AbstractEvent] = (),
    checkpoint: str | Path | None = None,
    segment_steps: int = 256,
    resume: bool = False,
    ensemble: Any = None,
    progress: bool = True,
    throw: bool = True,
    max_steps: int = 1_000_000,
    dense: bool = False,
    global_error: bool = True,
    on_segment: Callable[[SegmentRecord], object] | None = None,
) -> Trajectory:
    """Integrates training time: the flows side by side, read at the save times.

    Flows with the same solver are one coupled system, solved together; the error norm
    is the largest over flows. Flows given solvers of their own are separate solves on
    the same save times, merged into one dataset.

    Args:
        problem: Model, data and loss.
        ts: Save times, increasing, from t ≥ 0; integration starts at t = 0. Units: step
            size of gradient descent times number of steps.
        flows: The flows; by default the network, the residual equation with the
            evolving and with the frozen kernel, and the linearized model. What they
            run along is added behind them.
        measures: What to read off the first parameter flow of `flows`; by default
            `nf.measures.default_measures`.
        solver: `"auto"`, a diffrax solver, or a mapping from flow names to these;
            `nf.flows.Descent` makes its own updates in any case.
        controller: A diffrax step-size controller; by default adaptive to `rtol`,
            `atol`.
        dt0: The first step; the only one with `diffrax.ConstantStepSize()`.
        rtol: Relative tolerance of a step.
        atol: Absolute tolerance of a step.
        events: Stop conditions on the same flow. The stop is saved as the last time,
            with the coordinate `stopped` true; save times after it are absent. Flows
            with solvers of their own, and estimated errors, are NaN at it. Members of
            an ensemble end at their own stops, told by the coordinate `stop_time`; they
            are NaN at save times behind it, and `run.model` has each at its own end.
        checkpoint: A directory to keep the run in while it goes on. A run that it holds
            is extended by `resume=True` and `ts` with later times behind the old ones;
            the result is that of one run to the later end.
        segment_steps: Steps between two reports, and two checkpoints. Results do not
            depend on it.
        resume: Whether to go on with the run that `checkpoint` holds.
        ensemble: Models stacked on a leading axis, as `equinox.filter_vmap` of a
            model's constructor over keys returns them; integrated together, in place
            of the problem's own model. Members may differ in the scale of `Scaled`, and
            in a learning rate, momentum or damping that is a vector of one a member.
            `run.member(i)` is one of them as a run of its own.
        progress: Whether to report on standard error.
        throw: Whether a numerical failure raises at the end.
        max_steps: Steps after which a solve gives up.
        dense: Whether to keep dense output for `Trajectory.evaluate`; its memory grows
            with the number of steps.
        global_error: Whether to estimate the error of the outputs at every save time,
            by a companion run at a looser tolerance, at some 60 % more work. With
            `solver="auto"` a solve that misses three tolerances is repeated at a
            tighter one; a solver of the caller's, held to `rtol` and `atol`, and a
            model with kinks, as of ReLU, end with the reason `ACCURACY`.
        on_segment: Called with a `SegmentRecord` at the end of every segment of the
            run, for loggers. What it raises ends the run, once that is in the
            checkpoint.

    Returns:
        The trajectory.

    Raises:
        ValueError: If something asked for cannot be done; before any heavy work.
        SimulationError: If integration failed and `throw` is on; what was computed is
            in its `trajectory`, and in the checkpoint.

    In the main thread of a script, SIGTERM (from SLURM or docker) ends the process with
    status 143 and says how to go on, unless the script handles it. A full disk is one
    `DiskFullError`, and what the checkpoint held is kept.

    Verified by:
        tests/simulate/test_simulate.py::test_evolving_residual_equals_that_of_the_network
    """
    check_kinds(problem, flows, measures)
    rtol, atol, dt0 = float(rtol), float(atol), None if dt0 is None else float(dt0)
    check_tolerances(rtol, atol, problem.dtype)
    times = check_times(ts, problem.dtype)
    _check_counts(segment_steps=segment_steps, max_steps=max_steps)
    check_switches(dense=dense, resume=resume, progress=progress)
    check_switches(throw=throw, global_error=global_error)
    if resume and checkpoint is None:
        raise ValueError("resume=True needs checkpoint=, the directory to resume from.")
    lanes = as_lanes(problem, ensemble)
    asked = default_flows() if flows is None else tuple(flows)
    obstacles = find_obstacles(problem)
    forward = obstacles.forward is None
    if measures is None:
        measures = _measures_for(problem, complete_flows(asked, ()), forward=forward)
    collect_variables(measures, problem)
    all_flows = with_arrays(complete_flows(asked, measures), problem.dtype)
    check_numbers(all_flows, lanes)
    check_events(events, lanes, all_flows)
    cheap, costly = _by_cost(events)
    planned = plan_solves(
        all_flows,
        problem,
        solver=solver,
        controller=controller,
        dt0=dt0,
        rtol=rtol,
        atol=atol,
        events=cheap,
        dense_steps=segment_steps if dense else 0,
        forward=forward,
    )
    check_derivatives(obstacles, planned, measures)
    check_updates(planned, problem, float(times[-1]), costly)
    announcement = check_affordable(measures, problem, len(times))
    request = Request(
        problem=problem,
        lanes=lanes,
        times=times,
        flows=tuple(all_flows),
        planned=planned,
        measures=tuple(measures),
        costly=tuple(costly),
        rtol=rtol,
        atol=atol,
        segment_steps=segment_steps,
        max_steps=max_steps,
        dense=dense,
        global_error=global_error,
    )
    going_on = telling_how_to_go_on(checkpoint)
    with going_on, Progress(enabled=progress) as line, CompileClock() as compiling:
        _announce(announcement, costly, line, kinks=find_kinks(problem).loss)
        run = Run(request, checkpoint, line, compiling, resume=resume)
        trajectory = run.finish(on_segment)
    _warn(line, trajectory, rtol, held=any(one.held for one in planned))
    if throw and trajectory.reason.failed:
        raise SimulationError(_what_failed(trajectory, times, checkpoint), trajectory)
    return trajectory


def _warn(line: Progress, trajectory: Trajectory, rtol: float, *, held: bool) -> None:
    """Tells what is known of the accuracy of a run, if it is something to warn of."""
    stats = trajectory.stats
    said = growth_warning(stats["error_growth"], stats["error_growth_at"], rtol)
    over, at = stats["error_over_tolerance"], stats["error_over_tolerance_at"]
    if over is not None and held:
        said = accuracy_warning(over, at, said) if over > ALLOWED else ""
    if said and not trajectory.reason.failed:
        line.warn(said)


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")


def check_switches(**switches: Any) -> None:
    """Refuses what is neither True nor False.

    Args:
        switches: Values by their names.

    Raises:
        ValueError: If one is of another kind.
    """
    for name, value in switches.items():
        # A text such as "no" would count as yes.
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"{name} must be True or False, got {value!r}.")


def _by_cost(
    events: Sequence[AbstractEvent],
) -> tuple[list[AbstractEvent], list[AbstractEvent]]:
    """The stop conditions that are read at every step, and those that are not."""
    cheap = [event for event in events if not event.costly]
    return cheap, [event for event in events if event.costly]


def _announce(
    cost: str, costly: Sequence[AbstractEvent], line: Progress, *, kinks: bool
) -> None:
    line.say(cost)
    if kinks:
        line.say(
            "The loss has kinks or choices in the outputs: a flow that slides along a "
            "kink is as right as its estimated error says, not as rtol."
        )
    if costly:
        line.say(
            f"{type(costly[0]).__name__} is costly: it is read at the save times, "
            "then located with about ten more readings."
        )


def _what_failed(
    trajectory: Trajectory, times: np.ndarray, checkpoint: str | Path | None
) -> str:
    kept = "" if checkpoint is None else f" Everything before is in {checkpoint}."
    stats = trajectory.stats
    return (
        f"Integration ended at t = {stats['t_reached']:g} of {times[-1]:g}: "
        f"{stats['failure']}{kept}"
    )


def _measures_for(
    problem: Problem, flows: Sequence[AbstractFlow], *, forward: bool
) -> Sequence[AbstractMeasure]:
    if not Coupled(tuple(flows)).parameter_flows:
        return ()
    found = default_measures(problem, [kind_of(flow) for flow in flows])
    return [measure for measure in found if forward or not takes_forward(measure)]
