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

from .._precision import at_full_precision
from ..problem import Problem

_BENDING: Final = frozenset({
    "abs",
    "ceil",
    "clamp",
    "cummax",
    "cummin",
    "eq",
    "floor",
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
    "rem",
    "round",
    "sign",
    "sort",
    "top_k",
})
"""Functions with kinks or jumps, and comparisons, which choose between two others."""

_SHIFTS: Final = frozenset({"max", "reduce_max"})
"""Held constant, they are what softmax subtracts, on which nothing depends."""

_LOOPS: Final = frozenset({"scan", "while"})


# Read while it is traced, which JAX does once for all problems of the same shapes.
@eqx.filter_jit
@at_full_precision
def has_kinks(problem: Problem) -> bool:
    """Whether the outputs have kinks as functions of the trained parameters.

    A function that is smooth though written with a maximum, such as softplus or a
    variance that is kept from being negative, counts as having them; a program with
    loops over what moves, such as a solve in depth, whose own comparisons are many, as
    having none.

    Args:
        problem: The problem.

    Returns:
        The answer.

    Verified by: tests/simulate/test_kinks.py::test_kinks_are_found
    """
    one = problem.x[:1]
    traced = jax.make_jaxpr(problem.outputs)(problem.params, one)
    n_params = len(jax.tree.leaves(problem.params))
    search = _Search()
    search.visit(traced.jaxpr, [i < n_params for i in range(len(traced.jaxpr.invars))])
    return search.kinks and not search.loops


class _Search:
    """Follows what moves with the parameters through a jaxpr and what it calls."""

    def __init__(self) -> None:
        self.kinks = self.loops = False

    def visit(self, jaxpr: jex.Jaxpr, moving: Sequence[bool]) -> list[bool]:
        """Which results move, given which inputs do."""
        moves = dict(zip(jaxpr.invars, moving, strict=True))
        needed, held = _used(jaxpr)

        def is_moving(atom: Any) -> bool:
            return not isinstance(atom, jex.Literal) and moves.get(atom, False)

        for equation in jaxpr.eqns:
            inputs = [is_moving(atom) for atom in equation.invars]
            outputs = [any(inputs)] * len(equation.outvars)
            name = equation.primitive.name
            if any(inputs) and any(out in needed for out in equation.outvars):
                shift = name in _SHIFTS and all(out in held for out in equation.outvars)
                self.kinks |= name in _BENDING and not shift
                self.loops |= name in _LOOPS
                outputs = self._enter(equation, inputs) or outputs
            moves.update(zip(equation.outvars, outputs, strict=True))
        return [is_moving(atom) for atom in jaxpr.outvars]

    def _enter(self, equation: jex.JaxprEqn, inputs: list[bool]) -> list[bool]:
        """Which results of a call or a choice move; none if it is neither."""
        if equation.primitive.name in _LOOPS:
            return []
        if equation.primitive.name == "cond":
            # What chooses between branches is a comparison, and counted where it is.
            inputs = inputs[1:]
        inner = list(jex.jaxprs_in_params(equation.params))
        found = [self.visit(one, inputs) for one in inner if _fits(one, inputs)]
        return [any(moves) for moves in zip(*found, strict=True)]


def _fits(jaxpr: jex.Jaxpr, inputs: list[bool]) -> bool:
    return len(jaxpr.invars) == len(inputs)


def _used(jaxpr: jex.Jaxpr) -> tuple[set[Any], set[Any]]:
    """The variables the outputs depend on, and those of them that are held constant."""
    needed = {atom for atom in jaxpr.outvars if not isinstance(atom, jex.Literal)}
    free = set(needed)
    for equation in reversed(jaxpr.eqns):
        inputs = [atom for atom in equation.invars if not isinstance(atom, jex.Literal)]
        if any(out in needed for out in equation.outvars):
            needed.update(inputs)
        stopped = equation.primitive.name == "stop_gradient"
        if not stopped and any(out in free for out in equation.outvars):
            free.update(inputs)
    return needed, needed - free
