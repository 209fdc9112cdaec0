"""The error of a step's interpolation, where a save time reads it.

A step is refused by the error at its end. Inside it the solution is an interpolation,
whose error may be of a lower order: then the tighter the tolerance, the further a save
time is off between steps that are right. What is estimated here is added to the error
at the end, so that such a step is refused, too.
"""

from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax import lax
from jaxtyping import Array, PyTree

from .._types import BoolScalar, IntScalar

_NODES = (0.25, 0.75)
"""Where in the step the slope of the interpolation is compared with the field."""

_WEIGHT = 1 / 3
"""Largest error of an interpolation over the sum of its slope's errors at the nodes.

It agrees with state and slope at both ends, so that its error is θ²(1 − θ)² times a
constant, for which the ratio is 1/6, or times θ − 1/2, for which it is 0.38.
"""


def estimate_inside(
    solver: dfx.AbstractSolver,
    step: tuple[Any, Any, Any, Any],
    error: PyTree[Array],
    dense_info: dict[str, Any],
    wanted: BoolScalar,
) -> tuple[PyTree[Array], IntScalar]:
    """The error of a step with that of its interpolation, for methods without damping.

    An explicit method takes no step in which the field amplifies errors by more than
    a few times, so that the slope's error times the step is that of the state.

    Args:
        solver: An explicit Runge–Kutta method.
        step: The vector field, start and end of the step, and the field's arguments.
        error: Estimate of the error at its end.
        dense_info: What the solver's interpolation is made of.
        wanted: Whether the inside of the step is read; if not, nothing is evaluated.

    Returns:
        The estimate, and the evaluations of the field it took.

    Verified by:
        tests/solvers/test_inside.py::test_estimate_is_of_the_size_of_the_error_inside
    """
    terms, t0, t1, args = step
    inside = solver.interpolation_cls(t0=t0, t1=t1, **dense_info)
    control, nodes = terms.contr(t0, t1), jnp.asarray(_NODES, jnp.result_type(t0))

    def defect(i: IntScalar) -> PyTree[Array]:
        t = t0 + nodes[i] * (t1 - t0)
        y, slope = jax.jvp(inside.evaluate, (t,), (t1 - t0,))
        rate = terms.prod(terms.vf(t, y, args), control)
        return jtu.tree_map(lambda a, b: _WEIGHT * (a - b.astype(a.dtype)), slope, rate)

    # A loop of no rounds costs nothing, in an ensemble either, as a condition would.
    rounds = jnp.where(wanted, len(_NODES), 0)
    none = jtu.tree_map(jnp.zeros_like, error)
    found = lax.fori_loop(
        0, rounds, lambda i, found: add_unsigned(found, defect(i)), none
    )
    return add_unsigned(error, found), rounds


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
