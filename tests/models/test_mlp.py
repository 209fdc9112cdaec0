"""The multilayer perceptron: definition, parameterizations, variance, errors."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow import models
from tests import tolerances
from tests.models.jacobians import kernel

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

PARAMETERIZATIONS = ["standard", "ntk", "mean_field"]
IN, OUT, WIDTH = 5, 3, 16


def mlp(key, parameterization="ntk", **kwargs):
    settings = {"width": WIDTH, "depth": 2, "b_std": 0.3, **kwargs}
    return models.MLP(IN, OUT, parameterization=parameterization, key=key, **settings)


def inputs(n=4):
    return jax.random.normal(jax.random.key(7), (n, IN))


def test_mlp_matches_the_loop(key):
    model = mlp(key, w_std=1.2)
    h = np.asarray(inputs()[0])
    for i, layer in enumerate(model.layers):
        u = h if i == 0 else np.tanh(h)
        h = np.array([
            sum(1.2 * row[j] * u[j] / np.sqrt(u.size) for j in range(u.size)) + 0.3 * b
            for row, b in zip(*map(np.asarray, (layer.weight, layer.bias)), strict=True)
        ])
    # Three layers of at most WIDTH + 1 terms of order one each.
    np.testing.assert_allclose(
        model(inputs()[0]), h, rtol=0, atol=tolerances.roundoff(3 * WIDTH + 3) * 10
    )


def test_depth_zero_is_affine(key):
    model = mlp(key, depth=0)
    x, y = inputs(2)
    zero = model(jnp.zeros(IN))
    np.testing.assert_allclose(
        model(2.0 * x - 3.0 * y) - zero,
        2.0 * (model(x) - zero) - 3.0 * (model(y) - zero),
        rtol=0,
        atol=tolerances.roundoff(4 * IN) * 10,
    )


def test_depth_counts_the_hidden_layers(key):
    model = mlp(key, depth=3)
    shapes = [layer.weight.shape for layer in model.layers]
    assert shapes == [(WIDTH, IN), (WIDTH, WIDTH), (WIDTH, WIDTH), (OUT, WIDTH)]


def test_same_key_gives_the_same_function(key):
    x = inputs()
    standard, ntk, mean_field = (
        jax.vmap(mlp(key, parameterization))(x)
        for parameterization in PARAMETERIZATIONS
    )
    atol = tolerances.roundoff(3 * WIDTH + 3) * 10
    np.testing.assert_allclose(standard, ntk, rtol=0, atol=atol)
    np.testing.assert_allclose(np.sqrt(WIDTH) * mean_field, ntk, rtol=0, atol=atol)


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
def test_rescaled_ntk_weights_are_standard_weights(key, activation):
    ntk = mlp(key, activation=activation, w_std=1.4)
    # Any weights, not only initial ones.
    ntk = jax.tree.map(
        lambda leaf: leaf + 0.3 * jnp.cos(leaf) if eqx.is_array(leaf) else leaf, ntk
    )
    standard = mlp(jax.random.key(99), "standard", activation=activation)
    standard = eqx.tree_at(
        lambda m: [leaf for layer in m.layers for leaf in (layer.weight, layer.bias)],
        standard,
        [
            leaf
            for layer in ntk.layers
            for leaf in (
                1.4 * layer.weight / np.sqrt(layer.in_size),
                0.3 * layer.bias,
            )
        ],
    )
    x = inputs()
    np.testing.assert_allclose(
        jax.vmap(standard)(x),
        jax.vmap(ntk)(x),
        rtol=0,
        atol=tolerances.roundoff(3 * WIDTH + 3) * 100,
    )


@pytest.mark.parametrize(
    ("parameterization", "activation"),
    [("ntk", "relu"), ("ntk", "erf"), ("standard", "erf"), ("mean_field", "erf")],
)
def test_output_variance_is_the_infinite_width_one(key, parameterization, activation):
    # With one hidden layer E f² has its infinite-width value at every width.
    w_std, b_std, width, seeds = 1.5, 0.3, 16, 20_000
    x = inputs()[0]

    def output(k):
        model = models.MLP(
            IN, 1, width, 1, activation, parameterization, w_std, b_std, key=k
        )
        return model(x)[0]

    f = np.asarray(jax.jit(jax.vmap(output))(jax.random.split(key, seeds)))
    q = w_std**2 * np.mean(x**2) + b_std**2
    second_moment = {
        "relu": q / 2,
        "erf": 2 / np.pi * np.arcsin(2 * q / (1 + 2 * q)),  # Williams (1997), eq. 11
    }[activation]
    expected = w_std**2 * second_moment + b_std**2
    if parameterization == "mean_field":
        expected /= width
    bound = tolerances.standard_errors(np.std(f**2), seeds)
    assert abs(np.mean(f**2) - expected) <= bound
    assert abs(np.mean(f)) <= tolerances.standard_errors(np.std(f), seeds)


@pytest.mark.parametrize("depth", [0, 2])
def test_mean_field_time_scale_restores_the_ntk_kernel(key, depth):
    x = inputs()
    ntk, mean_field = (mlp(key, p, depth=depth) for p in ("ntk", "mean_field"))
    expected = kernel(ntk, x)
    np.testing.assert_allclose(
        models.time_scale(mean_field) * kernel(mean_field, x),
        expected,
        rtol=0,
        atol=tolerances.roundoff(WIDTH**2) * np.abs(expected).max(),
    )


def test_time_scale_is_the_width_under_mean_field_alone(key):
    assert models.time_scale(mlp(key, "mean_field")) == WIDTH
    assert models.time_scale(mlp(key, "ntk")) == 1
    assert models.time_scale(mlp(key, "standard")) == 1


def test_jit_and_vmap_agree_with_single_calls(key):
    model, x = mlp(key, activation="silu"), inputs()
    one_by_one = np.stack([model(x_i) for x_i in x])
    together = eqx.filter_jit(lambda m, xs: jax.vmap(m)(xs))(model, x)
    np.testing.assert_allclose(
        together, one_by_one, rtol=0, atol=tolerances.roundoff(3 * WIDTH + 3) * 10
    )


def test_ensemble_of_keys_is_a_stack_of_models(key):
    keys = jax.random.split(key, 3)
    ensemble = eqx.filter_vmap(lambda k: mlp(k))(keys)
    x = inputs()[0]
    together = eqx.filter_vmap(lambda m: m(x))(ensemble)
    np.testing.assert_allclose(
        together,
        np.stack([mlp(k)(x) for k in keys]),
        rtol=0,
        atol=tolerances.roundoff(3 * WIDTH + 3) * 10,
    )


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_float32_model_stays_float32_under_x64(key, parameterization):
    model = mlp(key, parameterization, activation="gelu", dtype=jnp.float32)
    params, _ = models.partition(model)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype("float32")}
    assert model(inputs()[0].astype(jnp.float32)).dtype == jnp.float32


def test_default_dtype_follows_x64(key):
    assert mlp(key).layers[0].weight.dtype == jnp.float64
    with jax.enable_x64(False):
        assert mlp(key).layers[0].weight.dtype == jnp.float32


def test_activation_with_parameters_is_trained(key):
    model = mlp(key, activation=eqx.nn.PReLU())
    names = [name for name, _ in models.named_leaves(models.partition(model)[0])]
    assert "activation.negative_slope" in names
    plain = mlp(key, activation="leaky_relu", w_std=1.0)
    model = eqx.tree_at(lambda m: m.activation.negative_slope, model, jnp.array(0.01))
    np.testing.assert_allclose(
        model(inputs()[0]), plain(inputs()[0]), rtol=0, atol=tolerances.roundoff(100)
    )


def test_call_on_a_batch_is_refused(key):
    with pytest.raises(
        ValueError, match=r"ONE example of shape \(5,\).*batch of 4.*vmap.*Problem"
    ):
        mlp(key)(inputs())


def test_call_on_another_shape_is_refused(key):
    with pytest.raises(ValueError, match=r"MLP takes ONE.*got shape \(6,\). Reshape"):
        mlp(key)(jnp.ones(6))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"width": 0}, "MLP: `width` must be an integer of at least 1"),
        ({"depth": -1}, "MLP: `depth` must be an integer of at least 0"),
        ({"activation": "rellu"}, "mean 'relu'"),
        ({"parameterization": "meanfield"}, "mean 'mean_field'"),
    ],
)
def test_invalid_network_is_refused(key, kwargs, message):
    with pytest.raises(ValueError, match=message):
        mlp(key, **kwargs)
