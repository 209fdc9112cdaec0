import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkflow as nf
from ntkflow.infinite import Dense, Relu, Sequential
from tests.tolerances import roundoff

pytestmark = pytest.mark.usefixtures("cheaply_compiled")


@pytest.mark.parametrize("parameterization", ["ntk", "standard", "mean_field"])
def test_kernel_of_one_layer_is_that_of_the_layer(parameterization, key):
    """The tangent kernel of a linear layer depends on no weights."""
    x = jax.random.normal(key, (4, 3))
    layer = nf.models.Dense(3, 1, parameterization, 1.3, 0.4, readout=True, key=key)
    found = Sequential([Dense(1.3, 0.4, parameterization)])(x)
    expected = nf.ntk(layer, x)
    np.testing.assert_allclose(found.ntk, expected, rtol=roundoff(4))


def test_layer_that_is_not_trained_passes_the_kernel_below_on(key):
    x = jax.random.normal(key, (4, 3))
    whole = Sequential([Dense(1.2, 0.1), Relu(), Dense(1.4, 0.3, trainable=False)])(x)
    first = Sequential([Dense(1.2, 0.1), Relu(), Dense(1.4, 0.3)])(x)
    np.testing.assert_allclose(whole.nngp, first.nngp)
    np.testing.assert_allclose(whole.ntk, first.ntk - first.nngp, rtol=roundoff(20))


def test_standard_kernel_is_that_of_its_width(key):
    """Only the factors of the layers' own parts differ, n Σ + 1 instead of Σ'."""
    x = jax.random.normal(key, (4, 3))
    stack = [Dense(1.2, 0.1, "standard", width=50), Relu(), Dense(1.4, 0.3, "standard")]
    found = Sequential(stack)(x)
    relu = Sequential([Dense(1.2, 0.1), Relu()])(x)
    slopes = relu.ntk / (1.2**2 * (x @ x.T) / 3 + 0.1**2)
    expected = 50 * relu.nngp + 1 + 1.4**2 * slopes * (x @ x.T + 1)
    np.testing.assert_allclose(found.ntk, expected, rtol=roundoff(50))


def test_scales_are_differentiated(key):
    x = jax.random.normal(key, (3, 2))

    def trace(w):
        return jnp.trace(Sequential([Dense(w, 0.2), Relu(), Dense(w)])(x).ntk)

    w, step = jnp.asarray(1.3), 1e-5
    slope = (trace(w + step) - trace(w - step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(trace)(w), slope, rtol=1e-8)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"w_std": -1.0}, "`w_std` must be a number that is finite"),
        ({"b_std": jnp.ones(2)}, "`b_std` must be a number"),
        ({"parameterization": "ntc"}, "Did you mean 'ntk'"),
        ({"width": 0}, "`width` must be a positive integer"),
    ],
)
def test_layer_that_cannot_be_is_refused(arguments, found):
    with pytest.raises(ValueError, match=found):
        Dense(**arguments)


def test_unknown_width_below_is_told(key):
    stack = Sequential([Dense(), Relu(), Dense(parameterization="standard")])
    with pytest.raises(ValueError, match="give that layer width="):
        stack(jnp.ones((2, 3)))
