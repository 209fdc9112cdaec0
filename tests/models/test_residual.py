"""The residual network against loops, and its signal against Euler steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow import models
from tests import tolerances

pytestmark = pytest.mark.usefixtures("cheaply_compiled")


def test_residual_mlp_matches_the_loop(key):
    model = models.ResidualMLP(4, 2, 8, 3, "sin", w_std=1.1, b_std=0.2, key=key)
    x = jax.random.normal(jax.random.key(1), (4,))

    def affine(layer, u):
        weight = 1.1 * np.asarray(layer.weight) / np.sqrt(u.size)
        return weight @ np.asarray(u) + 0.2 * np.asarray(layer.bias)

    h = affine(model.embedding, x)
    for branch in model.branches:
        h = h + affine(branch, np.sin(h)) / np.sqrt(3)
    np.testing.assert_allclose(
        model(x), affine(model.readout, h), rtol=0, atol=tolerances.roundoff(50) * 10
    )


@pytest.mark.parametrize("depth", [0, 3])
def test_output_variance_grows_as_euler_steps(key, depth):
    # Linear branches: E|h|² obeys Σ ← Σ + a² w_std² Σ at every width.
    w_std, seeds = 1.2, 20_000
    x = jax.random.normal(jax.random.key(1), (4,))

    def output(k):
        model = models.ResidualMLP(
            4, 1, 16, depth, "identity", w_std=w_std, use_bias=False, key=k
        )
        return model(x)[0]

    f = np.asarray(jax.jit(jax.vmap(output))(jax.random.split(key, seeds)))
    expected = w_std**2 * np.mean(x**2)
    for _ in range(depth):
        expected += w_std**2 / depth * expected
    expected *= w_std**2
    bound = tolerances.standard_errors(np.std(f**2), seeds)
    assert abs(np.mean(f**2) - expected) <= bound


def test_branch_scale_defaults_to_one_over_root_depth(key):
    default = models.ResidualMLP(2, 1, 4, 4, key=key)
    assert 2 * default.branch_scale == 1
    given = models.ResidualMLP(2, 1, 4, 4, branch_scale=3, key=key)
    assert given.branch_scale == 3


def test_residual_network_keeps_float32_and_time_scale(key):
    model = models.ResidualMLP(
        2, 1, 6, 2, parameterization="mean_field", key=key, dtype=jnp.float32
    )
    assert model(jnp.ones(2, jnp.float32)).dtype == jnp.float32
    assert models.time_scale(model) == 6


def test_invalid_residual_network_is_refused(key):
    with pytest.raises(ValueError, match="`branch_scale` must be positive"):
        models.ResidualMLP(2, 1, 4, 2, branch_scale=0.0, key=key)
    with pytest.raises(ValueError, match="ResidualMLP: `depth`"):
        models.ResidualMLP(2, 1, 4, -1, key=key)
    with pytest.raises(ValueError, match=r"ResidualMLP takes ONE.*batch of 3"):
        models.ResidualMLP(2, 1, 4, 2, key=key)(jnp.ones((3, 2)))
