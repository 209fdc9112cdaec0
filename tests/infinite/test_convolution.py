import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkflow as nf
from ntkflow.infinite import (
    AvgPool,
    Conv,
    ConvLocal,
    ConvTranspose,
    Dense,
    Flatten,
    GlobalAvgPool,
    Relu,
    Sequential,
)
from tests.compilation import FUSED
from tests.infinite.positions import (
    LEAVES,
    any_moments,
    at_equal_positions,
    examples_of,
    flattened,
    input_moments,
    mapped,
    window_matrix,
)
from tests.tolerances import roundoff

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

# Positions, kernel size, strides, dilation.
WINDOWS = [
    ((8,), (2,), (3,), (2,)),
    ((5,), (1,), (2,), (1,)),
    ((4, 5), (3, 2), (1, 2), (1, 2)),
    ((3, 2, 3), (2, 2, 3), (1, 1, 2), (1, 1, 1)),
]
W, B = 1.3, 0.4


@pytest.mark.parametrize("padding", ["SAME", "VALID", "CIRCULAR"])
def test_convolution_is_the_loop_over_offsets(padding, key):
    """In one to three dimensions; pairs and equal positions alike, both kernels."""
    before = [any_moments(key, window[0], channels=5) for window in WINDOWS]
    layers = [Conv(size, s, padding, d, w_std=W, b_std=B) for _, size, s, d in WINDOWS]

    @jax.jit
    def propagate(before):
        both = zip(layers, before, strict=True)
        return [(c.propagate(m), c.propagate(at_equal_positions(m))) for c, m in both]

    for window, m, (pairs, equal) in zip(
        WINDOWS, before, propagate(before), strict=True
    ):
        matrix, counts = window_matrix(*window, padding)
        assert pairs.positions == equal.positions == counts
        assert pairs.gaussian
        assert equal.gaussian
        offsets = matrix.shape[1]
        for leaf in LEAVES:
            examples = examples_of(leaf)
            sums = W**2 * mapped(matrix, getattr(m, leaf), examples) / offsets
            if leaf == "ntk":
                sums += W**2 * mapped(matrix, m.nngp, 2) / offsets
            expected = sums + B**2
            tolerance = roundoff(offsets + 6)
            np.testing.assert_allclose(flattened(pairs, leaf), expected, tolerance)
            diagonal = np.diagonal(expected, axis1=-2, axis2=-1)
            np.testing.assert_allclose(flattened(equal, leaf), diagonal, tolerance)


def gradient_kernel(layer, shape, x1, x2):
    """⟨∂h(x, p)/∂θ, ∂h(x', p')/∂θ⟩ of the finite layer with one unit, and h's mean.

    The layer is linear in standard normal parameters: this is E[h h'] as well.
    """
    module, _ = layer.build(shape, 1, key=jax.random.key(3))
    params, static = eqx.partition(module, eqx.is_inexact_array)

    def outputs(params, x):
        return jnp.ravel(eqx.combine(params, static)(x))

    def rows(x):
        jac = jax.vmap(lambda one: jax.jacrev(outputs)(params, one))(x)
        leaves = [leaf.reshape(*leaf.shape[:2], -1) for leaf in jax.tree.leaves(jac)]
        return jnp.concatenate(leaves, axis=-1)

    return jnp.einsum("nip,mjp->nmij", rows(x1), rows(x2))


FINITE = [
    (Conv((3, 2), (2, 1), "SAME", w_std=W, b_std=B), (4, 3)),
    (Conv(2, 1, "CIRCULAR", 3, w_std=W, b_std=B), (5,)),
    (Conv((2, 3), 1, "VALID", w_std=W, use_bias=False), (3, 4)),
    (ConvTranspose((3, 2), (2, 3), "SAME", w_std=W, b_std=B), (2, 2)),
    (ConvTranspose(4, 2, "VALID", w_std=W, b_std=B), (3,)),
    (ConvTranspose(3, 2, "CIRCULAR", w_std=W, b_std=B), (3,)),
    (ConvLocal((3, 2), (2, 1), "SAME", w_std=W, b_std=B), (4, 2)),
    (ConvLocal(2, 1, "CIRCULAR", 2, w_std=W, b_std=B), (4,)),
    (Conv(3, w_std=W, b_std=B, parameterization="standard"), (4,)),
    (ConvTranspose(3, 2, w_std=W, b_std=B, parameterization="standard"), (3,)),
    (ConvLocal(3, w_std=W, b_std=B, parameterization="mean_field"), (4,)),
]


