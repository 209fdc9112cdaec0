"""Which derivatives a program has: forward, in reverse, or both.

A custom reverse rule hides the program from forward mode, and a loop of unknown length
keeps nothing for reverse mode. Whether either happens to the trained leaves is read off
the jaxpr. An ordinary differential equation inside a module is the usual case: what
its adjoint allows is what the kernel can use.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp
from jax.lax import GatherScatterMode as Mode
from jaxtyping import PyTree

from ntkflow._equations import opened, parameters, programs, scan_counts
from ntkflow.kernels._rounding import bits, bits_left


class Modes(NamedTuple):
    """The derivatives with respect to the trained leaves that JAX can take.

    Attributes:
        forward: Whether jvp works.
        reverse: Whether vjp works.
        rounds: Whether both round on the way, to fewer bits than the results have: they
            are then two different maps.
        drops: Whether lookups may miss their table. What is dropped there may be
            infinite in reverse; forward mode multiplies it with zero.
        mutates: Whether it writes to mutable arrays (`jax.new_ref`). What is read from
            one then depends on steps that hand on no value.
    """

    forward: bool
    reverse: bool
    rounds: bool = False
    drops: bool = False
    mutates: bool = False


class Obstacles(NamedTuple):
    """What keeps a program from being differentiated.

    Attributes:
        forward: What hides it from jvp, in words; None if nothing does.
        reverse: What hides it from vjp, likewise.
        in_equinox: Whether one of them is equinox's or diffrax's, as in the adjoints of
            differential equations.
    """

    forward: str | None
    reverse: str | None
    in_equinox: bool


def find_modes(jaxpr: jex.Jaxpr, n_leaves: int) -> Modes:
    """Read off a program how it can be differentiated.

    Args:
        jaxpr: The program (leaves, example) -> outputs.
        n_leaves: How many of its inputs are trained leaves; they come first.

    Returns:
        The modes. A mode found impossible is; one found possible may still fail, for
        instance in a callback.

    Verified by: tests/kernels/test_modes.py::test_modes_are_those_jax_has
    """
    search = _searched(jaxpr, n_leaves)
    return Modes(
        search.forward is None,
        search.reverse is None,
        search.rounds,
        search.drops,
        search.mutates,
    )


def modes_of(function: Callable[[PyTree], Any], params: PyTree) -> Modes:
    """How a function can be differentiated with respect to its argument.

    Args:
        function: Of arrays, whatever else it depends on held.
        params: Its argument.

    Returns:
        The modes, as of `find_modes`.

    Verified by:
        tests/simulate/test_neural_ode.py::test_adjoints_of_one_mode_are_refused
    """
    jaxpr = jax.make_jaxpr(function)(params).jaxpr
    return find_modes(jaxpr, len(jaxpr.invars))


def obstacles_of(function: Callable[[PyTree], Any], params: PyTree) -> Obstacles:
    """What keeps a function from being differentiated with respect to its argument.

    Args:
        function: Of arrays, whatever else it depends on held.
        params: Its argument.

    Returns:
        The first obstacle to each mode.

    Verified by:
        tests/simulate/test_one_mode.py::test_the_cause_is_named
    """
    jaxpr = jax.make_jaxpr(function)(params).jaxpr
    search = _searched(jaxpr, len(jaxpr.invars))
    return Obstacles(search.forward, search.reverse, search.in_equinox)


def _searched(jaxpr: jex.Jaxpr, n_leaves: int) -> "_Search":
    search = _Search(max((_bits(v) for v in jaxpr.outvars), default=0))
    search.visit(jaxpr, [i < n_leaves for i in range(len(jaxpr.invars))])
    return search


class _Search:
    """Follows the trained leaves through a jaxpr and what it calls."""

    def __init__(self, bits: int) -> None:
        self.forward: str | None = None
        self.reverse: str | None = None
        self.in_equinox = False
        self.rounds = self.drops = self.mutates = False
        self.bits = bits

    def described(self, what: str, inner: Any) -> str:
        """An obstacle, with the place in the user's code that it comes from."""
        place = getattr(opened(inner).debug_info, "func_src_info", None) or ""
        if any(f"{package}/" in place for package in ("equinox", "diffrax")):
            self.in_equinox = True
            return f"{what} inside equinox or diffrax"
        return f"{what} ({place})" if place else what

    def visit(self, jaxpr: jex.Jaxpr, varies: Sequence[bool]) -> list[bool]:
        """Which results vary with the leaves, given which inputs do."""
        varying = {v for v, does in zip(jaxpr.invars, varies, strict=True) if does}
        rounded = set()
        for equation in jaxpr.eqns:
            # Only the type of a reference has one of what it refers to.
            if any(hasattr(v.aval, "inner_aval") for v in equation.outvars):
                self.mutates = True
            does = [_is_in(v, varying) for v in equation.invars]
            if any(does):
                left = bits_left(equation)
                if left is not None and left < self.bits:
                    rounded.update(equation.outvars)
                found = self.enter(equation, does)
                pairs = zip(equation.outvars, found, strict=True)
                varying.update(v for v, out in pairs if out and _is_real(v))
        self.rounds = self.rounds or bool(rounded and rounded & _reaching(jaxpr))
        return [_is_in(v, varying) for v in jaxpr.outvars]

    def enter(self, equation: jex.JaxprEqn, varies: list[bool]) -> Sequence[bool]:
        name, params = equation.primitive.name, parameters(equation)
        every = [True] * len(equation.outvars)
        if name == "stop_gradient":
            return [False]
        if name == "gather" and params["mode"] != Mode.CLIP:
            self.drops = self.drops or _is_real(equation.outvars[0])
        if name.startswith("custom_vjp_call"):
            if self.forward is None:
                what = "a custom reverse rule by jax.custom_vjp"
                self.forward = self.described(what, params["call_jaxpr"])
            return every
        if name.startswith("custom_jvp_call"):
            return every  # its rule stands for whatever it calls
        if name == "while":
            first = params["cond_nconsts"]
            n_consts = params["body_nconsts"]
            n_carry = len(varies) - first - n_consts
            found = self.iterate(
                params["body_jaxpr"], varies[first:], n_consts, n_carry
            )
            if self.reverse is None and any(found):
                what = "a loop of unknown length by jax.lax.while_loop"
                self.reverse = self.described(what, params["body_jaxpr"])
            return found
        if name == "scan":
            return self.iterate(params["jaxpr"], varies, *scan_counts(equation))
        if name == "cond":
            found = [
                self.visit(opened(branch), varies[1:]) for branch in params["branches"]
            ]
            return [any(outs) for outs in zip(*found, strict=True)]
        for inner in programs(equation):
            if len(inner.invars) == len(varies):
                found = self.visit(inner, varies)
                if len(found) == len(every):
                    return found
        return every

    def iterate(
        self,
        body: jex.ClosedJaxpr,
        varies: list[bool],
        n_consts: int,
        n_carry: int,
    ) -> list[bool]:
        """The body of a loop until nothing more is found to vary."""
        varies = list(varies)
        while True:
            found = self.visit(opened(body), varies)
            carried = varies[n_consts : n_consts + n_carry]
            after = [a or b for a, b in zip(carried, found[:n_carry], strict=True)]
            if after == carried:
                return after + found[n_carry:]
            varies[n_consts : n_consts + n_carry] = after


def _reaching(jaxpr: jex.Jaxpr) -> set:
    """What the outputs are made of, as far as derivatives go."""
    reaching = {v for v in jaxpr.outvars if not isinstance(v, jex.Literal)}
    for equation in reversed(jaxpr.eqns):
        read = any(v in reaching and _is_real(v) for v in equation.outvars)
        if read and equation.primitive.name != "stop_gradient":
            reaching.update(
                v for v in equation.invars if not isinstance(v, jex.Literal)
            )
    return reaching


def _is_in(variable: Any, varying: set) -> bool:
    return not isinstance(variable, jex.Literal) and variable in varying


def _bits(variable: Any) -> int:
    return bits(getattr(variable.aval, "dtype", bool))


def _is_real(variable: Any) -> bool:
    dtype = getattr(variable.aval, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)
