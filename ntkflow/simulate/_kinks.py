"""Kinks of a model in its parameters, as ReLU networks have, and of a loss in outputs.

Read off the program that JAX writes them down as. Where a neuron changes sign, or an
output reaches its target under the loss |f − y|, the velocity of training jumps, no
step of high order passes the place, and the estimate of an error misses most of it.

They differ in what comes after. The outputs' kinks are mostly crossed. A loss is often
least at its kinks, so that the velocities on both sides lead to them and the flow
slides along: there every step jumps.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, cast

import equinox as eqx
import jax
import jax.extend.core as jex
import jax.numpy as jnp

from .._equations import opened, parameters, programs
from .._precision import at_full_precision
from ..problem import Problem

_BENDING: Final = frozenset({
    "abs",
    "argmax",
    "argmin",
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

_SMOOTH: Final = frozenset({"logaddexp"})
"""Functions with a derivative of their own, smooth though written with a maximum."""

_SIGNS: Final = frozenset({"abs", "sign"})
"""Smooth where their argument has one sign."""

_POSITIVE: Final = frozenset({"exp", "exp2", "logistic"})

_VARIANCE: Final = "_var"
"""What JAX calls jnp.var, whose results are not negative."""

_KEEPING: Final = frozenset({
    "add",
    "broadcast_in_dim",
    "convert_element_type",
    "mul",
    "reduce_sum",
    "reshape",
    "squeeze",
})
"""Functions whose results are positive if all of their arguments are."""


class Kinks(NamedTuple):
    """Where velocities of training may jump.

    Attributes:
        model: Where the outputs have kinks as functions of the trained parameters.
        loss: Where the loss has kinks as a function of the outputs.
        loops: Where a loop over what moves compares numbers, for whatever reason.
    """

    model: bool
    loss: bool
    loops: bool

    @property
    def none(self) -> bool:
        """Whether velocities surely do not jump."""
        return not (self.model or self.loss or self.loops)


# Read while it is traced, which JAX does once for all problems of the same shapes.
@eqx.filter_jit
@at_full_precision
def find_kinks(problem: Problem) -> Kinks:
    """Whether the model and the loss have kinks, each by itself.

    A function that is smooth though written with a choice, such as the Huber loss,
    counts as having them; a program with loops over what moves, such as a solve in
    depth, whose own comparisons are many, as having none, with a note of its own.

    Args:
        problem: The problem.

    Returns:
        The answers.

    Verified by: tests/simulate/test_kinks.py::test_kinks_are_found,
        tests/simulate/test_kinks.py::test_kinks_of_the_loss_are_told_apart,
        tests/simulate/test_kinks.py::test_kinks_in_loops_are_told
    """
    outputs = jax.eval_shape(problem.outputs, problem.params, problem.x[:1])
    one = jax.ShapeDtypeStruct(outputs.shape[1:], outputs.dtype)
    model = _search(problem.outputs, problem.params, problem.x[:1])
    loss = _search(problem.loss, one, problem.y[0])
    return Kinks(
        model.kinks and not model.loops,
        loss.kinks and not loss.loops,
        model.compares or loss.compares,
    )


def _search(function: Callable[..., Any], moving: Any, fixed: Any) -> "_Search":
    """Looks for kinks of a function in the first of its two arguments."""
    jaxpr = jax.make_jaxpr(function)(moving, fixed).jaxpr
    count = len(jax.tree.leaves(moving))
    search = _Search()
    search.visit(jaxpr, [i < count for i in range(len(jaxpr.invars))])
    return search


class _Search:
    """Follows what moves with the parameters through a jaxpr and what it calls."""

    def __init__(self) -> None:
        self.kinks = self.loops = self.compares = False

    def visit(self, jaxpr: jex.Jaxpr, moving: Sequence[bool]) -> list[bool]:
        """Which results move, given which inputs do."""
        moves = dict(zip(jaxpr.invars, moving, strict=True))
        needed, held = _used(jaxpr)
        positive: set[Any] = set()

        def is_moving(atom: Any) -> bool:
            return not isinstance(atom, jex.Literal) and moves.get(atom, False)

        for equation in jaxpr.eqns:
            inputs = [is_moving(atom) for atom in equation.invars]
            outputs = [any(inputs)] * len(equation.outvars)
            name = equation.primitive.name
            known = _are_positive(equation, positive)
            if known and (name in _POSITIVE or name in _KEEPING or name == "max"):
                positive.update(equation.outvars)
            if parameters(equation).get("name") == _VARIANCE:
                positive.update(equation.outvars)
            if any(inputs) and any(out in needed for out in equation.outvars):
                shift = name in _SHIFTS and all(out in held for out in equation.outvars)
                plain = shift or (name in _SIGNS and known)
                plain |= name == "max" and _is_floor(equation, positive)
                self.kinks |= name in _BENDING and not plain
                self.loops |= name in _LOOPS
                self.compares |= name in _LOOPS and _compares(equation)
                outputs = self._enter(equation, inputs) or outputs
            moves.update(zip(equation.outvars, outputs, strict=True))
        return [is_moving(atom) for atom in jaxpr.outvars]

    def _enter(self, equation: jex.JaxprEqn, inputs: list[bool]) -> list[bool]:
        """Which results of a call or a choice move; none if it is neither."""
        if equation.primitive.name in _LOOPS or _is_smooth(equation):
            return []
        if equation.primitive.name == "cond":
            # What chooses between branches is a comparison, and counted where it is.
            inputs = inputs[1:]
        inner = list(programs(equation))
        found = [self.visit(one, inputs) for one in inner if _fits(one, inputs)]
        return [any(moves) for moves in zip(*found, strict=True)]


def _compares(equation: jex.JaxprEqn) -> bool:
    """Whether a loop has functions with kinks of real numbers, moving or not."""
    inner = [eqn for one in programs(equation) for eqn in one.eqns]
    return any(
        (eqn.primitive.name in _BENDING and _is_real(eqn)) or _compares(eqn)
        for eqn in inner
    )


def _is_real(equation: jex.JaxprEqn) -> bool:
    kinds = [cast(Any, atom.aval).dtype for atom in equation.invars]
    return any(jnp.issubdtype(kind, jnp.inexact) for kind in kinds)


def _is_smooth(equation: jex.JaxprEqn) -> bool:
    """Whether it calls a function that is known by its name, as JAX prints it."""
    called = parameters(equation).get("call_jaxpr")
    return called is not None and opened(called).debug_info.func_name in _SMOOTH


def _are_positive(equation: jex.JaxprEqn, positive: set[Any]) -> bool:
    """Whether exponentials are all it takes, or sums and products of these."""
    if equation.primitive.name in _POSITIVE:
        return True
    return all(
        bool(atom.val > 0) if isinstance(atom, jex.Literal) else atom in positive
        for atom in equation.invars
    )


def _is_floor(equation: jex.JaxprEqn, positive: set[Any]) -> bool:
    """Whether it is max(0, v) of what is not negative, as in equinox's LayerNorm."""
    numbers = [atom for atom in equation.invars if isinstance(atom, jex.Literal)]
    others = [atom for atom in equation.invars if not isinstance(atom, jex.Literal)]
    return (
        all(atom.val == 0 for atom in numbers)
        and len(others) == 1
        and (others[0] in positive)
    )


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