def test_kernels_are_those_of_the_finite_layer(key):
    """Exactly, at every pair of positions: a layer on inputs is linear in its weights.

    In the "ntk" parameterization NNGP kernel and NTK are the same there.
    """
    inputs = [jax.random.normal(key, (4, 2, *positions)) for _, positions in FINITE]

    @jax.jit
    def both(inputs):
        found, expected = [], []
        for (layer, positions), x in zip(FINITE, inputs, strict=True):
            shape = (2, *positions)
            found.append(layer.propagate(input_moments(x[:2], x[2:])))
            expected.append(gradient_kernel(layer, shape, x[:2], x[2:]))
        return found, expected

    for (layer, _), found, expected in zip(FINITE, *both(inputs), strict=True):
        scale = np.abs(expected).max()
        close = {"rtol": 0, "atol": roundoff(20) * scale}
        if layer.weights.parameterization == "mean_field":
            # Each kernel of the readout is 1/fan_in of that of "ntk", as its time is.
            np.testing.assert_allclose(flattened(found, "nngp"), expected, **close)
        np.testing.assert_allclose(flattened(found, "ntk"), expected, **close)
        if layer.weights.parameterization == "ntk":
            np.testing.assert_allclose(flattened(found, "nngp"), expected, **close)


def test_finite_convolution_is_that_of_jax(key):
    """`"SAME"` and `"VALID"` are meant as JAX means them."""
    x = jax.random.normal(key, (2, 5, 6))
    for padding in ("SAME", "VALID"):
        conv = Conv((2, 3), (2, 1), padding, (1, 2), b_std=0.3)
        layer, shape = conv.build(x.shape, 3, key=key)
        expected = jax.lax.conv_general_dilated(
            x[None], layer.weight, (2, 1), padding, rhs_dilation=(1, 2)
        )[0]
        found = layer(x)
        assert found.shape == shape
        bias = 0.3 * np.asarray(layer.bias)[:, None, None]
        expected = np.asarray(expected) / np.sqrt(12) + bias
        np.testing.assert_allclose(found, expected, rtol=0, atol=roundoff(20))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_transposed_convolution_is_that_of_jax(padding, key):
    x = jax.random.normal(key, (2, 4))
    steps = ((3, 2), (2, 3), (1, 2), (3, 1), (5, 3))
    convs = [ConvTranspose(size, s, padding, use_bias=False) for size, s in steps]
    layers = [conv.build(x.shape, 3, key=key) for conv in convs]
    order = ("NCH", "OIH", "NCH")

    @jax.jit
    def both(x):
        found, expected = [], []
        for (layer, _), (size, stride) in zip(layers, steps, strict=True):
            weight = layer.weight / np.sqrt(2 * size)
            direct = jax.lax.conv_transpose(
                x[None], weight, (stride,), padding, dimension_numbers=order
            )
            found.append(layer(x))
            expected.append(direct[0])
        return found, expected

    for (_, shape), found, expected in zip(layers, *both(x), strict=True):
        assert shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=roundoff(20))


def test_circular_transposed_convolution_turns_with_its_input(key):
    """By its stride; and away from the ends it is the one with zeros."""
    x = jax.random.normal(key, (2, 6))
    circular, shape = ConvTranspose(4, 3, "CIRCULAR").build(x.shape, 2, key=key)
    zeros, _ = ConvTranspose(4, 3, "SAME").build(x.shape, 2, key=key)
    assert shape == (2, 18)
    close = {"rtol": 0, "atol": roundoff(20)}
    rolled = jnp.stack([x, jnp.roll(x, 1, axis=1)])
    straight, turned = np.asarray(jax.jit(jax.vmap(circular))(rolled))
    np.testing.assert_allclose(turned, np.roll(straight, 3, axis=1), **close)
    np.testing.assert_allclose(straight[:, 3:-3], zeros(x)[:, 3:-3], **close)


