"""Kernels that are no numbers name where they come from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkflow as nf

from .modules import D, Formula


def decomposed(p, x):
    """Singular values of a matrix that has two equal ones for one of the examples."""
    u, s, _ = jnp.linalg.svd(jnp.diag(p["w"] * x))
    return (u @ s)[:2] + p["b"]


@pytest.fixture
def broken():
    """The third example has equal entries, where the decomposition has no slope."""
    x = jnp.asarray([[1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 3.0, 5.0], [1.0, 1.0, 1.0, 2.0]])
    return Formula({"b": jnp.ones(2), "w": jnp.ones(D)}, decomposed), x


def test_leaf_and_example_are_named(broken, tmp_path):
    model, x = broken
    assert np.all(np.isfinite(jax.vmap(model)(x)))
    expected = (
        r"leaf \"weights\['w'\]\" is not at example 2 of x1\. Its outputs are fin"
    )
    with pytest.raises(ValueError, match=expected):
        nf.ntk(model, x)
    with pytest.raises(ValueError, match=expected):
        nf.kernels.stream(model, x, path=tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"at example 1 of x2"):
        nf.ntk(model, x[:1], x[1:], outputs="full")
    only_bias = Formula({"b": True, "w": False}, decomposed)
    np.testing.assert_array_equal(nf.ntk(model, x, trainable=only_bias), 2.0)
    assert np.isnan(jax.jit(lambda x: nf.ntk(model, x))(x)[2, 2])  # not known yet


def test_other_causes_are_told_apart():
    def plain(p, x):
        return p["w"] @ x

    x = jnp.asarray([[1.0, 1.0], [jnp.nan, 1.0]])
    with pytest.raises(ValueError, match=r"example 1 of x1.*outputs are not finite"):
        nf.ntk(Formula({"w": jnp.ones((1, 2))}, plain), x)
    diverged = Formula({"w": jnp.full((1, 2), jnp.inf)}, lambda p, x: p["w"] ** 2 @ x)
    with pytest.raises(ValueError, match=r"because the leaf .*w.* is not\. Take"):
        nf.ntk(diverged, x[:1])
    large = 1e30 * jnp.ones((1, 2), jnp.float32)
    with pytest.raises(ValueError, match="overflow"):
        nf.ntk(Formula({"w": jnp.ones((1, 2), jnp.float32)}, plain), large)
