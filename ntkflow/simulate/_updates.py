"""What discrete training asks of a run, checked before anything heavy."""

import math
from collections.abc import Sequence

import numpy as np

from ..flows import Coupled, Descent
from ..problem import Problem
from ..solvers import MAX_UPDATES_EPS, EqualSteps
from ._events import AbstractEvent
from ._plan import PlannedSolve


def check_updates(
    planned: Sequence[PlannedSolve],
    problem: Problem,
    end: float,
    events: Sequence[AbstractEvent],
) -> None:
    """Refuses more updates than time can tell apart, and batches that do not suit.

    Args:
        planned: The solves.
        problem: The problem.
        end: The last save time.
        events: Stop conditions.

    Raises:
        ValueError: If a step is below the resolution of time, batches are too few or
            name no example, or a costly event would have to be located in descent.
    """
    for one in planned:
        solve, measured = one.solve, one.measured
        if not isinstance(solve.controller, EqualSteps):
            continue
        eps = float(np.finfo(problem.dtype).eps)
        length = float(np.min(solve.controller.length))
        # As many as the device makes: an end that is off by rounding is no update more.
        updates = math.ceil(end / length * (1 - 2 * eps))
        if updates * eps > MAX_UPDATES_EPS:
            raise ValueError(
                f"{updates:,} updates of {length:g} cannot be told apart on a time "
                f"axis of {problem.dtype} up to {end:g}, which resolves "
                f"{int(MAX_UPDATES_EPS / eps):,}: save up to an earlier time, or use a "
                "float64 model with jax.config.update('jax_enable_x64', True)."
            )
        _check_descent(solve.coupled, problem, updates)
        if (
            measured
            and events
            and isinstance(solve.coupled.parameter_flows[0], Descent)
        ):
            raise ValueError(
                f"{type(events[0]).__name__} is located between save times by "
                "integrating again from there, which discrete training cannot: put "
                "nf.flows.Gradient() before nf.flows.Descent(...) in flows."
            )


def _check_descent(coupled: Coupled, problem: Problem, updates: int) -> None:
    for flow in coupled.flows:
        if isinstance(flow, Descent):
            flow.check(problem, updates)
