"""Activations against their textbook formulas, and the gain of ReLU-like ones."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from ntkflow import models
from tests import tolerances

FORMULAS = {
    "abs": lambda z: np.where(z > 0, z, -z),
    "cos": lambda z: np.real(np.exp(1j * z)),
    "elu": lambda z: np.where(z > 0, z, np.exp(np.minimum(z, 0)) - 1),
    "erf": lambda z: 2 * stats.norm.cdf(np.sqrt(2) * z) - 1,
    "gelu": lambda z: z * stats.norm.cdf(z),
    "identity": lambda z: z,
    "leaky_relu": lambda z: np.where(z > 0, z, z / 100),
    "relu": lambda z: np.where(z > 0, z, 0),
    "sigmoid": special.expit,
    "silu": lambda z: z / (1 + np.exp(-z)),
    "sin": lambda z: np.imag(np.exp(1j * z)),
    "softplus": lambda z: np.log(1 + np.exp(z)),
    "tanh": lambda z: 2 / (1 + np.exp(-2 * z)) - 1,
}


@pytest.mark.parametrize("name", models.ACTIVATIONS)
def test_named_activation_is_its_formula(name):
    z = np.linspace(-4.0, 4.0, 41)
    got = models.resolve_activation(name)(jnp.asarray(z))
    # Both sides round a handful of operations of order one.
    atol = tolerances.roundoff(10) * max(1.0, np.abs(FORMULAS[name](z)).max())
    np.testing.assert_allclose(got, FORMULAS[name](z), rtol=0, atol=atol)


@pytest.mark.parametrize("name", models.ACTIVATIONS)
def test_named_activation_keeps_float32_and_has_a_slope(name):
    function = models.resolve_activation(name)
    z = jnp.array([-1.5, 0.75], jnp.float32)
    assert function(z).dtype == jnp.float32
    slopes = jax.vmap(jax.grad(function))(z)
    assert slopes.dtype == jnp.float32
    assert np.all(np.isfinite(slopes))


def test_gelu_is_the_exact_erf_form():
    z = jnp.linspace(-5.0, 5.0, 201)
    exact = z * stats.norm.cdf(z)
    np.testing.assert_allclose(
        models.resolve_activation("gelu")(z),
        exact,
        rtol=0,
        atol=tolerances.roundoff(10),
    )
    # The tanh form, which is the default of jax.nn.gelu, differs by far more.
    assert np.abs(jax.nn.gelu(z) - exact).max() > 1e-4


def test_callable_activation_is_used_as_it_is():
    assert models.resolve_activation(jax.nn.softplus) is jax.nn.softplus


def test_relu_gain_keeps_second_moments():
    # Gauss-Hermite is exact for z², and its symmetric nodes halve it exactly.
    z, weight = np.polynomial.hermite_e.hermegauss(20)
    second_moment = (weight * np.maximum(z, 0) ** 2).sum() / weight.sum()
    gain = models.default_w_std("relu")
    np.testing.assert_allclose(
        gain**2 * second_moment, 1.0, rtol=tolerances.roundoff(20)
    )


def test_default_weight_scale_follows_the_activation():
    relu_like = {"relu", "leaky_relu", "elu", "gelu", "silu", "softplus"}
    for name in models.ACTIVATIONS:
        expected = np.sqrt(2.0) if name in relu_like else 1.0
        assert models.default_w_std(name) == expected
    assert models.default_w_std(jax.nn.relu) == np.sqrt(2.0)
    assert models.default_w_std(jax.nn.gelu) == np.sqrt(2.0)
    assert models.default_w_std(lambda z: z**3) == 1
    assert models.default_w_std(eqx.nn.PReLU()) == 1


def test_unknown_activation_names_the_nearest():
    with pytest.raises(ValueError, match=r"activation 'tahn'.*mean 'tanh'"):
        models.resolve_activation("tahn")
