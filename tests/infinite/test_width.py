"""Finite networks approach the limit as width^(−½): every layer, every activation."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkflow as nf
from ntkflow import infinite as inf
from ntkflow.infinite._finite import Chain
from tests.infinite.approach import SEEDS, WIDTHS, check_approach

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cheaply_compiled")]

W, B = 1.2, 0.2
SCALES = {"w_std": W, "b_std": B}


ACTIVATIONS = {
    "abs": inf.Abs(),
    "cos": inf.Cos(0.9, 0.7, 0.2),
    "elu": inf.Elu(),
    "erf": inf.Erf(1.3, 0.7, 0.4),
    "exponential": inf.Exponential(0.9, 0.3),
    "gabor": inf.Gabor(),
    "gaussian": inf.Gaussian(1.1, 0.7),
    "gelu": inf.Gelu(),
    "hermite": inf.Hermite(2),
    "leaky": inf.LeakyRelu(0.3),
    "monomial": inf.Monomial(2),
    "polynomial": inf.Polynomial([0.3, -1.0, 0.2]),
    "rbf": inf.Rbf(0.3),
    "rectified": inf.RectifiedMonomial(2),
    "relu": inf.Relu(),
    "sigmoid": inf.Sigmoid(),
    "sigmoid-like": inf.SigmoidLike(),
    "sign": inf.Sign(),
    "silu": inf.Silu(),
    "sin": inf.Sin(1.2, 0.8, 0.5),
    "softplus": inf.Softplus(),
    "step": inf.Step(),
    "tanh": inf.Tanh(),
    "user": inf.Elementwise(lambda x: x * jnp.exp(-(x**2))),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_networks_of_every_activation_approach_the_limit(name, key):
    """A network written down here; units beyond the first `n` are idle.

    Its second activation is bounded, so that powers do not fluctuate too much to tell.
    """
    activation, widest = ACTIVATIONS[name], int(WIDTHS[-1])
    x = jax.random.normal(key, (3, 4))

    def features(params, x, n):
        (w0, b0), (w1, b1) = params
        kept = (jnp.arange(float(widest)) < n).astype(float)
        z = activation.function(W * w0 @ x / 2 + B * b0) * kept
        return jax.scipy.special.erf(W * w1 @ z / jnp.sqrt(n) + B * b1) * kept

    def kernels(params, out, n):
        at, back = jax.vjp(
            lambda params: jax.vmap(features, (None, 0, None))(params, x, n), params
        )
        nngp = W**2 * at @ at.T / n + B**2
        last = W * out / jnp.sqrt(n)
        (slopes,) = jax.vmap(back)(jnp.einsum("ij,k->ijk", jnp.eye(3), last))
        parts = [leaf.reshape(3, -1) for leaf in jax.tree.leaves(slopes)]
        return nngp, sum((part @ part.T for part in parts), nngp)

    def draw(key):
        sizes = (widest, 4), (widest,), (widest, widest), (widest,), (widest,)
        w0, b0, w1, b1, out = map(jax.random.normal, jax.random.split(key, 5), sizes)
        params = (w0, b0), (w1, b1)
        return jax.vmap(lambda n: kernels(params, out, n))(jnp.asarray(WIDTHS, float))

    drawn = jax.jit(lambda keys: jax.lax.map(draw, keys))(jax.random.split(key, SEEDS))
    network = [inf.Dense(W, B), activation, inf.Dense(W, B), inf.Erf()]
    limits = inf.Sequential([*network, inf.Dense(W, B)])(x)
    for samples, limit in zip(drawn, limits, strict=True):
        check_approach(np.swapaxes(samples, 0, 1), limit)


def dense(**options):
    return inf.Dense(**SCALES, **options)


READOUT = inf.Dense(W, B, width=1)


def branch(activation):
    return inf.Sequential([activation, dense()])


SCORES = {"w_query_std": 0.8, "w_key_std": 0.8, "b_std": 0.4}
NEAR = np.array([[1.0, 0.5, 0.2], [0.5, 1.0, 0.5], [0.2, 0.5, 1.0]])
GRAPH = np.array([[0.0, 1.0, 0.5], [1.0, 0.3, 2.0], [0.5, 2.0, 0.0]]) / 2
LAYERS = {
    "units": (
        [
            dense(parameterization="standard"),
            inf.LayerNorm(),
            inf.Relu(),
            inf.Dropout(0.7, "mean"),
            dense(),
            inf.Residual(branch(inf.Relu()), 0.7),
        ],
        (4,),
    ),
    "products": (
        [
            dense(),
            inf.Product([branch(inf.Relu()), branch(inf.Erf())]),
            inf.Dropout(0.9, "shared"),
        ],
        (4,),
    ),
    "sums": (
        [dense(), inf.Sum([branch(inf.Relu()), branch(inf.Erf())]), inf.Erf()],
        (4,),
    ),
    "image": (
        [
            inf.Conv((3, 2), 1, "CIRCULAR", **SCALES),
            inf.Relu(),
            inf.AvgPool(2, 1),
            inf.ConvLocal(2, 1, "VALID", **SCALES),
            inf.Relu(),
            inf.SumPool((1, 2), 1, "SAME"),
            inf.GlobalAvgPool(),
        ],
        (2, 3, 3),
    ),
    "transposed": (
        [
            inf.ConvTranspose(2, 2, **SCALES),
            inf.LayerNorm(over_positions=True),
            inf.Relu(),
            inf.GlobalSumPool(),
        ],
        (2, 2),
    ),
    "sequence": (
        [
            inf.Conv(3, 1, "SAME", 2, **SCALES),
            inf.InstanceNorm(),
            inf.Relu(),
            inf.ImageResize(3),
            inf.Aggregate(GRAPH),
            dense(),
            inf.Relu(),
            inf.Index(slice(0, 3, 2)),
            inf.Flatten(),
        ],
        (2, 4),
    ),
    "volume": (
        [inf.Conv(2, 1, "VALID", **SCALES), inf.Relu(), inf.Flatten()],
        (2, 2, 3, 2),
    ),
    "linear attention": (
        [
            dense(),
            inf.PositionalEmbedding(0.7, NEAR),
            inf.Attention(**SCORES, positional=inf.PositionalEmbedding(0.5)),
            inf.Relu(),
            inf.GlobalAvgPool(),
        ],
        (2, 3),
    ),
}


def draw(layers, shape, width, x, key, seed=None):
    """Kernels of finite networks, drawn from the key and the width.

    The NNGP kernel is the readout's for the features of one draw, which fluctuates
    less than products of outputs do.
    """

    def kernels(key):
        model, _ = inf.Sequential([*layers, READOUT]).build(shape, width, key=key)
        features = jax.vmap(Chain(model.layers[:-1]))(x)
        nngp = W**2 * features @ features.T / features.shape[1] + B**2
        return nngp, nf.ntk(model, x)

    keys = jax.random.split(jax.random.fold_in(key, seed or width), SEEDS)
    return eqx.filter_jit(jax.lax.map)(kernels, keys)


@pytest.mark.parametrize("name", LAYERS)
def test_networks_of_every_layer_approach_the_limit(name, key):
    layers, shape = LAYERS[name]
    x = jax.random.normal(key, (2, *shape))
    drawn = [draw(layers, shape, width, x, key) for width in map(int, WIDTHS)]
    limits = inf.Sequential([*layers, READOUT])(x)
    for *samples, limit in zip(*drawn, limits, strict=True):
        check_approach(np.asarray(samples), limit)


def test_many_heads_with_random_scores_approach_the_limit(key):
    """With scores that stay random the limit is one of heads; four units make each."""
    shape = (3, 3)
    x = jax.random.normal(key, (2, *shape))

    def layers(heads):
        attention = inf.Attention(
            **SCORES,
            scaling="sqrt",
            mechanism="identity",
            positional=inf.PositionalEmbedding(0.5, NEAR),
            heads=heads,
            width=heads,
        )
        return [dense(width=4 * heads), attention, inf.GlobalAvgPool()]

    drawn = [draw(layers(n), shape, 4, x, key, seed=n) for n in map(int, WIDTHS)]
    limits = inf.Sequential([*layers(1), READOUT])(x)
    for *samples, limit in zip(*drawn, limits, strict=True):
        check_approach(np.asarray(samples), limit)


def test_joined_embeddings_approach_the_limit(key):
    """Of joined branches the widths are part of the limit, here one to two."""
    x = inf.one_hot(jnp.array([[0, 2, 1], [2, 2, 0]]), 4)

    def layers(width):
        branches = [
            dense(width=width),
            inf.Sequential([inf.Relu(), dense(width=2 * width)]),
        ]
        return [inf.Embedding(0.7), inf.Concatenate(branches), inf.GlobalAvgPool()]

    drawn = [draw(layers(n), (4, 3), n, x, key) for n in map(int, WIDTHS)]
    limits = inf.Sequential([*layers(1), READOUT])(x)
    for *samples, limit in zip(*drawn, limits, strict=True):
        check_approach(np.asarray(samples), limit)
