"""How far a run is from the truth: its global error, from a companion run.

A tolerance bounds the error of a step. What all steps' errors come to depends on the
flow: where it is contractive they die out, on a plateau they grow with it. The only
measure of that which shares no assumption with the step-size control is another run.
Each solve is therefore accompanied by one at a much looser tolerance, of which the
outputs alone are read. Errors of a method fall about in proportion to its tolerance, so
most of the difference between the two is the companion's error, and a part of it that
of the run.

Tolerances form levels: level 1 is the one asked for, level 0 its companion's, thirty
times looser since that is cheaper by half, level 2 is ten times tighter. A run that is
not accurate enough at one level is repeated at the next, where what it has integrated
already becomes the companion.

Source: Shampine, L. F. (2005), "Error estimation and control for ODEs", Journal of
    Scientific Computing 25, on global error by reintegration.
Verified by:
    tests/simulate/test_accuracy.py::test_the_truth_is_within_three_estimates
    tests/simulate/test_accuracy.py::test_plateaus_are_left_at_the_right_time
"""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..solvers import EqualSteps
from ._checkpoint import FIRST_LEVEL
from ._plan import PlannedSolve
from ._solve import Solve
from ._tolerance import loosest

LAST_LEVEL = 8
"""The tightest level tried."""

_RATIO = 10.0
"""Tolerance of a level over that of the next."""

_FIRST_RATIO = 30.0
"""Tolerance of the first companion over that of the run."""

_LEAST_RATIO = 3.0
"""The least that it is, where a method is told not to be looser."""

_ROUNDINGS = 50
"""Units of rounding that the tolerance of a step is not below."""

_EXPONENT = 0.65
"""p, where errors are taken to fall as the tolerance to this power; in proportion would
be 1, and often they fall more slowly."""

_LOOSE_EXPONENT = 0.5
"""The same for a companion at the loosest tolerance of its method, where more than
errors bounds the steps."""

_COARSER = 2.0
"""Fixed step of a companion over that of the run."""

_STRETCH = 1.5
"""First step of a level over that of the next. What the controller proposes depends
little on the tolerance, and runs that begin alike would seem to make no error."""

_SLOWER = 0.3
"""Growth from step to step that a companion allows, over that of the run. Where their
controllers see no error at all, the two are then to take different steps."""


def factor_at(planned: PlannedSolve, level: int) -> float:
    """The tolerance of a level over the one asked for.

    Args:
        planned: The solve, at level 1.
        level: The level.

    Returns:
        A factor.
    """
    if level >= FIRST_LEVEL:
        return _RATIO ** (FIRST_LEVEL - level)
    ratio = _FIRST_RATIO
    for solve in (planned.solve, *planned.choices.values()):
        inner = _innermost(solve.controller)
        if isinstance(inner, dfx.PIDController):
            ratio = min(ratio, loosest(solve.solver) / float(inner.rtol))
    return max(ratio, _LEAST_RATIO)


def at_level(planned: PlannedSolve, level: int, dtype: Any) -> PlannedSolve:
    """The same solve at the tolerance of another level.

    Tolerances and lengths of steps become arrays, so that all levels, and runs of all
    tolerances, share one compiled program.

    Args:
        planned: The solve.
        level: The level.
        dtype: The dtype tolerances are computed in.

    Returns:
        The solve and its choices.
    """
    factor, stretch = factor_at(planned, level), _STRETCH ** (FIRST_LEVEL - level)
    slower = _SLOWER if level % 2 == 0 else 1.0
    return planned._replace(
        solve=_scaled(planned.solve, factor, stretch, slower, dtype),
        choices={
            name: _scaled(solve, factor, stretch, slower, dtype)
            for name, solve in planned.choices.items()
        },
    )


