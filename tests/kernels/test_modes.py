"""The derivatives a program has, and kernels of those that have only one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkflow as nf
from ntkflow.kernels._modes import Modes, find_modes

from ..tolerances import roundoff


def until(condition, body, start):
    return jax.lax.while_loop(lambda c: condition(c[0]), body, (0, start))[1]


def loop(w, x):
    """w⁵x by a loop whose length is not known."""
    return until(lambda i: i < x.size + 2, lambda c: (c[0] + 1, w * c[1]), w**0 * x)


def counting(w, x):
    """A loop that the weight does not enter."""
    n = until(lambda i: i < 5, lambda c: (c[0] + 1, 2.0 * c[1]), x)
    return w * n


@jax.custom_vjp
def ruled(w):
    return jnp.sin(w)


ruled.defvjp(lambda w: (jnp.sin(w), w), lambda w, g: (g * jnp.cos(w),))


def scanned(w, x):
    return jax.lax.scan(lambda h, _: (ruled(h), None), w * x, None, length=3)[0]


def late(w, x):
    """The weight reaches the rule through the second iteration's carry only."""

    def body(carry, _):
        a, b = carry
        return (w * x, ruled(a) + 0 * b), None

    return jax.lax.scan(body, (x, x), None, length=3)[0][1]


def branched(w, x):
    return jax.lax.cond(x[0] > 0, lambda w: w * x, lambda w: ruled(w) * x, w)


CASES = {
    "plain": (lambda w, x: jnp.tanh(w * x), Modes(True, True)),
    "loop": (loop, Modes(True, False)),
    "counting": (counting, Modes(True, True)),
    "rule": (lambda w, x: ruled(w) * x, Modes(False, True)),
    "rule, not of the weight": (lambda w, x: w * ruled(x), Modes(True, True)),
    "rule in a scan": (scanned, Modes(False, True)),
    "rule by the carry": (late, Modes(False, True)),
    "rule in a branch": (branched, Modes(False, True)),
    "rule in a call": (lambda w, x: jax.jit(ruled)(w) * x, Modes(False, True)),
}


@pytest.mark.parametrize("name", CASES)
def test_modes_are_those_jax_has(name):
    function, expected = CASES[name]
    w, x = jnp.asarray(0.7), jnp.ones(3)
    jaxpr = jax.make_jaxpr(function)(w, x)
    assert find_modes(jaxpr.jaxpr, 1) == expected
    for mode, works in zip((jax.jacfwd, jax.jacrev), expected[:2], strict=True):
        if works:
            mode(function)(w, x)
        else:
            with pytest.raises((TypeError, ValueError)):
                mode(function)(w, x)


class Model(eqx.Module):
    weights: jax.Array
    function: object = eqx.field(static=True)

    def __call__(self, x):
        return jax.vmap(self.function, (0, None))(self.weights, x).sum(0)


def test_kernel_takes_the_mode_there_is():
    """f = Σ_i w_i⁵ x: Θ = 25 Σ_i w_i⁸ ⟨x, x'⟩."""
    x, w = jnp.asarray([[1.0, 2.0, 0.5], [0.3, -1.0, 2.0]]), jnp.linspace(0.5, 1, 70)
    expected = 25 * np.sum(w**8) * np.asarray(x) @ np.asarray(x).T
    model = Model(w, loop)
    np.testing.assert_allclose(nf.ntk(model, x), expected, rtol=roundoff(70))
    assert set(nf.kernels.plan(model, x).estimates) == {"contraction"}
    assert "by contraction" in str(nf.kernels.plan(model, x))


@pytest.mark.parametrize(
    ("function", "method", "only"),
    [(loop, "structured", "forward"), (branched, "vector_products", "in reverse")],
)
def test_method_without_its_derivative_is_refused(function, method, only):
    x, model = jnp.ones((2, 3)), Model(jnp.ones(2), function)
    for use in (nf.ntk, nf.kernels.plan):
        with pytest.raises(ValueError, match=rf"{only}\s+only.*DirectAdjoint"):
            use(model, x, method=method)
    with pytest.raises(ValueError, match=f"{only} only.*DirectAdjoint"):
        nf.NTKOperator(model, x)


def test_model_of_neither_mode_is_refused():
    model = Model(jnp.ones(2), lambda w, x: loop(ruled(w), x))
    with pytest.raises(ValueError, match=r"neither forward.*nor in reverse"):
        nf.ntk(model, jnp.ones((2, 3)))
