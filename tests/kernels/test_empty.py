"""Sizes of zero: what holds no number has no part in a kernel, and breaks none."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkflow as nf

from ..tolerances import roundoff
from . import quick, twin
from .modules import D, Formula


def low_rank(p, x):
    """A layer with an adapter of rank zero, and a table that is never read."""
    return jnp.tanh(p["w"] @ x + p["up"] @ (p["down"] @ x)) + 0 * p["table"].sum()


def no_iterations(p, x):
    """Loops of length zero around weights, and a stack of no layers."""
    h = jax.lax.scan(lambda h, _: (jnp.tanh(p["w"] @ h), None), x, None, length=0)[0]
    h = jax.lax.scan(lambda h, w: (jnp.tanh(w @ h), None), h, p["layers"])[0]
    return p["w"] @ h


EMPTY = {
    "low_rank": (
        low_rank,
        {"w": (D, D), "up": (D, 0), "down": (0, D), "table": (0, 3)},
    ),
    "no_iterations": (no_iterations, {"w": (D, D), "layers": (0, D, D)}),
    "no_inputs": (lambda p, x: p["w"] @ x[:0] + p["b"], {"w": (2, 0), "b": (2,)}),
    "nothing_trained": (lambda p, x: p["w"] @ x[:0] + x[:2], {"w": (2, 0)}),
    "nothing_used": (lambda p, x: 0 * x[:2], {"w": (2, 2)}),
}


def build(name, key):
    function, shapes = EMPTY[name]
    keys = jax.random.split(key, len(shapes) + 1)
    weights = {
        leaf: jax.random.normal(k, shape)
        for (leaf, shape), k in zip(shapes.items(), keys[1:], strict=True)
    }
    return Formula(weights, function), jax.random.normal(keys[0], (3, D))


@pytest.mark.parametrize("outputs", ["full", "diagonal", "trace"])
@pytest.mark.parametrize("name", EMPTY)
def test_what_is_empty_has_no_part_in_any_method(name, outputs, key):
    model, x = build(name, key)
    expected = twin.kernel(model, x, outputs=outputs)
    for method in ("structured", "contraction", "vector_products"):
        if outputs != "full" and method == "vector_products":
            continue
        found = quick.ntk(model, x, outputs=outputs, method=method)
        error = np.max(np.abs(np.asarray(found) - expected))
        assert error <= roundoff(10) * max(1.0, np.max(np.abs(expected)))


@pytest.mark.parametrize("method", ["structured", "contraction"])
def test_tiles_of_what_is_empty_are_the_whole(method, key):
    model, x = build("low_rank", key)
    x = jnp.concatenate([x, 2 * x, -x])
    least = nf.kernels.plan(model, x, method=method).estimates[method].least
    found = quick.ntk(model, x, method=method, max_bytes=4 * least)
    expected = twin.kernel(model, x, outputs="trace")
    assert np.linalg.norm(found - expected) <= roundoff(20) * np.linalg.norm(expected)


def test_leaves_without_numbers_are_named_with_zeros(key):
    model, x = build("low_rank", key)
    parts = quick.ntk(model, x, method="structured", by_leaf=True)
    assert np.all(np.asarray(parts["weights['table']"]) == 0)
    assert "weights['up']" in nf.kernels.plan(model, x, method="structured").leaves


def test_no_outputs_and_no_examples_are_refused(key):
    linear = eqx.nn.Linear(2, 0, key=key)
    for use in (nf.ntk, nf.NTKOperator, nf.kernels.plan):
        with pytest.raises(ValueError, match="no outputs"):
            use(linear, jnp.ones((3, 2)))
        with pytest.raises(ValueError, match="at least one example"):
            use(eqx.nn.Linear(2, 2, key=key), jnp.ones((0, 2)))
