"""Modules that use their weights in every way the structured method must survive.

Each entry of `CASES` builds (model, x): a small module and a few examples. Most are one
function over a dictionary of arrays, so that what happens to a weight is on one line.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

import ntkflow as nf

Case = tuple[Any, Array]
CASES: dict[str, Callable[[Array], Case]] = {}
D = 4


class Formula(eqx.Module):
    """A function of named arrays and one example."""

    weights: dict[str, Array]
    function: Callable[..., Array] = eqx.field(static=True)

    def __call__(self, x: Array) -> Array:
        return self.function(self.weights, x)


def case(function: Callable[[Array], Case]) -> Callable[[Array], Case]:
    CASES[function.__name__] = function
    return function


def formula(**shapes: tuple[int, ...]) -> Callable[..., Any]:
    """Register a function (weights, x [4]) -> [K]; its weights are normal."""

    def register(function: Callable[..., Array]) -> Callable[..., Array]:
        def build(key: Array) -> Case:
            keys = jax.random.split(key, len(shapes) + 1)
            weights = {
                name: jax.random.normal(k, shape) * 0.7
                for (name, shape), k in zip(shapes.items(), keys[1:], strict=True)
            }
            return Formula(weights, function), jax.random.normal(keys[0], (3, D))

        CASES[function.__name__] = build
        return function

    return register


@jax.custom_jvp
def bent(w: Array, h: Array) -> Array:
    """W h, with a derivative rule that is not the derivative of W h."""
    return w @ h


@bent.defjvp
def _(primals: Any, tangents: Any) -> Any:
    (w, h), (dw, dh) = primals, tangents
    return w @ h, 2.0 * (dw @ h) + 3.0 * (w @ dh)


@jax.custom_vjp
def clipped(w: Array, h: Array) -> Array:
    """W h, whose backward pass clips."""
    return w @ h


clipped.defvjp(
    lambda w, h: (w @ h, (w, h)),
    lambda saved, g: (
        jnp.clip(jnp.outer(g, saved[1]), -0.1, 0.1),
        saved[0].T @ g,
    ),
)


@formula(w=(5, D), b=(5,), scale=(5, 1), shift=(1, 3))
def repeated(p: dict[str, Array], x: Array) -> Array:
    """Leaves repeated over positions: a bias, a scale of rows, a shift of columns."""
    tokens = jnp.stack([x, x**2, jnp.sin(x)], axis=1)  # [D, 3]
    h = p["w"] @ tokens + jnp.broadcast_to(p["b"][:, None], (5, 3))
    h = jnp.broadcast_to(p["scale"], (5, 3)) * jnp.tanh(h)
    return jnp.tanh(h - jnp.broadcast_to(p["shift"], (5, 3))).sum(axis=1)[:3]


@formula(b=(2, 3))
def repeated_both_ways(p: dict[str, Array], x: Array) -> Array:
    """A leaf repeated as it is and transposed: rows are told apart by their order."""
    x = x[:, None, None]
    plain = jnp.tanh(x + jnp.broadcast_to(p["b"], (D, 2, 3)))
    transposed = jnp.tanh(x**2 + jnp.broadcast_to(p["b"].T, (D, 3, 2)))
    return plain.sum(axis=(0, 1)) + transposed.sum(axis=(0, 2))


@formula(w=(D, D), b=(D,), c=(2, D))
def repeated_in_scan(p: dict[str, Array], x: Array) -> Array:
    def step(h: Array, row: Array) -> tuple[Array, None]:
        both = jnp.stack([h, row], axis=0) @ p["w"].T
        both += jnp.broadcast_to(p["b"], (2, D)) + 0.5 * p["c"]
        return jnp.tanh(both).sum(axis=0), None

    return jax.lax.scan(step, x, jnp.stack([x, x**2, -x]))[0]


@formula(w=(3, D))
def linear(p, x):
    return p["w"] @ x


@formula(w=(D, 3))
def weight_on_the_right(p, x):
    return jnp.tanh(x @ p["w"])


@formula(w=(5, D), b=(5,), v=(3, 5), c=(3,))
def two_layers(p, x):
    return p["v"] @ jnp.tanh(p["w"] @ x + p["b"]) + p["c"]


@formula(w=(D, D), v=(3, D))
def recurrence_unrolled(p, x):
    h = x
    for _ in range(3):
        h = jnp.tanh(p["w"] @ h + x)
    return p["v"] @ h


@formula(w=(D, D), b=(D,))
def recurrence_in_scan(p, x):
    def step(h, _):
        return jnp.tanh(p["w"] @ h + p["b"]), None

    return jax.lax.scan(step, x, None, length=3)[0]


@formula(w=(5, D))
def tied_to_its_transpose(p, x):
    return p["w"].T @ jnp.tanh(p["w"] @ x)


@formula(w=(3, D))
def matmul_and_elsewhere(p, x):
    return jnp.tanh(p["w"] @ x) + jnp.sum(p["w"] ** 2)


@formula(w=(3, D), g=(3, 1))
def weight_norm(p, x):
    return jnp.tanh((p["g"] * p["w"] / jnp.linalg.norm(p["w"], axis=1)[:, None]) @ x)


@formula(w=(D, 3))
def scaled_transposed_negated(p, x):
    return jnp.tanh(-(2.0 * p["w"].T / jnp.sqrt(3.0)) @ x)


@formula(w=(3, D), b=(3,))
def subtracted(p, x):
    return jnp.tanh(p["b"] - 3.0 * (p["w"] @ x) / 2.0)


@formula(w=(3, D), b=(3,))
def opposite_signs(p, x):
    w, b = p["w"], p["b"]
    h = jnp.tanh(w @ x - w @ jnp.sin(x) + b)
    return jnp.tanh(-w @ jnp.cos(x) - b) + h + (b - w @ x**2) / 3.0


@formula(w=(3, D), s=())
def scaled_by_a_parameter(p, x):
    return jnp.tanh((p["s"] * p["w"]) @ x) + p["s"] * (p["w"] @ x)


@formula(w=(3, D))
def scaled_by_the_example(p, x):
    return jnp.tanh((jnp.sum(x) * p["w"]) @ x / (1.0 + jnp.sum(x**2)))


@formula(w=(3, D))
def scaled_by_itself(p, x):
    return (p["w"] * p["w"][0, 0]) @ x


@formula(w=(3, D))
def in_low_precision(p, x):
    y = p["w"].astype(jnp.float32) @ x.astype(jnp.float32)
    return jnp.tanh(y).astype(x.dtype)


@formula(w=(3, D))
def disjoint_slices(p, x):
    return jnp.tanh(p["w"][:, :2] @ x[:2]) + p["w"][:, 2:] @ x[2:]


@formula(w=(3, D))
def overlapping_slices(p, x):
    return jnp.tanh(p["w"][:, :3] @ x[:3]) + p["w"][:, 1:] @ x[1:]


@formula(w=(3, D))
def slice_and_whole(p, x):
    return jnp.tanh(p["w"] @ x) + p["w"][:, :1] @ x[:1]


@formula(w=(3, D, D))
def stacked_layers(p, x):
    for i in range(3):
        x = jnp.tanh(p["w"][i] @ x)
    return x


@formula(w=(3, D, D))
def stacked_layers_in_scan(p, x):
    return jax.lax.scan(lambda h, w: (jnp.tanh(w @ h), None), x, p["w"])[0]


@formula(w=(2, D, D), v=(D, D), b=(D,))
def nested_scans(p, x):
    def layer(h, w):
        def step(c, scale):
            return jnp.tanh(w @ c + scale * (p["v"] @ x) + p["b"]), None

        return jax.lax.scan(step, h, jnp.arange(1.0, 4.0))[0], None

    return jax.lax.scan(layer, x, p["w"], reverse=True)[0]


@formula(w=(3, D, D))
def scanned_twice(p, x):
    def layer(h, w):
        return jnp.tanh(w @ h), jnp.sum(h)

    h, sums = jax.lax.scan(layer, x, p["w"])
    return jax.lax.scan(layer, h * jnp.mean(sums), p["w"])[0]


@formula(w=(D, D))
def carried(p, x):
    def step(carry, _):
        w, h = carry
        return (0.5 * w, jnp.tanh(w @ h)), None

    return jax.lax.scan(step, (p["w"], x), None, length=3)[0][1]


@formula(w=(3, D))
def collected(p, x):
    h, rows = jax.lax.scan(lambda h, w: (h + jnp.tanh(w * x), w), x, p["w"])
    return h + rows[1]


@formula(w=(D, D))
def constant_operand_in_scan(p, x):
    return jax.lax.scan(lambda h, s: (jnp.tanh(h) + s * (p["w"] @ x), None), x, x)[0]


@formula(w=(D, D))
def scaled_by_the_iteration(p, x):
    return jax.lax.scan(lambda h, s: (jnp.tanh((s * p["w"]) @ h), None), x, x)[0]


@formula(w=(D, D))
def heads_and_whole(p, x):
    heads = jnp.einsum("hio,ho->hi", p["w"].reshape(2, 2, D), jnp.stack([x, x**2]))
    return jnp.tanh(heads.ravel()) + p["w"] @ x


@formula(w=(5, D))
def looked_up(p, x):
    found = p["w"][jnp.array([1, 4, 1])] * x[None]
    missing = jnp.take(p["w"], jnp.array([2, 7]), axis=0, mode="fill", fill_value=0)
    nearest = jnp.take(p["w"], jnp.array([[4, 7]]), axis=0, mode="clip")
    row = jax.lax.dynamic_index_in_dim(p["w"], jnp.argmax(x), keepdims=False)
    return jnp.tanh(jnp.sum(found, 0) + jnp.sum(missing, 0) * row - nearest[0, 1])


@formula(w=(D, D))
def looked_up_and_multiplied(p, x):
    return jnp.tanh(p["w"][jnp.array([1, 3])] @ x).sum() * (p["w"] @ x)


def convolve(w, h, **options):
    """One channel over a grid of four by one, kernel [out, in, height, width]."""
    given = {"window_strides": (1, 1), "padding": ((1, 2), (0, 0))} | options
    return jax.lax.conv_general_dilated(h.reshape(1, -1, D, 1)[:, :1], w, **given)


@formula(w=(3, 1, 2, 1))
def convolved_twice(p, x):
    h = jnp.tanh(convolve(p["w"], x, window_strides=(2, 1)))
    again = convolve(p["w"], x, rhs_dilation=(2, 1), lhs_dilation=(3, 1))
    cropped = convolve(p["w"], x, padding=((-1, 1), (0, 0)))
    return (
        jnp.sum(h, (0, 2, 3)) + jnp.mean(jnp.sin(again), (0, 2, 3)) * cropped[0, 0, 0]
    )


@formula(w=(3, 1, D, 1))
def convolved_and_multiplied(p, x):
    h = jnp.tanh(convolve(p["w"], x))
    return jnp.sum(h, (0, 2, 3)) + p["w"][:, 0, :, 0] @ x


@formula(w=(3, 1, 2, 1))
def flipped(p, x):
    return jnp.sum(jnp.tanh(convolve(p["w"][:, :, ::-1], x)), (0, 2, 3))


@formula(w=(2, 2 * D))
def reshaped(p, x):
    return jnp.tanh(p["w"].reshape(D, D) @ x)


@formula(w=(D, D))
def reshaped_twice_and_whole(p, x):
    w = p["w"]
    folded = w.T.reshape(2, 2 * D).reshape(D, D)
    return jnp.tanh(folded @ x) + jnp.tanh(w @ x)


@formula(w=(D, 2, 2))
def contracted_over_two_axes(p, x):
    grid = jnp.outer(x[:2], x[2:])
    return jnp.tanh(jnp.tensordot(p["w"], grid, axes=((2, 1), (0, 1))))


@formula(w=(D, D))
def times_itself(p, x):
    return (p["w"] @ p["w"]) @ x


@formula(w=(3, D))
def times_its_transpose(p, x):
    return jnp.tanh((p["w"] @ p["w"].T) @ x[:3])


@formula(w=(3, D), v=(D, D))
def product_of_weights_first(p, x):
    return (p["w"] @ p["v"]) @ x


@formula(w=(3, D), v=(3, D))
def sum_of_weights(p, x):
    return jnp.tanh((p["w"] + p["v"]) @ x)


@formula(w=(3, D))
def shifted_weight(p, x):
    return jnp.tanh((p["w"] + 1.0) @ x)


@formula(w=(2, 3, D))
def batched_heads(p, x):
    return jnp.tanh(
        jnp.einsum("hio,ho->hi", p["w"], x[None] * jnp.ones((2, 1)))
    ).ravel()


@formula(w=(3, D))
def elementwise(p, x):
    return jnp.sum(jnp.tanh(p["w"] * x[None, :]), axis=1)


@formula(w=(3, D), b=(3,))
def bias_as_output(p, x):
    del x
    return p["b"]


@formula(w=(3, D), u=(2, 2))
def unused_and_dead(p, x):
    _ = jnp.tanh(p["u"]) @ x[:2]
    return p["w"] @ x


@formula(w=(3, D))
def stopped_and_not(p, x):
    return jnp.tanh(p["w"] @ x) * (jax.lax.stop_gradient(p["w"]) @ x)


@formula(w=(3, D))
def square_of_preactivation(p, x):
    h = p["w"] @ x
    return h * h + jnp.mean(h)


@formula(w=(5, 2), b=(5,), v=(3, 5))
def tokens(p, x):
    h = jax.vmap(lambda t: jnp.tanh(p["w"] @ t + p["b"]))(x.reshape(2, 2))
    return p["v"] @ jnp.mean(h, axis=0)


@formula(w=(2, 2), v=(2, 3))
def tokens_on_the_right(p, x):
    h = x.reshape(2, 2)
    for _ in range(2):
        h = jnp.tanh(h @ p["w"])
    return (h @ p["v"])[0]


@formula(w=(D, D))
def in_cond(p, x):
    return jax.lax.cond(x[0] > 0, lambda: jnp.tanh(p["w"] @ x), lambda: p["w"].T @ x)


@formula(w=(D, D), b=(D,))
def in_checkpoint(p, x):
    block = jax.checkpoint(lambda w, b, h: jnp.tanh(w @ h + b))
    return block(p["w"], p["b"], block(p["w"], p["b"], x))


@formula(w=(D, D), v=(3, D))
def in_nested_jit(p, x):
    inner = jax.jit(lambda w, h: jnp.tanh(w @ h))
    outer = jax.jit(lambda w, h: inner(w, inner(w, h)) + h)
    return p["v"] @ outer(p["w"], outer(p["w"], x))


@formula(w=(D, D), v=(3, D))
def custom_jvp_with_a_weight(p, x):
    return p["v"] @ jnp.tanh(bent(p["w"], x))


@formula(w=(D, D), v=(D, D), u=(3, D))
def custom_jvp_between_weights(p, x):
    fixed = jnp.eye(D)
    return p["u"] @ bent(fixed, jnp.tanh(p["w"] @ jax.nn.relu(p["v"] @ x)))


@formula(w=(D, D), v=(3, D))
def custom_vjp_with_a_weight(p, x):
    return p["v"] @ jnp.tanh(clipped(p["w"], x))


@formula(w=(D, D))
def in_a_map(p, x):
    return jax.lax.map(lambda row: jnp.tanh(row @ x), p["w"])


@formula(w=(D, D), b=(D,))
def in_a_fori_loop(p, x):
    return jax.lax.fori_loop(0, 3, lambda _, h: jnp.tanh(p["w"] @ h) + p["b"], x)


@formula(w=(3, D))
def derivative_in_x(p, x):
    return jax.grad(lambda z: jnp.sum(jnp.tanh(p["w"] @ z)))(x)


class TwiceShared(eqx.Module):
    """Two layers with one weight, tied by `eqx.nn.Shared`."""

    shared: eqx.nn.Shared
    bias: Array

    def __init__(self, key):
        layers = (eqx.nn.Linear(D, D, key=key), eqx.nn.Linear(D, D, key=key))
        self.shared = eqx.nn.Shared(
            layers, where=lambda pair: pair[1].weight, get=lambda pair: pair[0].weight
        )
        self.bias = jnp.ones(D)

    def __call__(self, x):
        first, second = self.shared()
        return second(jnp.tanh(first(x)) + self.bias)


@case
def shared_module(key):
    return TwiceShared(key), jax.random.normal(key, (3, D))


@case
def equinox_mlp(key):
    model = eqx.nn.MLP(D, 3, 8, 3, activation=jax.nn.relu, key=key)
    return model, jax.random.normal(key, (3, D))


@case
def ntk_mlp(key):
    model = nf.models.MLP(D, 3, 8, 2, key=key)
    return model, jax.random.normal(key, (3, D))


@case
def antisymmetric_and_scaled(key):
    model = nf.models.Antisymmetric(nf.models.MLP(D, 3, 6, 1, key=key))
    return nf.models.Scaled(model, 3.0), jax.random.normal(key, (3, D))


@case
def weight_norm_module(key):
    model = eqx.nn.Sequential([
        eqx.nn.WeightNorm(eqx.nn.Linear(D, 5, key=key)),
        eqx.nn.Lambda(jnp.tanh),
        eqx.nn.Linear(5, 3, key=key),
    ])
    return model, jax.random.normal(key, (3, D))


@case
def normalizations(key):
    model = eqx.nn.Sequential([
        eqx.nn.Linear(D, 8, key=key),
        eqx.nn.LayerNorm(8),
        eqx.nn.Lambda(eqx.nn.PReLU()),
        eqx.nn.RMSNorm(8),
        eqx.nn.GroupNorm(2, 8),
        eqx.nn.Linear(8, 3, key=key),
    ])
    return model, jax.random.normal(key, (3, D))


@case
def convolutions(key):
    k1, k2, k3 = jax.random.split(key, 3)
    model = eqx.nn.Sequential([
        eqx.nn.Conv2d(2, 4, 3, padding=1, key=k1),
        eqx.nn.Lambda(jnp.tanh),
        eqx.nn.Conv2d(4, 4, 3, stride=2, groups=2, key=k2),
        eqx.nn.ConvTranspose2d(4, 2, 2, key=k3),
        eqx.nn.Lambda(lambda h: jnp.mean(h, axis=(1, 2))),
    ])
    return model, jax.random.normal(key, (2, 2, 5, 5))


class Attention(eqx.Module):
    """Self-attention over two tokens, read out at the first."""

    attention: eqx.nn.MultiheadAttention
    readout: eqx.nn.Linear

    def __init__(self, key):
        self.attention = eqx.nn.MultiheadAttention(2, 4, key=key)
        self.readout = eqx.nn.Linear(4, 2, key=key)

    def __call__(self, x):
        return self.readout(self.attention(x, x, x)[0])


@case
def attention(key):
    return Attention(key), jax.random.normal(key, (3, 2, 4))


class Recurrent(eqx.Module):
    """A GRU over three steps, in a scan or unrolled."""

    cell: eqx.nn.GRUCell
    unrolled: bool = eqx.field(static=True)

    def __call__(self, x):
        h = jnp.zeros(3, x.dtype)
        if self.unrolled:
            for row in x:
                h = self.cell(row, h)
            return h
        return jax.lax.scan(lambda h, row: (self.cell(row, h), None), h, x)[0]


@case
def gru_in_scan(key):
    cell = eqx.nn.GRUCell(2, 3, key=key)
    return Recurrent(cell, unrolled=False), jax.random.normal(key, (3, 3, 2))


@case
def gru_unrolled(key):
    cell = eqx.nn.GRUCell(2, 3, key=key)
    return Recurrent(cell, unrolled=True), jax.random.normal(key, (3, 3, 2))


@case
def grouped_convolution_of_channels_last(key):
    def function(p, x):
        numbers = ("NHWC", "HWIO", "NHWC")
        h = jax.lax.conv_general_dilated(
            x[None],
            p["w"],
            (1, 2),
            "SAME",
            dimension_numbers=numbers,
            feature_group_count=2,
        )
        h = jax.lax.conv_general_dilated(
            jnp.tanh(h),
            p["w"],
            (1, 1),
            "VALID",
            dimension_numbers=numbers,
            feature_group_count=2,
        )
        return jnp.sum(jnp.tanh(h), (0, 1, 2))

    model = Formula({"w": jax.random.normal(key, (2, 3, 2, 4))}, function)
    return model, jax.random.normal(key, (3, 4, 6, 4))


@case
def convolution_in_scan(key):
    def function(p, x):
        def layer(h, w):
            h = jax.lax.conv_general_dilated(h, w, (1,), "SAME")
            return jnp.tanh(h), None

        return jnp.mean(jax.lax.scan(layer, x[None], p["w"])[0], (0, 2))

    model = Formula({"w": jax.random.normal(key, (3, 2, 2, 3))}, function)
    return model, jax.random.normal(key, (3, 2, 5))


@case
def words_in_scan(key):
    def function(p, x):
        def step(h, word):
            return jnp.tanh(p["v"] @ h + 0.5 * p["w"][word]), None

        return jax.lax.scan(step, jnp.ones(3), x)[0]

    weights = {"w": jax.random.normal(key, (6, 3)), "v": jnp.eye(3)}
    return Formula(weights, function), jax.random.randint(key, (3, 5), 0, 6)


class Words(eqx.Module):
    """Embedded integers, averaged and read out."""

    embedding: eqx.nn.Embedding
    readout: eqx.nn.Linear

    def __init__(self, key):
        self.embedding = eqx.nn.Embedding(6, 4, key=key)
        self.readout = eqx.nn.Linear(4, 3, key=key)

    def __call__(self, x):
        return self.readout(jnp.tanh(jnp.mean(jax.vmap(self.embedding)(x), axis=0)))


@case
def embedding(key):
    return Words(key), jax.random.randint(key, (3, 5), 0, 6)
