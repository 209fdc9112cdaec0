import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.infinite import (
    Dense,
    Dropout,
    Flatten,
    Relu,
    Sequential,
    monte_carlo,
    to_module,
)
from ntkflow.infinite._compute import Examples, moments_of
from ntkflow.infinite._dropout import MASKS
from tests.tolerances import roundoff

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

P, N, C, T = 0.7, 3, 4, 2
INVERTED = [True, False]


@pytest.fixture(scope="module")
def x(key):
    return jax.random.normal(key, (N, C, T))


def moments(x, pairs=False):
    examples = Examples(x, None, jnp.arange(x.shape[0], dtype=jnp.int32))
    return moments_of(examples, examples, pairs)


@pytest.mark.parametrize("inverted", INVERTED)
@pytest.mark.parametrize("mask", MASKS)
def test_one_layer_has_the_factors_of_its_convention(x, mask, inverted):
    plain = x[:, :, 0]
    found = Dropout(P, mask, inverted).propagate(moments(plain))
    apart, together = {
        ("independent", True): (1, 1 / P),
        ("independent", False): (P**2, P),
        ("shared", True): (1 / P, 1 / P),
        ("shared", False): (P, P),
        ("mean", True): (1.0, 1.0),
        ("mean", False): (P**2, P**2),
    }[mask, inverted]
    factor = np.where(np.eye(N, dtype=bool), together, apart)
    gram = plain @ plain.T / C
    np.testing.assert_allclose(found.nngp, factor * gram, rtol=roundoff(4))
    np.testing.assert_allclose(found.own1, np.diag(factor * gram), rtol=roundoff(4))


@pytest.mark.parametrize("inverted", INVERTED)
@pytest.mark.parametrize("mask", ["independent", "shared"])
def test_kernels_are_means_over_masks(x, mask, inverted):
    rng = np.random.default_rng(7)
    draws = 20_000
    # Masks of examples, units and positions; shared ones are the same for examples.
    shape = (draws, 1 if mask == "shared" else N, C, T)
    masked = (rng.random(shape) < P) * np.array(x) / (P if inverted else 1)
    products = np.einsum("dncs,dmct->dnmst", masked, masked) / C
    found = Dropout(P, mask, inverted).propagate(moments(x, pairs=True))
    error = 5 * products.std(0) / draws**0.5
    assert (np.abs(products.mean(0) - found.nngp) <= error).all()
    own = np.stack([found.nngp[i, i] for i in range(N)])
    np.testing.assert_allclose(found.own1, own, rtol=roundoff(4))


def test_equal_examples_in_different_places_have_masks_of_their_own(x):
    twice = jnp.concatenate([x[:1, :, 0]] * 2)
    layers = Sequential([Dense(), Relu(), Dropout(P), Dense(1.0, 0.0)])
    nngp, ntk = layers(twice)
    np.testing.assert_allclose(nngp[0, 0] / nngp[0, 1], 1 / P, rtol=roundoff(8))
    np.testing.assert_allclose(ntk[0, 0] / ntk[0, 1], 1 / P, rtol=roundoff(8))


def test_weight_scaled_relu_layers_multiply_by_keep(x):
    depth = 2
    plain = [Dense(1.4, 0.0), Relu()] * depth
    masked = [Dense(1.4, 0.0), Relu(), Dropout(P, "mean", inverted=False)] * depth
    end = Dense(1.0, 0.0)
    without = Sequential([*plain, end])(x[:, :, 0])
    found = Sequential([*masked, end])(x[:, :, 0])
    factor = P ** (2 * depth)
    np.testing.assert_allclose(found.nngp, factor * without.nngp, rtol=roundoff(16))
    np.testing.assert_allclose(found.ntk, factor * without.ntk, rtol=roundoff(16))


def test_bias_of_the_readout_is_not_masked(x):
    b_std = 0.3
    first = [Dense(), Relu()]
    without = Sequential([*first, Dense(1.0, b_std)])(x[:, :, 0])
    dropout = Dropout(P, "mean", inverted=False)
    found = Sequential([*first, dropout, Dense(1.0, b_std)])(x[:, :, 0])
    expected = P**2 * (without.ntk - b_std**2) + b_std**2
    np.testing.assert_allclose(found.ntk, expected, rtol=roundoff(16))


def test_shared_mask_is_part_of_the_finite_network(x, key):
    # Linear in every weight, so that the mean has no correction at any width.
    layers = Sequential([Dense(), Dropout(P, "shared"), Flatten(), Dense()])

    def make(key):
        return to_module(layers, (C, T), width=3, key=key)

    expected = layers(x)
    found = monte_carlo(make, x, seeds=4000, key=key)
    assert (jnp.abs(found.nngp - expected.nngp) <= 5 * found.nngp_error).all()
    assert (jnp.abs(found.ntk - expected.ntk) <= 5 * found.ntk_error).all()


def test_finite_dropout_without_masks_is_a_factor(x, key):
    module, shape = Dropout(P, "mean", inverted=False).build((C, T), 8, key=key)
    assert shape == (C, T)
    np.testing.assert_allclose(module(x[0]), P * x[0], rtol=roundoff(2))
    module, _ = Dropout(1.0).build((C, T), 8, key=key)
    np.testing.assert_array_equal(module(x[0]), x[0])


def test_masked_units_are_not_gaussian(x):
    plain = x[:, :, 0]
    with pytest.raises(ValueError, match="Gaussian"):
        Sequential([Dense(), Dropout(P), Relu()]).propagate(moments(plain))
    kept = Sequential([Dense(), Dropout(P, "mean"), Relu()])
    assert not kept.propagate(moments(plain)).gaussian


@pytest.mark.parametrize("keep", [0.0, 1.1, float("nan")])
def test_probability_must_be_one(keep):
    with pytest.raises(ValueError, match="probability"):
        Dropout(keep)


def test_masks_that_cannot_be_are_refused(key):
    with pytest.raises(ValueError, match="independent"):
        Dropout(P, "independant")
    with pytest.raises(ValueError, match="mask='shared'"):
        Dropout(P).build((C,), 8, key=key)
