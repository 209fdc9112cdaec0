"""The error of a step's interpolation, where a save time reads it.

A step is refused by the error at its end. Inside it the solution is an interpolation,
whose error may be of a lower order: then the tighter the tolerance, the further a save
time is off between steps that are right. What is estimated here counts beside the error
at the end, so that such a step is refused, too.
"""

from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax import lax
from jaxtyping import Array, Float, PyTree

from .._types import IntScalar, Scalar

_NODES = (0.25, 0.75)
"""Where in the step the slope of the interpolation is compared with the field."""

_EVEN, _ODD = 1 / 6, 0.384
"""Largest error of an interpolation over the difference and the sum of its slope's
errors at the nodes.

It agrees with state and slope at both ends, so that its error is θ²(1 − θ)² times
a + b(θ − 1/2). The difference of the slopes' errors is 3a/8, their sum −3b/128.
"""


def estimate_inside(
    solver: dfx.AbstractSolver,
    step: tuple[Any, Any, Any, Any],
    y0: PyTree[Array],
    dense_info: dict[str, Any],
    read: Float[Array, " W"] | None,
) -> tuple[PyTree[Array], IntScalar]:
    """The error of a step's interpolation, for methods without damping.

    An explicit method takes no step in which the field amplifies errors by more than
    a few times, so that the slope's error times the step is that of the state.

    Args:
        solver: An explicit Runge–Kutta method.
        step: The vector field, start and end of the step, and the field's arguments.
        y0: The state at its start.
        dense_info: What the solver's interpolation is made of.
        read: The times that are read, in any step; if none lies inside this one,
            nothing is evaluated. None stands for all times.

    Returns:
        The estimate, and the evaluations of the field it took.

    Verified by:
        tests/solvers/test_inside.py::test_estimate_is_of_the_size_of_the_error_inside
    """
    terms, t0, t1, args = step
    inside = solver.interpolation_cls(t0=t0, t1=t1, **dense_info)
    control, nodes = terms.contr(t0, t1), jnp.asarray(_NODES, jnp.result_type(t0))
    even, odd = (_EVEN, _ODD) if read is None else _shares(read, t0, t1)

    def defect(i: IntScalar) -> PyTree[Array]:
        t = t0 + nodes[i] * (t1 - t0)
        y, slope = jax.jvp(inside.evaluate, (t,), (t1 - t0,))
        rate = terms.prod(terms.vf(t, y, args), control)
        return jtu.tree_map(lambda a, b: a - b.astype(a.dtype), slope, rate)

    def gather(i: IntScalar, found: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        at, sign = defect(i), 1 - 2 * i
        difference = jtu.tree_map(lambda a, b: a + sign * even * b, found[0], at)
        return difference, jtu.tree_map(lambda a, b: a + odd * b, found[1], at)

    # A loop of no rounds costs nothing, in an ensemble either, as a condition would.
    rounds = jnp.where(even > 0, len(_NODES), 0)
    none = jtu.tree_map(jnp.zeros_like, y0)
    found = lax.fori_loop(0, rounds, gather, (none, none))
    return add_unsigned(*found), rounds


def _shares(read: Float[Array, " W"], t0: Any, t1: Any) -> tuple[Scalar, Scalar]:
    """As `_EVEN` and `_ODD`, at the worst of the times that are read."""
    at = jnp.clip((read - t0) / (t1 - t0), 0, 1)
    at = jnp.where(jnp.isnan(at), 0, at)
    bell = (at * (1 - at)) ** 2
    even = 16 * _EVEN * jnp.max(bell, initial=0.0)
    odd = 128 / 3 * jnp.max(bell * jnp.abs(at - 0.5), initial=0.0)
    return even, odd


def add_unsigned(error: PyTree[Array], other: PyTree[Array]) -> PyTree[Array]:
    """The sum of two errors whose signs are not known, so that neither hides the other.

    Args:
        error: An error, an array a flow.
        other: Another.

    Returns:
        Of each flow their sum or difference, whichever is larger.
    """

    def total(a: Array, b: Array) -> Array:
        return jnp.where(jnp.sum(a * b) < 0, a - b, a + b)

    return jtu.tree_map(total, error, other)
