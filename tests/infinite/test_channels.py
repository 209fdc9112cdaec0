"""Images with their channels last, and shapes that suggest them."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.infinite import Conv, Dense, Flatten, GlobalAvgPool, Relu, Sequential

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

NETWORK = Sequential([Conv(3), Relu(), GlobalAvgPool(), Dense()])
N1, N2, C, HEIGHT, WIDTH = 3, 2, 3, 6, 5


@pytest.fixture(scope="module")
def images(key):
    """Two sets of images, channels last."""
    x = jax.random.normal(key, (N1 + N2, HEIGHT, WIDTH, C))
    return x[:N1], x[N1:]


def first(x):
    return np.transpose(x, (0, 3, 1, 2))


def test_channels_may_come_last(images):
    found = NETWORK(*images, channels_last=True)
    expected = NETWORK(*map(first, images))
    np.testing.assert_array_equal(found.nngp, expected.nngp)
    np.testing.assert_array_equal(found.ntk, expected.ntk)


def test_masks_go_with_positions_wherever_channels_are(images):
    mask = np.ones((N1, HEIGHT, WIDTH), bool)
    mask[0, :2] = mask[1, :, 3:] = False
    found = NETWORK(images[0], mask1=mask, channels_last=True)
    expected = NETWORK(first(images[0]), mask1=mask)
    np.testing.assert_array_equal(found.ntk, expected.ntk)


def test_vectors_have_one_order_only(key):
    x, dense = jax.random.normal(key, (4, 3)), Sequential([Dense()])
    np.testing.assert_array_equal(dense(x, channels_last=True).ntk, dense(x).ntk)


def test_images_that_look_like_channels_last_are_told(images):
    with pytest.warns(
        UserWarning, match=r"6 channels, positions \(5, 3\).*channels_last=True"
    ):
        silent = NETWORK(images[0])
    # Who says so is believed; and then nothing is said.
    np.testing.assert_array_equal(
        NETWORK(images[0], channels_last=False).ntk, silent.ntk
    )


@pytest.mark.parametrize(
    "shape", [(3, 6, 5), (64, 4, 4), (16, 8, 2), (1, 8, 8), (5, 3), (3, 5, 5, 5)]
)
def test_other_shapes_are_told_nothing(shape):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Sequential([Flatten(), Dense()])(jnp.ones((2, *shape)))