def companion_at(planned: PlannedSolve, level: int, dtype: Any) -> PlannedSolve:
    """The companion's solve: without stop conditions and dense output.

    Args:
        planned: The solve.
        level: The companion's level.
        dtype: The dtype tolerances are computed in.

    Returns:
        The solve and its choices.
    """

    def plain(solve: Solve) -> Solve:
        if isinstance(solve.controller, dfx.ConstantStepSize):
            assert solve.dt0 is not None
            solve = eqx.tree_at(lambda s: s.dt0, solve, _COARSER * solve.dt0)
        return Solve(
            solve.coupled, solve.solver, solve.controller, solve.dt0, (), 0, solve.rtol
        )

    choices = {name: plain(solve) for name, solve in planned.choices.items()}
    planned = planned._replace(solve=plain(planned.solve), choices=choices)
    return at_level(planned, level, dtype)


def is_estimated(solve: Solve) -> bool:
    """Whether a companion tells the error of a solve.

    Args:
        solve: The solve.

    Returns:
        False for discrete training, which has none, and for controllers whose tolerance
        is not known.
    """
    controller = solve.controller
    if isinstance(controller, dfx.ConstantStepSize):
        return solve.solver.order(None) is not None
    return isinstance(_innermost(controller), dfx.PIDController)


def is_exact(solve: Solve) -> bool:
    """Whether a solve makes no error: discrete training, which is what was asked for.

    Args:
        solve: The solve.

    Returns:
        Whether it does.
    """
    return isinstance(solve.controller, EqualSteps)


def can_tighten(planned: PlannedSolve, level: int, dtype: Any) -> bool:
    """Whether the next level is one that the dtype can hold.

    Args:
        planned: The solve, at level 1.
        level: The level of the run.
        dtype: The dtype of the state.

    Returns:
        Whether to try it.
    """
    solves = (planned.solve, *planned.choices.values())
    rtol = min(float(_innermost(solve.controller).rtol) for solve in solves)
    tightest = rtol * factor_at(planned, level + 1)
    return level < LAST_LEVEL and tightest >= _ROUNDINGS * float(np.finfo(dtype).eps)


def share_of(planned: PlannedSolve, level: int) -> float:
    """The difference between a companion and its run over the run's error.

    Args:
        planned: The solve, at level 1.
        level: The level of the run.

    Returns:
        A number of at least one.
    """
    solve = planned.solve
    if isinstance(solve.controller, dfx.ConstantStepSize):
        order = solve.solver.order(None)
        return max(_COARSER ** (order or 1) - 1, 1.0)
    ratio = factor_at(planned, level - 1) / factor_at(planned, level)
    loose = level == FIRST_LEVEL and ratio < _FIRST_RATIO
    return ratio ** (_LOOSE_EXPONENT if loose else _EXPONENT)


def _scaled(
    solve: Solve, factor: float, stretch: float, slower: float, dtype: Any
) -> Solve:
    if isinstance(solve.controller, dfx.ConstantStepSize):
        return eqx.tree_at(lambda s: s.dt0, solve, jnp.asarray(solve.dt0, dtype))
    if isinstance(solve.controller, EqualSteps):

        def lengths(solve: Any) -> tuple[Any, Any]:
            return solve.controller.length, solve.solver.learning_rate

        return eqx.tree_at(
            lengths, solve, [jnp.asarray(v, dtype) for v in lengths(solve)]
        )
    if not isinstance(_innermost(solve.controller), dfx.PIDController):
        return solve

    def numbers(solve: Solve) -> tuple[Any, ...]:
        inner = _innermost(solve.controller)
        return inner.rtol, inner.atol, inner.factormax, solve.stretch, solve.rtol

    rtol, atol, growth, _, asked = map(float, numbers(solve))
    growth = max(slower * growth, min(growth, 2.0))
    values = factor * rtol, factor * atol, growth, stretch, asked
    return eqx.tree_at(numbers, solve, [jnp.asarray(v, dtype) for v in values])


def _innermost(controller: Any) -> Any:
    while hasattr(controller, "controller"):
        controller = controller.controller
    return controller
