import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.infinite import (
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    GlobalSumPool,
    Relu,
    Sequential,
    SumPool,
)
from tests.infinite.positions import (
    LEAVES,
    any_moments,
    examples_of,
    flattened,
    input_moments,
    mapped,
    window_matrix,
)
from tests.tolerances import roundoff

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

# Positions, window, strides, no dilation, padding.
WINDOWS = [
    ((7,), (3,), (2,), (1,), "SAME"),
    ((6,), (2,), (1,), (1,), "CIRCULAR"),
    ((4, 5), (2, 3), (2, 1), (1, 1), "VALID"),
    ((3, 4), (2, 2), (2, 2), (1, 1), "CIRCULAR"),
    ((2, 3, 2), (2, 2, 1), (1, 2, 2), (1, 1, 1), "SAME"),
]


def test_pooling_is_the_loop_over_windows(key):
    """Each position over its own window, with zeros for what is outside."""
    before = [any_moments(key, window[0]) for window in WINDOWS]
    sums, averages = (
        [pool(size, s, padding) for _, size, s, _, padding in WINDOWS]
        for pool in (SumPool, AvgPool)
    )

    inner = [
        AvgPool(size, s, padding, normalize_edges=True)
        for _, size, s, _, padding in WINDOWS
    ]

    @jax.jit
    def propagate(before):
        layers = zip(sums, averages, inner, before, strict=True)
        return [[one.propagate(m) for one in these] for *these, m in layers]

    for window, m, (total, average, inside) in zip(
        WINDOWS, before, propagate(before), strict=True
    ):
        matrix, counts = window_matrix(*window)
        assert total.positions == average.positions == counts
        size = matrix.shape[1]
        for leaf in LEAVES:
            summed = mapped(matrix.sum(axis=1), getattr(m, leaf), examples_of(leaf))
            tolerance = roundoff(size**2)
            np.testing.assert_allclose(flattened(total, leaf), summed, tolerance)
            found = flattened(average, leaf)
            np.testing.assert_allclose(found, summed / size**2, tolerance)
            summing = matrix.sum(axis=1)
            mean = summing / summing.sum(axis=1, keepdims=True)
            expected = mapped(mean, getattr(m, leaf), examples_of(leaf))
            np.testing.assert_allclose(flattened(inside, leaf), expected, tolerance)


def test_pooling_maps_moments_like_inputs(key):
    """The finite layer applied to inputs gives the inputs of the moments behind it."""
    layers = [
        AvgPool(2, 1, "SAME"),
        AvgPool(3, 2, "SAME", normalize_edges=True),
        SumPool((3, 2)),
        GlobalAvgPool(),
        GlobalSumPool(),
    ]
    x1, x2 = jax.random.normal(key, (2, 2, 3, 4, 5))

    @jax.jit
    def both(x1, x2):
        found, expected = [], []
        for layer in layers:
            module, shape = layer.build((3, 4, 5), 1, key=key)
            pooled = [jax.vmap(module)(x) for x in (x1, x2)]
            assert pooled[0].shape[1:] == shape
            found.append(layer.propagate(input_moments(x1, x2)))
            expected.append(input_moments(*pooled))
        return found, expected

    for found, expected in zip(*both(x1, x2), strict=True):
        assert found.positions == expected.positions
        for leaf in ("nngp", "own1", "own2"):
            one, other = getattr(found, leaf), getattr(expected, leaf)
            scale = np.abs(other).max()
            np.testing.assert_allclose(one, other, rtol=0, atol=roundoff(400) * scale)