def test_local_convolution_relates_no_two_positions(key):
    """At equal positions it is the convolution, elsewhere both kernels are zero."""
    moments = any_moments(key, (3, 4))
    settings = {"kernel_size": (3, 2), "w_std": W, "b_std": B}

    @jax.jit
    def propagate(moments):
        return (
            ConvLocal(**settings).propagate(moments),
            Conv(**settings).propagate(moments),
            ConvLocal(**settings).propagate(at_equal_positions(moments)),
        )

    local, shared, equal = propagate(moments)
    assert local.pairs
    assert not equal.pairs
    for leaf in LEAVES:
        found, other = flattened(local, leaf), flattened(shared, leaf)
        np.testing.assert_allclose(found, np.eye(12) * other, rtol=roundoff(8))
        diagonal = np.diagonal(other, axis1=-2, axis2=-1)
        np.testing.assert_allclose(flattened(equal, leaf), diagonal, roundoff(8))


def test_flatten_ignores_other_positions(key):
    """Before it, pairs of positions need not be carried."""
    x = jax.random.normal(key, (3, 2, 4, 4))
    stack = [Conv(3), Relu(), Conv(2, 2), Relu(), Flatten(), Dense()]
    network = Sequential(stack)
    assert not network.needs_pairs(False)
    # An example's angle with itself is the root of what rounding makes of zero.
    found = jax.jit(network.__call__, compiler_options=FUSED)(x)
    with_pairs = jax.jit(
        lambda x: network.propagate(input_moments(x, x)), compiler_options=FUSED
    )(x)
    np.testing.assert_allclose(found.nngp, with_pairs.nngp, rtol=roundoff(20))
    np.testing.assert_allclose(found.ntk, with_pairs.ntk, rtol=roundoff(20))


def twin(x, layers):
    """Both kernels of all pairs of examples and positions, by matrices and loops."""
    n, channels, *positions = x.shape
    flat = x.reshape(n, channels, -1)
    nngp = np.einsum("nct,mcs->ntms", flat, flat) / channels
    ntk = np.zeros_like(nngp)
    for kind, *details in layers:
        if kind == "relu":
            q = np.einsum("ntnt->nt", nngp)
            norm = np.sqrt(q[:, :, None, None] * q)
            angle = np.arccos(np.clip(nngp / norm, -1, 1))
            slope = (np.pi - angle) / (2 * np.pi)
            nngp = norm * np.sin(angle) / (2 * np.pi) + slope * nngp
            ntk = slope * ntk
        if kind == "pool":
            matrix, positions = window_matrix(positions, *details)
            average = matrix.mean(axis=1)
            nngp, ntk = (
                np.einsum("at,ntms,bs->namb", average, k, average) for k in (nngp, ntk)
            )
        if kind == "conv":
            w, b, *windows = details
            matrix, positions = window_matrix(positions, *windows)
            across = functools.partial(
                np.einsum, "aot,ntms,bos->namb", matrix, optimize=True
            )
            nngp = w**2 * across(nngp, matrix) / matrix.shape[1] + b**2
            ntk = w**2 * across(ntk, matrix) / matrix.shape[1] + nngp
    return nngp.mean((1, 3)), ntk.mean((1, 3))


def test_deep_network_is_the_slow_recursion(key):
    x = jax.random.normal(key, (3, 2, 4, 5))
    ones = (1, 1)
    layers = [
        ("conv", 1.3, 0.2, (3, 3), ones, ones, "SAME"),
        ("relu",),
        ("pool", (2, 2), (2, 2), ones, "SAME"),
        ("conv", 1.1, 0.3, (2, 2), ones, ones, "CIRCULAR"),
        ("relu",),
        ("conv", 1.5, 0.1, (2, 1), ones, ones, "VALID"),
        ("relu",),
    ]
    network = Sequential([
        Conv(3, w_std=1.3, b_std=0.2),
        Relu(),
        AvgPool(2, 2, "SAME"),
        Conv(2, 1, "CIRCULAR", w_std=1.1, b_std=0.3),
        Relu(),
        Conv((2, 1), 1, "VALID", w_std=1.5, b_std=0.1),
        Relu(),
        GlobalAvgPool(),
    ])
    found = network(x)
    nngp, ntk = twin(np.asarray(x), layers)
    np.testing.assert_allclose(found.nngp, nngp, rtol=roundoff(200))
    # An arc cosine turns the rounding of a cosine near 1 into its root.
    np.testing.assert_allclose(found.ntk, ntk, rtol=4 * np.sqrt(roundoff(1)))


