"""The one layer of all parameterizations, against loops over its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow import models
from tests import tolerances


def scaled_by_hand(layer, parameterization, readout):
    """The layer's effective weights and biases, from the definitions in words."""
    weight, bias = np.asarray(layer.weight), np.asarray(layer.bias)
    if parameterization == "standard":
        return weight, bias
    n = layer.in_size
    weight, bias = layer.w_std * weight / np.sqrt(n), layer.b_std * bias
    if parameterization == "mean_field" and readout:
        return weight / np.sqrt(n), bias / np.sqrt(n)
    return weight, bias


def check_against_the_loop(key, parameterization, readout):
    layer = models.Dense(
        7, 3, parameterization, w_std=1.3, b_std=0.4, readout=readout, key=key
    )
    u = jax.random.normal(jax.random.key(1), (7,))
    weight, bias = scaled_by_hand(layer, parameterization, readout)
    v = np.asarray(u)
    expected = [sum(weight[i, j] * v[j] for j in range(7)) + bias[i] for i in range(3)]
    scale = np.abs(weight) @ np.abs(v) + np.abs(bias)
    error = np.abs(np.asarray(layer(u)) - np.array(expected))
    assert np.all(error <= tolerances.roundoff(10) * scale)


def test_ntk_layer_matches_the_loop(key):
    check_against_the_loop(key, "ntk", readout=False)


@pytest.mark.parametrize("parameterization", ["standard", "ntk", "mean_field"])
@pytest.mark.parametrize("readout", [False, True])
def test_layer_matches_the_loop(key, parameterization, readout):
    check_against_the_loop(key, parameterization, readout)


@pytest.mark.parametrize(
    ("parameterization", "w_std", "b_std"),
    [
        ("standard", 1.5 / np.sqrt(300), 0.3),
        ("ntk", 1.0, 1.0),
        ("mean_field", 1.0, 1.0),
    ],
)
def test_initial_weights_have_the_stated_variance(key, parameterization, w_std, b_std):
    layer = models.Dense(300, 2000, parameterization, w_std=1.5, b_std=0.3, key=key)
    for leaf, std in ((layer.weight, w_std), (layer.bias, b_std)):
        # The variance of a Gaussian's squares is twice the square of its own.
        mean_bound = tolerances.standard_errors(std, leaf.size)
        variance_bound = tolerances.standard_errors(np.sqrt(2) * std**2, leaf.size)
        assert abs(np.mean(leaf)) <= mean_bound
        assert abs(np.mean(leaf**2) - std**2) <= variance_bound


def test_weights_and_bias_are_independent_draws(key):
    layer = models.Dense(1, 2000, key=key)
    correlation = np.corrcoef(layer.weight[:, 0], layer.bias)[0, 1]
    assert abs(correlation) <= tolerances.standard_errors(1.0, 2000)


@pytest.mark.parametrize("parameterization", ["standard", "ntk", "mean_field"])
def test_weight_itself_meets_the_input_in_one_product(key, parameterization):
    layer = models.Dense(4, 3, parameterization, readout=True, key=key)
    u = jnp.ones(4)

    def forward(weight):
        return models.Dense.__call__(swap_weight(layer, weight), u)

    jaxpr = jax.make_jaxpr(forward)(layer.weight).jaxpr
    [product] = [e for e in jaxpr.eqns if e.primitive.name == "dot_general"]
    assert product.invars[0] is jaxpr.invars[0]


def swap_weight(layer, weight):
    leaves, structure = jax.tree.flatten(layer)
    leaves = [weight if leaf is layer.weight else leaf for leaf in leaves]
    return jax.tree.unflatten(structure, leaves)


def test_layer_without_bias_is_homogeneous(key):
    layer = models.Dense(4, 3, use_bias=False, key=key)
    assert layer.bias is None
    np.testing.assert_array_equal(layer(jnp.zeros(4)), np.zeros(3))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"in_size": 0}, "`in_size` must be an integer of at least 1, got 0"),
        ({"out_size": -2}, "`out_size` must be an integer of at least 1, got -2"),
        ({"w_std": 0.0}, "`w_std` must be positive"),
        ({"w_std": float("nan")}, "`w_std` must be positive"),
        ({"b_std": -0.1}, "`b_std` must be zero or positive"),
        ({"parameterization": "nkt"}, "parameterization 'nkt'.*mean 'ntk'"),
        ({"dtype": jnp.int32}, "real floating `dtype`, got int32"),
        ({"dtype": jnp.complex128}, "real floating `dtype`, got complex128"),
    ],
)
def test_invalid_layer_is_refused(key, kwargs, message):
    arguments = {"in_size": 3, "out_size": 2, **kwargs}
    with pytest.raises(ValueError, match=message):
        models.Dense(**arguments, key=key)


def test_float64_without_x64_is_refused(key):
    with (
        jax.enable_x64(False),
        pytest.raises(ValueError, match="would truncate float64 to float32"),
    ):
        models.Dense(3, 2, key=key, dtype=jnp.float64)