def test_circular_network_does_not_see_where_an_image_starts(key):
    network = Sequential([
        Conv(3, 1, "CIRCULAR"),
        Relu(),
        AvgPool(2, 1, "CIRCULAR"),
        Conv(2, 1, "CIRCULAR", 2),
        Relu(),
        GlobalAvgPool(),
        Dense(),
    ])
    image = jax.random.normal(key, (2, 1, 4, 5))
    turned = jnp.roll(image, (1, 3), axis=(2, 3))
    found = network(jnp.concatenate([image, turned]))
    for kernel in map(np.asarray, found):
        blocks = kernel.reshape(2, 2, 2, 2)
        for block in (blocks[0, :, 1], blocks[1, :, 1]):
            # Equal up to rounding, of which an arc cosine makes the root.
            tolerance = 4 * np.sqrt(roundoff(1))
            np.testing.assert_allclose(block, blocks[0, :, 0], rtol=tolerance)


def test_flattened_network_does_see_it(key):
    """The claim above says something: without the pooling it fails."""
    network = Sequential([Conv(3, 1, "CIRCULAR"), Relu(), Flatten()])
    image = jax.random.normal(key, (1, 1, 4, 5))
    turned = jnp.roll(image, (1, 3), axis=(2, 3))
    found = network(jnp.concatenate([image, turned]))
    assert found.nngp[0, 1] < 0.9 * found.nngp[0, 0]


def test_global_pooling_of_lengths_is_that_of_the_cut(key):
    """Of sequences of 3 and 5 positions among 5, over those alone."""
    lengths1, lengths2 = np.array([3, 5]), np.array([5, 3, 1])
    masks = [jnp.asarray(np.arange(5) < n[:, None]) for n in (lengths1, lengths2)]
    moments = any_moments(key, (5,), masks=tuple(masks))
    layers = (GlobalAvgPool(), GlobalSumPool())
    average, total = jax.jit(lambda m: [x.propagate(m) for x in layers])(moments)
    assert average.positions == ()
    assert average.mask1 is None
    assert not average.pairs
    for i, m in enumerate(lengths1):
        cut = np.asarray(moments.own1)[i, :m, :m]
        np.testing.assert_allclose(average.own1[i], cut.mean(), roundoff(25))
        for j, n in enumerate(lengths2):
            cut = np.asarray(moments.ntk)[i, j, :m, :n]
            np.testing.assert_allclose(average.ntk[i, j], cut.mean(), roundoff(25))
            np.testing.assert_allclose(total.ntk[i, j], cut.sum(), roundoff(25))


def test_average_is_over_what_a_window_holds(key):
    """Masked positions are not counted; zeros beyond the ends are."""
    held = np.arange(6) < np.array([[3], [6]])
    masks = (jnp.asarray(held), jnp.asarray(held[[0, 1, 1]]))
    moments = any_moments(key, (6,), masks=masks)
    out = jax.jit(AvgPool(2).propagate)(moments)
    np.testing.assert_array_equal(out.mask1, [[True, True, False], [True] * 3])
    own = np.asarray(moments.own1)
    np.testing.assert_allclose(out.own1[0, 1, 1], own[0, 2, 2], roundoff(4))
    expected = own[0, 2, :2].mean()
    np.testing.assert_allclose(out.own1[0, 1, 0], expected, roundoff(4))
    np.testing.assert_array_equal(out.own1[0, 2], 0.0)
    np.testing.assert_allclose(out.own1[1, 0, 1], own[1, :2, 2:4].mean(), roundoff(4))


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (lambda: AvgPool(4), (2, 2, 3), "AvgPool: a window that reaches over 4"),
        (lambda: SumPool((2, 2)), (2, 2, 4), "SumPool: window"),
        (lambda: GlobalAvgPool(), (2, 3), "GlobalAvgPool needs inputs with positions"),
        (lambda: AvgPool(), (2, 3), "AvgPool needs inputs with positions"),
        (lambda: AvgPool((2, 0)), None, "`window` must be a positive integer"),
        (lambda: AvgPool(padding="same"), None, "Unknown padding 'same'"),
    ],
)
def test_pooling_that_cannot_be_is_refused(make, shape, message, key):
    with pytest.raises(ValueError, match=message):
        Sequential([make(), Flatten()])(jax.random.normal(key, shape))
