"""What is read of JAX's equations, in every way that a supported release writes them.

The installed release writes one of them; the others are put together here.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import pytest

from ntkflow._equations import programs, scan_counts
from ntkflow.kernels._count import count_flops
from ntkflow.kernels._modes import Modes, find_modes
from ntkflow.kernels._walk import flatten

X = jnp.arange(3.0)


def looped(w, x):
    """A scan with two constants, one number carried and one array scanned."""
    return jax.lax.scan(lambda c, a: (c * a + w * x[0], c), w, x)[1]


def equations(function: Callable[..., Any], *args: Any) -> list[jex.JaxprEqn]:
    return jax.make_jaxpr(function)(*args).jaxpr.eqns


def scans(found: list[jex.JaxprEqn]) -> list[jex.JaxprEqn]:
    return [equation for equation in found if equation.primitive.name == "scan"]


def counted(params: dict[str, Any], consts: int, carry: int) -> dict[str, Any]:
    """As JAX 0.10 writes a scan."""
    kept = {name: params[name] for name in params.keys() - {"ft_in", "ft_out"}}
    return kept | {"num_consts": consts, "num_carry": carry}


def grouped(params: dict[str, Any], *sizes: int) -> dict[str, Any]:
    """As JAX 0.11 writes a scan."""
    kept = {name: params[name] for name in params.keys() - {"num_consts", "num_carry"}}
    groups = tuple((None,) * size for size in sizes)
    return kept | {"ft_in": SimpleNamespace(unpack=lambda: groups)}


def rewritten(function: Callable[..., Any], params: dict[str, Any]) -> jex.Jaxpr:
    """The program of a function, its scan with other parameters."""
    jaxpr = jax.make_jaxpr(function)(jnp.asarray(0.5), X).jaxpr
    eqns = [e.replace(params=params) if e in scans([e]) else e for e in jaxpr.eqns]
    return jaxpr.replace(eqns=eqns)


def test_inputs_of_scans_are_told_apart():
    """The carry keeps its shape, and one iteration sees a row of what is scanned."""

    def function(w, a, x):
        def body(carry, one):
            return jnp.sum(w) * carry * one, carry

        return jnp.sum(jax.lax.scan(body, a, x)[1])

    w, a, x = jnp.ones(2), jnp.ones(4), jnp.ones((5, 4))
    for derivative in (function, jax.jacfwd(function), jax.grad(function)):
        found = scans(equations(derivative, w, a, x))
        assert found
        for equation in found:
            n_consts, n_carry = scan_counts(equation)
            (body,) = programs(equation)
            outside, inside = (
                [v.aval.shape for v in variables]
                for variables in (equation.invars, body.invars)
            )
            end = n_consts + n_carry
            assert n_carry > 0
            assert outside[:end] == inside[:end]
            assert inside[n_consts:end] == [
                v.aval.shape for v in body.outvars[:n_carry]
            ]
            assert outside[end:] == [(5, *shape) for shape in inside[end:]]


@pytest.mark.parametrize("write", [counted, grouped])
def test_every_layout_of_scans_is_walked(write):
    """In a scan that carries a loop's result on, reverse mode is found missing."""

    def function(w, x):
        def body(carry, a):
            ended = jax.lax.while_loop(lambda c: c < 2, lambda c: c + 1, carry)
            return ended * a, carry

        return jax.lax.scan(body, w, x)[0]

    (equation,) = scans(equations(function, jnp.asarray(0.5), X))
    sizes = (0, 1) if write is counted else (0, 1, 1)
    jaxpr = rewritten(function, write(dict(equation.params), *sizes))
    assert find_modes(jaxpr, 1) == Modes(True, False)
    flatten(jex.ClosedJaxpr(jaxpr, []), 1)


def test_a_layout_that_is_not_known_is_refused():
    (equation,) = scans(equations(looped, jnp.asarray(0.5), X))
    for sizes in ((1, 1), (1, 1, 0), (0, 0, 0, 0)):
        changed = equation.replace(params=grouped(dict(equation.params), *sizes))
        with pytest.raises(ValueError, match=r"'scan'.*inputs in groups of"):
            scan_counts(changed)


@pytest.mark.parametrize(
    ("function", "primitive", "parameter"),
    [
        (looped, "scan", "length"),
        (looped, "scan", "jaxpr"),
        (lambda w, x: jnp.dot(w * x, x), "dot_general", "dimension_numbers"),
        (lambda w, x: (w * x)[jnp.asarray([0])], "gather", "mode"),
        (
            lambda w, x: jax.lax.while_loop(lambda c: c < 2, lambda c: c + w, w),
            "while",
            "body_nconsts",
        ),
        (
            lambda w, x: jax.lax.cond(x[0] > 0, jnp.sin, jnp.cos, w),
            "cond",
            "branches",
        ),
    ],
)
def test_what_is_not_known_is_named(function, primitive, parameter):
    jaxpr = jax.make_jaxpr(function)(jnp.asarray(0.5), X)

    def without(equation):
        if equation.primitive.name != primitive:
            return equation
        kept = dict(equation.params)
        del kept[parameter]
        return equation.replace(params=kept)

    changed = jaxpr.jaxpr.replace(eqns=[without(e) for e in jaxpr.jaxpr.eqns])

    def walk():
        find_modes(changed, 1)
        flatten(jex.ClosedJaxpr(changed, jaxpr.consts), 1)
        count_flops(changed)

    with pytest.raises(ValueError, match=rf"'{primitive}'.*no parameter '{parameter}'"):
        walk()
