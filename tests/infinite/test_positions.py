import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkflow as nf
from ntkflow.infinite import (
    Aggregate,
    Dense,
    Flatten,
    GlobalAvgPool,
    ImageResize,
    Index,
    InstanceNorm,
    Relu,
    Sequential,
)
from tests.infinite.positions import LEAVES, at_equal_positions, input_moments
from tests.tolerances import roundoff

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

GRAPH = np.array([
    [0.0, 1.0, 0.0, 0.5],
    [1.0, 0.0, 2.0, 0.0],
    [0.0, 2.0, 0.0, 1.0],
    [0.5, 0.0, 1.0, 0.3],
])


def test_linear_layers_map_moments_like_inputs(key):
    """The finite layer applied to inputs gives the inputs of the moments behind it."""
    layers = [
        Aggregate(GRAPH),
        Aggregate(GRAPH[1:, :-1], axis=1),
        ImageResize((3, 5), "linear"),
        ImageResize(6, "nearest"),
        ImageResize((4, 2), "cubic", antialias=False),
        InstanceNorm(),
        Index(-1),
        Index((slice(None, None, 2), 1)),
        Index(slice(3, 0, -1)),
        Index((0, 2)),
    ]
    x1, x2 = jax.random.normal(key, (2, 2, 2, 4, 3))

    @jax.jit
    def both(x1, x2):
        found, expected = [], []
        for layer in layers:
            module, shape = layer.build((2, 4, 3), 1, key=key)
            mapped = [jax.vmap(module)(x) for x in (x1, x2)]
            assert mapped[0].shape[1:] == shape
            found.append(layer.propagate(input_moments(x1, x2)))
            expected.append(input_moments(*mapped))
        return found, expected

    for found, expected in zip(*both(x1, x2), strict=True):
        assert found.positions == expected.positions
        for leaf in ("nngp", "own1", "own2"):
            one, other = getattr(found, leaf), getattr(expected, leaf)
            scale = np.abs(other).max()
            np.testing.assert_allclose(one, other, rtol=0, atol=roundoff(100) * scale)


def test_index_of_equal_positions_is_that_of_pairs(key):
    x1, x2 = jax.random.normal(key, (2, 2, 2, 4, 3))
    for layer in (Index((slice(1, None), 2)), Index((0, -1)), Index(2)):
        assert not layer.needs_pairs(False)
        moments = input_moments(x1, x2)
        found = layer.propagate(at_equal_positions(moments))
        expected = layer.propagate(moments)
        assert not found.pairs
        assert found.positions == expected.positions
        if expected.positions:
            expected = at_equal_positions(expected)
        for leaf in LEAVES:
            np.testing.assert_array_equal(getattr(found, leaf), getattr(expected, leaf))


def test_masked_nodes_are_as_good_as_missing(key):
    """A graph of three nodes is one of four with a masked node, whatever its edges."""

    def network(graph):
        layers = [Dense(1.2), Aggregate(graph), Relu()]
        return Sequential([*layers, *layers, GlobalAvgPool(), Dense()])

    x = jax.random.normal(key, (2, 3, 4))
    mask = jnp.arange(4) < 3
    found = network(GRAPH)(x, mask1=jnp.stack([mask, mask]))
    expected = network(GRAPH[:3, :3])(x[:, :, :3])
    np.testing.assert_allclose(found.nngp, expected.nngp, rtol=roundoff(50))
    np.testing.assert_allclose(found.ntk, expected.ntk, rtol=roundoff(50))


def test_graph_is_never_trained(key):
    stack = Sequential([Aggregate(GRAPH), Flatten(), Dense()])
    model, _ = stack.build((2, 4), 1, key=key)
    x = jax.random.normal(key, (3, 2, 4))
    np.testing.assert_allclose(nf.ntk(model, x), stack(x).ntk, rtol=roundoff(30))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Index(4), "chooses none of the 4 positions along axis 0"),
        (lambda: Index((0, slice(2, 2))), "chooses none of the 3 positions"),
        (lambda: Index((0, 0, 0)), "Index needs inputs with positions"),
        (lambda: Index(True), "Index takes integers and slices"),
        (lambda: ImageResize((3, 3, 3)), "ImageResize: size"),
        (lambda: ImageResize(3, "linaer"), "Did you mean 'linear'"),
        (lambda: Aggregate(GRAPH[:3]), r"shape \[S, S\]"),
        (lambda: Aggregate(GRAPH, axis=1), "does not go with 3 positions"),
        (lambda: Aggregate(GRAPH, axis=2), "Aggregate needs inputs with positions"),
        (lambda: Aggregate(GRAPH, axis=-1), "counts axes of positions from 0"),
    ],
)
def test_layer_that_cannot_be_is_refused(make, message, key):
    with pytest.raises(ValueError, match=message):
        Sequential([make(), Flatten()])(jax.random.normal(key, (2, 2, 4, 3)))


def test_resizing_refuses_masks(key):
    x = jax.random.normal(key, (2, 2, 4))
    with pytest.raises(ValueError, match="ImageResize takes no masks"):
        Sequential([ImageResize(3), Flatten()])(x, mask1=jnp.ones((2, 4), bool))
