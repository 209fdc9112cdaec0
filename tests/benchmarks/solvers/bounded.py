"""One training integrated within a limit of time."""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import ntkflow as nf

_FIRST = 4
"""Steps of the first attempt: it compiles, and tells the pace when repeated."""

_MOST = 10**8
_GROWTH = (1.2, 16.0)
"""How many times as many steps the next attempt may take; one more is not made for
less."""


class Bounded(NamedTuple):
    """A run that ended, or was stopped for want of time.

    Attributes:
        run: The trajectory.
        again: Does the same once more.
        cold: Wall seconds of the first attempt, which compiled.
        warm: Those of the same few steps again.
        wall: Those of the last attempt, `run`.
        cpu: Its CPU seconds.
    """

    run: nf.Trajectory
    again: Callable[[], nf.Trajectory]
    cold: float
    warm: float
    wall: float
    cpu: float


def integrate(
    problem: nf.Problem, ts: np.ndarray, solver: Any, rtol: float, max_steps: int
) -> nf.Trajectory:
    """The gradient flow, outputs alone being read.

    Args:
        problem: The problem.
        ts: Save times.
        solver: A solver, or "auto".
        rtol: Relative tolerance; the absolute one is a hundredth of it.
        max_steps: Steps after which it gives up.

    Returns:
        The run, failed or not.
    """
    return nf.simulate(
        problem,
        ts,
        flows=[nf.flows.Gradient()],
        measures=(),
        solver=solver,
        rtol=rtol,
        atol=1e-2 * rtol,
        max_steps=max_steps,
        progress=False,
        throw=False,
    )


def timed(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """Calls a function once.

    Args:
        function: The function.

    Returns:
        What it returned, and its wall and CPU seconds.
    """
    cpu, wall = time.process_time(), time.perf_counter()
    found = function()
    return found, time.perf_counter() - wall, time.process_time() - cpu


def within(
    problem: nf.Problem, ts: np.ndarray, solver: Any, rtol: float, limit: float
) -> Bounded:
    """Integrates with ever more steps, until the end or about the limit is reached.

    The number of steps is raised geometrically, at the pace of the attempt before, so
    that a run that is too long is stopped after about `limit` seconds and all attempts
    together take some twice as long. Steps that become dearer overshoot it.

    Args:
        problem: The problem.
        ts: Save times.
        solver: A solver, or "auto".
        rtol: Relative tolerance.
        limit: Wall seconds.

    Returns:
        The last attempt, compiled before it began.
    """
    steps = _FIRST

    def attempt() -> nf.Trajectory:
        return integrate(problem, ts, solver, rtol, steps)

    _, cold, _ = timed(attempt)
    run, wall, cpu = timed(attempt)
    warm = wall
    while run.reason is nf.Reason.MAX_STEPS and wall < limit / _GROWTH[0]:
        growth = np.clip(limit / wall, *_GROWTH)
        steps = min(math.ceil(growth * steps), _MOST)
        run, wall, cpu = timed(attempt)
    if solver == "auto":
        # It may have compiled a solver that the attempts before did not come to.
        run, wall, cpu = timed(attempt)
    return Bounded(run, attempt, cold, warm, wall, cpu)