def test_masked_positions_are_as_good_as_missing(key):
    """What the end of a padded sequence holds does not count, nor does its length."""
    network = Sequential([
        Conv(3, w_std=1.3, b_std=0.5),
        Relu(),
        Conv(5, b_std=0.5),
        Relu(),
        GlobalAvgPool(),
        Dense(),
    ])
    x = jax.random.normal(key, (3, 2, 7))
    mask = jnp.broadcast_to(jnp.arange(7) < 5, (3, 7))
    found, expected = network(x, mask1=mask), network(x[:, :, :5])
    np.testing.assert_allclose(found.nngp, expected.nngp, rtol=roundoff(50))
    np.testing.assert_allclose(found.ntk, expected.ntk, rtol=roundoff(50))


def test_masks_follow_the_windows(key):
    held = np.arange(6) < np.array([[1], [4]])
    masks = (jnp.asarray(held), jnp.asarray(held[[0, 1, 1]]))
    moments = any_moments(key, (6,), masks=masks)
    cases = (
        (Conv(3), held),
        (ConvLocal(3, 1, "CIRCULAR"), held),
        (Conv(2, 2, "VALID"), np.array([[1, 0, 0], [1, 1, 0]])),
        (ConvLocal(3, 1, "VALID"), np.array([[1, 0, 0, 0], [1, 1, 1, 1]])),
        (ConvTranspose(2, 2), np.repeat(held, 2, axis=1)),
        (ConvTranspose(3, 1, "VALID"), np.arange(8) < np.array([[3], [6]])),
    )
    outs = jax.jit(lambda m: [layer.propagate(m) for layer, _ in cases])(moments)
    for (_, expected), out in zip(cases, outs, strict=True):
        np.testing.assert_array_equal(out.mask1, expected)
        np.testing.assert_array_equal(out.variance1 > 0, expected)
        np.testing.assert_array_equal(out.mask2, np.asarray(expected)[[0, 1, 1]])


def test_kernel_keeps_single_precision(key):
    x = jax.random.normal(key, (2, 2, 4), jnp.float32)
    stack = [Conv(2), Relu(), ConvTranspose(2, 2), AvgPool(), GlobalAvgPool()]
    found = Sequential(stack)(x)
    assert found.nngp.dtype == found.ntk.dtype == jnp.float32


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (lambda: Conv((3, 3)), (2, 2, 5), "has 2 entries, and the units that it meets"),
        (lambda: Conv(strides=(1,)), (2, 2, 5, 5), r"strides=\(1,\) has 1 entries"),
        (lambda: Conv(4, padding="VALID"), (2, 2, 3), "reaches over 4 positions"),
        (lambda: Conv(2, 1, "VALID", 3), (2, 2, 3), "padding='SAME'"),
        (lambda: Conv(), (2, 3), "needs inputs with positions"),
        (lambda: ConvLocal(), (2, 3), "ConvLocal needs inputs with positions"),
        (lambda: ConvTranspose((2, 2)), (2, 2, 5), "ConvTranspose: kernel_size"),
        (lambda: Conv(0), None, "`kernel_size` must be a positive integer"),
        (lambda: Conv(strides=(1, True)), None, "`strides` must be"),
        (lambda: Conv(padding="SAMe"), None, "Did you mean 'SAME'"),
        (lambda: ConvTranspose(w_std=-1.0), None, "`w_std` must be"),
    ],
)
def test_convolution_that_cannot_be_is_refused(make, shape, message, key):
    with pytest.raises(ValueError, match=message):
        Sequential([make(), Flatten()])(jax.random.normal(key, shape))


def test_convolution_of_a_flattened_input_is_refused(key):
    with pytest.raises(ValueError, match="Conv needs inputs with positions"):
        Sequential([Conv(), Flatten(), Conv()])(jax.random.normal(key, (2, 2, 5)))


def test_finite_network_without_training_has_no_kernel_of_its_own(key):
    """A frozen convolution counts for nothing but what it passes on."""
    layer, _ = Conv(3, trainable=False).build((2, 5), 4, key=key)
    assert isinstance(layer, nf.models.Frozen)
    x = jax.random.normal(key, (2, 2, 5))
    found = Sequential([Conv(3, trainable=False), Flatten()])(x)
    np.testing.assert_array_equal(found.ntk, 0.0)
