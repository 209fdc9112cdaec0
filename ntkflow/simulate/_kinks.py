"""Whether a model's outputs have kinks in its parameters, as those of ReLU networks do.

Read off the program that JAX writes the model down as. Where a neuron changes sign the
velocity of training jumps, no step of high order passes the place, and the estimate of
an error misses most of it.
"""

from collections.abc import Sequence
from typing import Any, Final

import equinox as eqx
import jax
import jax.extend.core as jex

from ..problem import Problem

_BENDING: Final = frozenset({
    "abs",
    "clamp",
    "eq",
    "ge",
    "gt",
    "le",
    "lt",
    "max",
    "min",
    "ne",
    "reduce_max",
    "reduce_min",
    "reduce_window_max",
    "reduce_window_min",
    "sign",
    "sort",
})
"""Functions with kinks, and comparisons, which choose between two others."""

_LOOPS: Final = frozenset({"scan", "while"})


# Read while it is traced, which JAX does once for all problems of the same shapes.
@eqx.filter_jit
def has_kinks(problem: Problem) -> bool:
    """Whether the outputs have kinks as functions of the trained parameters.

    A function that is smooth though written with a maximum, such as softplus, counts as
    having them; a program with loops, such as a solve in depth, whose own comparisons
    are many, as having none.

    Args:
        problem: The problem.

    Returns:
        The answer.

    Verified by: tests/simulate/test_kinks.py::test_kinks_are_found
    """
    one = problem.x[:1]
    traced = jax.make_jaxpr(problem.outputs)(problem.params, one)
    if _has_loops(traced.jaxpr):
        return False
    n_params = len(jax.tree.leaves(problem.params))
    moving = [i < n_params for i in range(len(traced.jaxpr.invars))]
    return _visit(traced.jaxpr, moving)[0]


def _has_loops(jaxpr: jex.Jaxpr) -> bool:
    return any(
        equation.primitive.name in _LOOPS
        or any(map(_has_loops, jex.jaxprs_in_params(equation.params)))
        for equation in jaxpr.eqns
    )


def _visit(jaxpr: jex.Jaxpr, moving: Sequence[bool]) -> tuple[bool, list[bool]]:
    """Whether there are kinks, and which outputs move with the parameters."""
    moves = dict(zip(jaxpr.invars, moving, strict=True))
    needed = _differentiated(jaxpr)

    def is_moving(atom: Any) -> bool:
        return not isinstance(atom, jex.Literal) and moves.get(atom, False)

    for equation in jaxpr.eqns:
        inputs = [is_moving(atom) for atom in equation.invars]
        outputs = [any(inputs)] * len(equation.outvars)
        name = equation.primitive.name
        matters = any(inputs) and any(out in needed for out in equation.outvars)
        if matters and name in _BENDING:
            return True, []
        inner = list(jex.jaxprs_in_params(equation.params))
        if matters and len(inner) == 1 and len(inner[0].invars) == len(inputs):
            found, outputs = _visit(inner[0], inputs)
            if found:
                return True, []
        moves.update(zip(equation.outvars, outputs, strict=True))
    return False, [is_moving(atom) for atom in jaxpr.outvars]


def _differentiated(jaxpr: jex.Jaxpr) -> set[Any]:
    """The variables on whose values the outputs depend by more than a held constant."""
    needed = {atom for atom in jaxpr.outvars if not isinstance(atom, jex.Literal)}
    for equation in reversed(jaxpr.eqns):
        held = equation.primitive.name == "stop_gradient"
        if not held and any(out in needed for out in equation.outvars):
            needed.update(
                atom for atom in equation.invars if not isinstance(atom, jex.Literal)
            )
    return needed
