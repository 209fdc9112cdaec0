"""The convolutional network against loops over pixels."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow import models
from tests import tolerances

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

SHAPE = (2, 4, 5)


def convolve(u, weight, bias):
    """Cross-correlation with zero padding, one multiplication at a time."""
    channels, height, width = u.shape
    out, _, size, _ = weight.shape
    before = (size - 1) // 2
    h = np.zeros((out, height, width))
    for o, i, j in np.ndindex(out, height, width):
        h[o, i, j] = bias[o]
        for c, a, b in np.ndindex(channels, size, size):
            row, column = i + a - before, j + b - before
            if 0 <= row < height and 0 <= column < width:
                h[o, i, j] += weight[o, c, a, b] * u[c, row, column]
    return h


def image(seed=1):
    return jax.random.normal(jax.random.key(seed), SHAPE)


@pytest.mark.parametrize("kernel_size", [1, 2, 3])
@pytest.mark.parametrize("parameterization", ["standard", "ntk", "mean_field"])
def test_convolution_matches_the_loop(key, kernel_size, parameterization):
    layer = models.Conv(
        2, 3, kernel_size, parameterization, w_std=1.3, b_std=0.2, key=key
    )
    weight, bias = np.asarray(layer.weight), np.asarray(layer.bias)
    if parameterization != "standard":
        weight, bias = 1.3 * weight / np.sqrt(2 * kernel_size**2), 0.2 * bias
    np.testing.assert_allclose(
        layer(image()),
        convolve(np.asarray(image()), weight, bias),
        rtol=0,
        atol=tolerances.roundoff(2 * kernel_size**2 + 1) * 10,
    )


@pytest.mark.parametrize("pooling", ["average", "flatten"])
def test_cnn_matches_the_loop(key, pooling):
    model = models.CNN(
        SHAPE, 3, 6, 2, activation="tanh", pooling=pooling, w_std=1.3, key=key
    )
    u = np.asarray(image())
    for layer in model.layers:
        scale = 1.3 / np.sqrt(u.shape[0] * 9)
        u = np.tanh(
            convolve(u, scale * np.asarray(layer.weight), 0.1 * np.asarray(layer.bias))
        )
    pooled = u.mean(axis=(1, 2)) if pooling == "average" else u.reshape(-1)
    weight, bias = np.asarray(model.readout.weight), np.asarray(model.readout.bias)
    expected = 1.3 * weight @ pooled / np.sqrt(pooled.size) + 0.1 * bias
    np.testing.assert_allclose(
        eqx.filter_jit(model)(image()), expected, rtol=0, atol=tolerances.roundoff(300)
    )


@pytest.mark.parametrize("pooling", ["average", "flatten"])
def test_mean_field_time_scale_undoes_its_division(key, pooling):
    # f = f_ntk / √c for all parameters, so c J Jᵀ is the kernel of the ntk network.
    ntk, mean_field = (
        models.CNN(SHAPE, 2, 6, 1, 3, "relu", p, pooling, key=key)
        for p in ("ntk", "mean_field")
    )
    np.testing.assert_allclose(
        np.sqrt(models.time_scale(mean_field)) * mean_field(image()),
        ntk(image()),
        rtol=0,
        atol=tolerances.roundoff(300),
    )


def test_time_scale_of_averaged_mean_field_network_is_its_channels(key):
    model = models.CNN(SHAPE, 2, 6, 1, parameterization="mean_field", key=key)
    assert models.time_scale(model) == 6


@pytest.mark.parametrize(
    ("parameterization", "std"), [("standard", 1.5 / np.sqrt(8 * 9)), ("ntk", 1.0)]
)
def test_initial_filters_have_the_stated_variance(key, parameterization, std):
    weight = models.Conv(8, 200, 3, parameterization, w_std=1.5, key=key).weight
    bound = tolerances.standard_errors(np.sqrt(2) * std**2, weight.size)
    assert abs(np.mean(weight**2) - std**2) <= bound


def test_float32_network_stays_float32_under_jit_and_vmap(key):
    model = models.CNN(SHAPE, 2, 3, 2, key=key, dtype=jnp.float32)
    x = jnp.stack([image(1), image(2)]).astype(jnp.float32)
    together = eqx.filter_jit(lambda m, xs: jax.vmap(m)(xs))(model, x)
    assert together.dtype == jnp.float32
    np.testing.assert_allclose(
        together[1], model(x[1]), rtol=0, atol=tolerances.roundoff(100, np.float32)
    )


def test_call_on_batch_or_flat_image_is_refused(key):
    model = models.CNN(SHAPE, 2, 3, 1, key=key)
    with pytest.raises(ValueError, match=r"CNN takes ONE.*batch of 7.*vmap"):
        model(jnp.ones((7, *SHAPE)))
    with pytest.raises(ValueError, match=r"CNN takes ONE.*got shape \(40,\). Reshape"):
        model(jnp.ones(40))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"in_shape": (8, 8)}, r"\(channels, height, width\), got \(8, 8\)"),
        ({"in_shape": (1, 0, 8)}, "`in_shape` must be an integer of at least 1"),
        ({"channels": 0}, "CNN: `channels`"),
        ({"kernel_size": 0}, "CNN: `kernel_size`"),
        ({"pooling": "averge"}, "pooling 'averge'.*mean 'average'"),
        ({"parameterization": "ntp"}, "parameterization 'ntp'"),
    ],
)
def test_invalid_network_is_refused(key, kwargs, message):
    arguments = {"in_shape": SHAPE, "out_size": 2, "channels": 3, "depth": 1, **kwargs}
    with pytest.raises(ValueError, match=message):
        models.CNN(**arguments, key=key)
