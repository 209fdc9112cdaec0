import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.infinite import (
    Conv,
    Dense,
    Flatten,
    InstanceNorm,
    LayerNorm,
    Relu,
    Sequential,
)
from tests.infinite.positions import (
    LEAVES,
    any_moments,
    at_equal_positions,
    flattened,
    input_moments,
    window_matrix,
)
from tests.tolerances import roundoff

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

EPS = 1e-3


def test_layer_norm_makes_every_variance_one(key):
    """But for eps; what is left of both kernels is divided alike."""
    moments = any_moments(key, (2, 3), gaussian=True)
    layer = LayerNorm(eps=EPS)

    @jax.jit
    def propagate(m):
        return layer.propagate(m), layer.propagate(at_equal_positions(m))

    found, equal = propagate(moments)
    q1 = np.einsum("npp->np", flattened(moments, "own1"))
    q2 = np.einsum("npp->np", flattened(moments, "own2"))
    divisor = np.sqrt((q1[:, None, :, None] + EPS) * (q2[None, :, None, :] + EPS))
    for leaf in ("nngp", "ntk"):
        expected = flattened(moments, leaf) / divisor
        np.testing.assert_allclose(flattened(found, leaf), expected, roundoff(8))
    own = flattened(found, "own1")
    np.testing.assert_allclose(np.einsum("npp->np", own), q1 / (q1 + EPS), roundoff(8))
    assert found.gaussian
    for leaf in LEAVES:
        diagonal = np.diagonal(flattened(found, leaf), axis1=-2, axis2=-1)
        np.testing.assert_allclose(flattened(equal, leaf), diagonal, roundoff(8))


def test_layer_norm_over_positions_makes_their_mean_variance_one(key):
    """The mean is over the positions that hold something; the profile stays."""
    held = np.arange(5) < np.array([[3], [5]])
    masks = (jnp.asarray(held), jnp.asarray(held[[0, 1, 1]]))
    moments = any_moments(key, (5,), gaussian=True, masks=masks)
    layer = LayerNorm(over_positions=True, eps=EPS)
    found = jax.jit(layer.propagate)(moments)
    own, ntk = np.asarray(moments.own1), np.asarray(moments.ntk)
    own2 = np.asarray(moments.own2)
    mean1 = np.einsum("npp->np", own)[0, :3].mean()
    mean2 = np.einsum("npp->np", own2)[1].mean()
    np.testing.assert_allclose(found.own1[0], own[0] / (mean1 + EPS), roundoff(12))
    divisor = np.sqrt((mean1 + EPS) * (mean2 + EPS))
    np.testing.assert_allclose(found.ntk[0, 1], ntk[0, 1] / divisor, roundoff(12))


def test_layer_norm_of_vectors_keeps_angles_only(key):
    """An input's length, and the scale of the weights, no longer matter."""
    x = jax.random.normal(key, (3, 4))
    long = x * jnp.array([[1.0], [7.0], [0.3]])

    def kernels(w, x):
        stack = [Dense(w, 0.0), LayerNorm(eps=1e-12), Relu(), Dense(1.2)]
        return Sequential(stack)(x)

    found, expected = kernels(2.5, long), kernels(1.0, x)
    np.testing.assert_allclose(found.nngp, expected.nngp, rtol=1e-9)
    np.testing.assert_allclose(found.ntk, expected.ntk, rtol=1e-9)


def test_instance_norm_centers_the_patches(key):
    """After a first convolution it is a kernel of patches minus their mean.

    The mean patch is over the positions of the output, padding included. The bias has
    no part in it.
    """
    x = jax.random.normal(key, (3, 2, 4, 3))
    layers = Sequential([Conv(3, w_std=1.3, b_std=0.7), InstanceNorm()])
    found = jax.jit(lambda x: layers.propagate(input_moments(x, x)))(x)
    matrix, _ = window_matrix((4, 3), (3, 3), (1, 1), (1, 1), "SAME")
    flat = np.asarray(x).reshape(3, 2, 12)
    patches = np.einsum("tos,ncs->ntco", matrix, flat).reshape(3, 12, 18)
    centered = patches - patches.mean(axis=1, keepdims=True)
    expected = 1.3**2 * np.einsum("ntf,msf->nmts", centered, centered) / 18
    close = {"rtol": 0, "atol": roundoff(100)}
    np.testing.assert_allclose(flattened(found, "nngp"), expected, **close)
    np.testing.assert_allclose(flattened(found, "ntk"), expected, **close)
    own = np.einsum("nnts->nts", expected)
    np.testing.assert_allclose(flattened(found, "own2"), own, **close)
    assert found.gaussian


def test_instance_norm_of_lengths_is_of_the_cut(key):
    """Positions that hold nothing are not centered, and count for no mean."""
    lengths1, lengths2 = np.array([3, 5]), np.array([5, 3, 1])
    masks = [jnp.asarray(np.arange(5) < n[:, None]) for n in (lengths1, lengths2)]
    moments = any_moments(key, (5,), masks=tuple(masks))
    found = jax.jit(InstanceNorm().propagate)(moments)

    def centered(moment, m, n):
        expected = np.zeros((5, 5))
        cut = np.asarray(moment)[:m, :n]
        left, right = (np.eye(k) - 1 / k for k in (m, n))
        expected[:m, :n] = left @ cut @ right
        return expected

    close = {"rtol": 0, "atol": roundoff(20)}
    for i, m in enumerate(lengths1):
        own = centered(moments.own1[i], m, m)
        np.testing.assert_allclose(found.own1[i], own, **close)
        for j, n in enumerate(lengths2):
            ntk = centered(moments.ntk[i, j], m, n)
            np.testing.assert_allclose(found.ntk[i, j], ntk, **close)


def test_finite_normalization_is_that_of_its_formula(key):
    x = jax.random.normal(key, (4, 3, 2))
    numbers = np.asarray(x)

    def standardized(axes):
        mean = numbers.mean(axes, keepdims=True)
        return (numbers - mean) / np.sqrt(numbers.var(axes, keepdims=True) + EPS)

    for layer, expected in (
        (LayerNorm(eps=EPS), standardized(0)),
        (LayerNorm(over_positions=True, eps=EPS), standardized((0, 1, 2))),
        (InstanceNorm(), numbers - numbers.mean((1, 2), keepdims=True)),
    ):
        module, shape = layer.build(x.shape, 9, key=key)
        assert shape == x.shape
        np.testing.assert_allclose(module(x), expected, rtol=0, atol=roundoff(50))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: [LayerNorm()], "LayerNorm needs Gaussian units"),
        (lambda: [Dense(), Relu(), LayerNorm()], "put a Dense in front of it"),
        (lambda: [Dense(), Flatten(), InstanceNorm()], "InstanceNorm needs inputs"),
        (lambda: [Dense(), LayerNorm(eps=0.0)], "`eps` must be positive"),
    ],
)
def test_normalization_that_cannot_be_is_refused(make, message, key):
    with pytest.raises(ValueError, match=message):
        Sequential(make())(jax.random.normal(key, (2, 3)))
