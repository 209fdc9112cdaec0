"""Models that round inside: every answer is that of reverse mode, or a refusal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkflow as nf
from ntkflow.kernels._modes import find_modes

from ..compilation import QUICK
from ..tolerances import roundoff
from . import quick
from .modules import D, Formula


def narrow(dtype):
    """Products of numbers that were rounded to a narrow dtype."""

    def function(p, x):
        h = jnp.tanh((p["w"].astype(dtype) @ x.astype(dtype)).astype(x.dtype))
        return (p["v"].astype(dtype) @ h.astype(dtype)).astype(x.dtype) + p["b"]

    return function


def reduced(p, x):
    h = jax.lax.reduce_precision(jnp.tanh(p["w"] @ x), 8, 7)
    return p["v"] @ h + p["b"]


def by_algorithm(p, x):
    precision = jax.lax.DotAlgorithmPreset.BF16_BF16_F32
    w, v, x32 = (a.astype(jnp.float32) for a in (p["w"], p["v"], x))
    h = jnp.tanh(jax.lax.dot(w, x32, precision=precision))
    return jax.lax.dot(v, h, precision=precision).astype(x.dtype) + p["b"]


def straight_through(p, x):
    """Rounding whose derivative is the identity, exactly and in both modes."""
    h = jnp.tanh(p["w"] @ x)
    rounded = h.astype(jnp.bfloat16).astype(h.dtype)
    return p["v"] @ (h + jax.lax.stop_gradient(rounded - h)) + p["b"]


ROUNDING = {
    "bfloat16": narrow(jnp.bfloat16),
    "float16": narrow(jnp.float16),
    "reduced": reduced,
    "by_algorithm": by_algorithm,
}


@pytest.fixture(scope="module")
def case(key):
    keys = jax.random.split(key, 4)
    shapes = {"w": (D, D), "v": (2, D), "b": (2,)}
    weights = {
        name: jax.random.normal(k, shape)
        for (name, shape), k in zip(shapes.items(), keys[:3], strict=True)
    }
    return weights, jax.random.normal(keys[3], (3, D))


def reverse_kernel(model, x):
    """J Jᵀ from one gradient an output and example."""

    def rows(p, xi):
        return jax.jacrev(lambda q: model.function(q, xi))(p)

    jacobians = jax.jit(jax.vmap(rows, (None, 0)), compiler_options=QUICK)
    leaves = jax.tree.leaves(jacobians(model.weights, x))
    flat = [
        np.asarray(leaf, np.float64).reshape(*leaf.shape[:2], -1) for leaf in leaves
    ]
    return sum(np.einsum("akp,blp->akbl", leaf, leaf) for leaf in flat)


@pytest.mark.parametrize("name", ROUNDING)
def test_kernel_of_a_rounding_model_is_the_reverse_one(name, case):
    weights, x = case
    model = Formula(weights, ROUNDING[name])
    expected = reverse_kernel(model, x)

    # That case computes in float32 throughout, at other places in each program.
    tolerance = roundoff(20, np.float32 if name == "by_algorithm" else np.float64)

    def distance(found):
        found = np.asarray(found).reshape(expected.shape)
        return np.linalg.norm(found - expected) / np.linalg.norm(expected)

    for method in ("structured", "contraction"):
        found = quick.ntk(model, x, outputs="full", method=method)
        assert distance(found) <= tolerance
    operator = nf.NTKOperator(model, x)
    units = jnp.eye(6).reshape(6, 3, 2)
    products = jax.jit(lambda e: jax.lax.map(operator.mv, e), compiler_options=QUICK)
    assert distance(products(units)) <= tolerance
    if name == "by_algorithm":
        return  # a CPU may compute it in float32 all the same
    # What vector products and their forward pass gave: another map.
    forward = jax.jacfwd(model.function)(weights, x[0])
    reverse = jax.jacrev(model.function)(weights, x[0])
    apart = np.linalg.norm(np.asarray(forward["w"] - reverse["w"], np.float64))
    assert apart > 1e-6 * np.linalg.norm(reverse["w"])


def test_vector_products_of_a_rounding_model_are_refused(case):
    weights, x = case
    model = Formula(weights, reduced)
    assert "vector_products" not in nf.kernels.plan(model, x).estimates
    for use in (nf.ntk, nf.kernels.plan):
        with pytest.raises(ValueError, match=r"rounds inside.*two different maps"):
            use(model, x, method="vector_products")


def test_rounding_that_no_derivative_goes_through_does_not_count(case):
    weights, x = case
    jaxpr = jax.make_jaxpr(straight_through)(weights, x[0]).jaxpr
    assert not find_modes(jaxpr, 3).rounds
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (weights, x[0]))
    plain = jax.make_jaxpr(lambda p, x: p["v"] @ jnp.tanh(p["w"] @ x))(*half).jaxpr
    assert not find_modes(plain, 3).rounds
    for function in ROUNDING.values():
        jaxpr = jax.make_jaxpr(function)(weights, x[0]).jaxpr
        assert find_modes(jaxpr, 3).rounds
