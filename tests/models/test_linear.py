"""Deep linear and diagonal linear networks against matrix algebra."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow import models
from tests import tolerances
from tests.models.jacobians import kernel


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_deep_linear_is_its_matrix_product(key, depth):
    model = models.DeepLinear(4, 3, 6, depth, w_std=0.7, key=key)
    product = np.eye(4)
    for layer in model.layers:
        product = np.asarray(layer.weight) @ product
    x = jax.random.normal(jax.random.key(1), (4,))
    np.testing.assert_allclose(
        model(x), product @ x, rtol=0, atol=tolerances.roundoff(6 * (depth + 1))
    )


def test_deep_linear_has_raw_weights_and_no_bias(key):
    params, _ = models.partition(models.DeepLinear(4, 3, 6, 1, w_std=2.0, key=key))
    names = [name for name, _ in models.named_leaves(params)]
    assert names == ["layers[0].weight", "layers[1].weight"]


def test_gradient_flow_of_deep_linear_conserves_the_balance(key):
    # d/dt (W₂ᵀW₂ − W₁W₁ᵀ) = 0 for any loss; Saxe et al. (2014).
    model = models.DeepLinear(4, 3, 6, 1, key=key)
    x = jax.random.normal(jax.random.key(1), (10, 4))

    @eqx.filter_grad
    def gradient(m):
        return jnp.sum(jnp.sin(jax.vmap(m)(x)))

    first, second = (layer.weight for layer in model.layers)
    d_first, d_second = (layer.weight for layer in gradient(model).layers)
    change = second.T @ d_second - d_first @ first.T
    scale = np.abs(second.T @ d_second).max()
    np.testing.assert_allclose(
        change + change.T,
        np.zeros((6, 6)),
        rtol=0,
        atol=tolerances.roundoff(60) * scale,
    )


def test_deep_linear_accepts_the_other_parameterizations(key):
    x = jnp.ones(4)
    ntk = models.DeepLinear(4, 3, 6, 2, "ntk", w_std=0.7, key=key)
    standard = models.DeepLinear(4, 3, 6, 2, w_std=0.7, key=key)
    np.testing.assert_allclose(
        ntk(x), standard(x), rtol=0, atol=tolerances.roundoff(20)
    )
    mean_field = models.DeepLinear(4, 3, 6, 2, "mean_field", key=key)
    assert models.time_scale(mean_field) == 6


def test_diagonal_network_starts_at_zero():
    model = models.DiagonalLinear(3, alpha=0.2)
    np.testing.assert_array_equal(model.u, np.full(3, 0.2))
    np.testing.assert_array_equal(model.v, np.full(3, 0.2))
    np.testing.assert_array_equal(model(jnp.arange(3.0)), np.zeros(1))


def moved_diagonal():
    return eqx.tree_at(
        lambda m: (m.u, m.v),
        models.DiagonalLinear(3),
        (jnp.array([2.0, 0.0, 1.0]), jnp.array([1.0, 3.0, -1.0])),
    )


def test_diagonal_network_is_its_difference_of_squares():
    model = moved_diagonal()
    np.testing.assert_array_equal(model.beta, [3.0, -9.0, 0.0])
    np.testing.assert_array_equal(model(jnp.array([1.0, 0.5, 7.0])), [-1.5])


def test_diagonal_kernel_is_the_closed_form():
    # Θ(x, x') = 4 Σ (u² + v²) x x'.
    model = moved_diagonal()
    x = jax.random.normal(jax.random.key(3), (4, 3))
    expected = 4 * (x * (model.u**2 + model.v**2)[None, :]) @ x.T
    np.testing.assert_allclose(
        kernel(model, x),
        expected,
        rtol=0,
        atol=tolerances.roundoff(12) * np.abs(expected).max(),
    )


def test_diagonal_network_keeps_float32():
    model = models.DiagonalLinear(3, 0.1, dtype=jnp.float32)
    assert model(jnp.ones(3, jnp.float32)).dtype == jnp.float32


def test_invalid_linear_network_is_refused(key):
    with pytest.raises(ValueError, match="DiagonalLinear: `alpha` must be positive"):
        models.DiagonalLinear(3, alpha=-1)
    with pytest.raises(ValueError, match="DiagonalLinear: `in_size`"):
        models.DiagonalLinear(0)
    with pytest.raises(ValueError, match="DeepLinear: `width`"):
        models.DeepLinear(3, 2, 0, 1, key=key)
    with pytest.raises(ValueError, match=r"DeepLinear takes ONE.*batch of 5"):
        models.DeepLinear(3, 2, 4, 1, key=key)(jnp.ones((5, 3)))
    with pytest.raises(ValueError, match=r"DiagonalLinear takes ONE.*batch of 5"):
        models.DiagonalLinear(3)(jnp.ones((5, 3)))
