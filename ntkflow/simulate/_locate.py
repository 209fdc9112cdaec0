"""Locating a costly stop condition between two save times."""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from scipy.optimize import root_scalar

from .._precision import at_full_precision
from .._types import Params
from ..flows import Packed
from ..problem import Problem
from ._complex_data import diffeqsolve
from ._events import AbstractEvent
from ._solve import Solve


@eqx.filter_jit
@at_full_precision
def _state_at(
    solve: Solve,
    problem: Problem,
    constants: Any,
    y0: Any,
    t0: Any,
    t1: Any,
    event: AbstractEvent,
    reference: Any,
) -> tuple[Any, Packed]:
    """The event's value and the state at `t1`, integrated from that saved at `t0`."""
    solution = diffeqsolve(
        solve.terms(problem, constants),
        solve.solver,
        t0=t0,
        t1=t1,
        dt0=solve.dt0,
        y0=y0,
        stepsize_controller=solve.stepping(problem, constants),
        adjoint=dfx.ForwardMode(),
        max_steps=None,
    )
    assert solution.ys is not None
    last = jtu.tree_map(lambda leaf: leaf[-1], solution.ys)
    return event.value(problem, _params(solve, problem, last), reference), last


@at_full_precision
def locate(
    solve: Solve,
    problem: Problem,
    constants: Any,
    before: tuple[float, Any],
    after: float,
    event: AbstractEvent,
    reference: Any,
    rtol: float,
) -> tuple[float, Packed]:
    """The time at which a costly condition is met, by Brent's method, and the state.

    Args:
        solve: The solve.
        problem: The problem.
        constants: From `Coupled.prepare`.
        before: A save time at which the condition does not hold yet, and its state.
        after: A later one at which it does.
        event: The condition.
        reference: What it compares with.
        rtol: Relative tolerance on the time.

    Returns:
        The time, and the coupled state at it.
    """
    start, state = before

    def at(t: float) -> tuple[Any, Packed]:
        if t <= start:
            params = _params(solve, problem, state)
            return event.value(problem, params, reference), state
        t0, t1 = jnp.asarray(start, problem.dtype), jnp.asarray(t, problem.dtype)
        return _state_at(solve, problem, constants, state, t0, t1, event, reference)

    def value(t: float) -> float:
        return float(at(t)[0])

    found = root_scalar(
        value, bracket=(start, after), method="brentq", xtol=rtol * after
    )
    stop = float(found.root)
    return stop, at(stop)[1]


def _params(solve: Solve, problem: Problem, packed: Packed) -> Params:
    flow = solve.coupled.parameter_flows[0]
    return flow.params(solve.coupled.unpack(packed, problem)[flow.name])
