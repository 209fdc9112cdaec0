"""The same cases by ntkflow: a table from a case's name to layers."""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ntkflow.infinite import (
    Abs,
    AbstractLayer,
    Aggregate,
    Attention,
    AvgPool,
    Concatenate,
    Conv,
    ConvLocal,
    ConvTranspose,
    Cos,
    Dense,
    Dropout,
    Erf,
    Exponential,
    Flatten,
    Gabor,
    Gaussian,
    Gelu,
    GlobalAvgPool,
    GlobalSumPool,
    Hermite,
    Identity,
    ImageResize,
    Index,
    LayerNorm,
    LeakyRelu,
    Monomial,
    NormalizedExponential,
    Polynomial,
    PositionalEmbedding,
    Product,
    Rbf,
    RectifiedMonomial,
    Relu,
    Residual,
    Sequential,
    SigmoidLike,
    Sign,
    Sin,
    Sum,
    SumPool,
)

Layers = list[AbstractLayer]
W, B = 1.4, 0.3
RELU, ERF = Relu(), Erf()


def dense(units: int = 1, bias: bool = True, parameterization: str = "ntk") -> Dense:
    return Dense(W, B, parameterization, units, use_bias=bias)


def conv(
    size, padding="SAME", strides: Any = 1, units=16, bias=True, by: Any = Conv, **more
):
    scales = {"w_std": W, "b_std": B, "use_bias": bias, "width": units}
    return by(size, strides, padding, **scales, **more)


FLAT = [Flatten(), dense()]
POOLED = [GlobalAvgPool(), dense()]

ACTIVATIONS = {
    "relu": RELU,
    "leaky_relu": LeakyRelu(0.2),
    "abs": Abs(),
    "erf": ERF,
    "erf_scaled": Erf(1.3, 0.7, 0.2),
    "sigmoid_like": SigmoidLike(),
    "gelu": Gelu(),
    "sin": Sin(),
    "sin_shifted": Sin(1.2, 0.8, 0.4),
    "cos": Cos(),
    "cos_shifted": Cos(1.2, 0.8, 0.4),
    "rbf": Rbf(0.6),
    "gaussian": Gaussian(1.2, 0.4),
    "exp": Exponential(0.8, 0.5),
    "exp_normalized": NormalizedExponential(0.7),
    "gabor": Gabor(),
    "sign": Sign(),
    "polynomial": Polynomial((0.3, -0.5, 0.2, 0.1)),
    **{f"monomial_{n}": Monomial(n) for n in range(6)},
    **{f"rectified_{n}": RectifiedMonomial(n) for n in range(6)},
}


def vectors() -> Iterator[tuple[str, Layers]]:
    for name, activation in ACTIVATIONS.items():
        yield name, [dense(32), activation, dense()]
        yield f"{name}_without_bias", [dense(32, False), activation, dense(1, False)]
        first, last = (dense(n, True, "standard") for n in (32, 1))
        yield f"{name}_standard", [first, activation, last]
    # b·LeakyRelu(a/b); the factor b can as well be in the next weights.
    leaky, last = LeakyRelu(-0.5 / 1.3), 1.3 * W
    yield "ab_relu", [dense(), leaky, Dense(last, B)]
    yield "ab_relu_without_bias", [dense(1, False), leaky, Dense(last, use_bias=False)]
    for name in ("relu", "erf"):
        for depth in range(1, 6):
            for which in ("ntk", "standard"):
                layers = []
                for i in range(depth):
                    layers += [dense((32, 64)[i % 2], True, which), ACTIVATIONS[name]]
                yield f"{name}_depth_{depth}_{which}", [*layers, dense(1, True, which)]
    yield "linear", [dense()]
    yield "linear_standard", [dense(1, True, "standard")]
    yield "linear_standard_without_bias", [dense(1, False, "standard")]
    yield "layer_norm", [dense(), LayerNorm(eps=1e-12), Gelu(), dense()]
    yield "layer_norm_eps", [dense(), LayerNorm(eps=0.1), Gelu(), dense()]
    drop = Dropout(0.8)
    yield "dropout", [dense(), RELU, drop, dense()]
    yield "dropout_deep", [dense(), ERF, drop, dense(), RELU, drop, dense()]
    yield "dropout_test", [dense(), RELU, Dropout(0.8, "mean"), dense()]
    block = Residual(Sequential([RELU, dense(16)]))
    yield "residual", [dense(16), block, block, RELU, dense()]
    branches = [dense(8), Sequential([RELU, dense(8)])]
    yield "sum", [dense(), Sum(branches), ERF, dense()]
    branches = [Sequential([dense(8), ERF]), Sequential([dense(8), RELU, dense(8)])]
    yield "product", [Product(branches), dense()]
    join = Concatenate([branches[0], dense(24)])
    yield "concatenate", [join, dense()]
    yield "concatenate_standard", [join, dense(1, True, "standard")]


def unit() -> Iterator[tuple[str, Layers]]:
    for degree in range(7):
        plain = Dense(1.0, use_bias=False)
        yield f"hermite_{degree}", [plain, Hermite(degree), dense()]


def sequences() -> Iterator[tuple[str, Layers]]:
    yield "flatten", FLAT
    yield "dense_flatten", [dense(), RELU, *FLAT]
    kinds = {"conv": Conv, "conv_transpose": ConvTranspose, "conv_local": ConvLocal}
    for padding in ("SAME", "VALID", "CIRCULAR"):
        for kind, by in kinds.items():
            name = f"{kind}_{padding.lower()}"
            yield f"{name}_flatten", [conv(3, padding, by=by), RELU, *FLAT]
            layers = [conv(2), ERF, conv(3, padding, 2, by=by), RELU]
            yield f"{name}_strided_pool", [*layers, *POOLED]
    once = [conv(3), RELU]
    yield "global_sum_pool", [*once, GlobalSumPool(), dense()]
    layers = [conv(3), LayerNorm(over_positions=True, eps=1e-12), RELU]
    yield "layer_norm_positions", [*layers, *once, *POOLED]
    yield "layer_norm_positions_flatten", [*layers, *FLAT]
    yield "dropout_pool", [*once, Dropout(0.8), *POOLED]
    yield "dropout_flatten", [*once, Dropout(0.8), *FLAT]
    for what in ("softmax", "identity", "relu", "abs"):
        layers = [*once, attention(what, False), RELU]
        yield f"attention_{what}_no_bias", [*layers, *POOLED]
        layers = [*once, attention(what), RELU]
        yield f"attention_{what}_bias", [*layers, *POOLED]
    yield "attention_flatten", [attention("softmax"), *FLAT]
    layer = attention("identity", scaling="sqrt")
    yield "attention_random", [layer, RELU, *POOLED]
    for values in (False, True):
        name = f"attention_positional{'_values' if values else ''}"
        added = PositionalEmbedding(0.7)
        yield name, [*once, *placed("softmax", added, values), RELU, *POOLED]
        places = np.arange(6.0)
        apart = (places[:, None] - places[None, :]) ** 2
        added = PositionalEmbedding(0.7, np.exp(-apart / 5))
        layers = [*once, *placed("abs", added, values), RELU, *POOLED]
        yield f"{name}_near", layers
        layers = placed("identity", added, values, "sqrt")
        yield f"{name}_random", [*once, *layers, RELU, *POOLED]
    window = AvgPool(3, 2, "SAME", normalize_edges=True)
    yield "average_edges", [*once, window, conv(2), RELU, *POOLED]
    smaller = [*once, ImageResize(4)]
    yield "resize_up", [*once, ImageResize(9), *POOLED]
    yield "resize_down", [*smaller, conv(2), *POOLED]
    yield "resize_plain", [*once, ImageResize(4, antialias=False), *POOLED]
    yield "resize_nearest", [*once, ImageResize(9, "nearest"), conv(2), *FLAT]
    yield "resize_flatten", [*smaller, *FLAT]
    first, second = conv(3, units=8), Sequential([conv(2, units=24), RELU])
    join = Concatenate([first, second])
    yield "concatenate_pool", [join, *POOLED]
    yield "concatenate_flatten", [join, *FLAT]
    second = Sequential([conv(2, units=8), RELU])
    yield "product_pool", [Product([first, second]), *POOLED]


def attention(
    mechanism: str, bias: bool = True, scaling: str = "linear", **more: Any
) -> Attention:
    return Attention(0.8, 1.2, 0.9, 1.5, B, scaling, mechanism, use_bias=bias, **more)


def placed(
    mechanism: str, added: PositionalEmbedding, values: bool, scaling: str = "linear"
) -> Layers:
    """Attention with embeddings seen by the values too, or by scores alone."""
    if values:
        return [added, attention(mechanism, scaling=scaling)]
    return [attention(mechanism, scaling=scaling, positional=added)]


def masked() -> Iterator[tuple[str, Layers]]:
    once, convolved = [dense(), RELU], [conv(3), RELU]
    yield "pool", [*once, *POOLED]
    yield "sum_pool", [*once, GlobalSumPool(), dense()]
    yield "flatten", [*once, *FLAT]
    yield "conv_pool", [*convolved, *convolved, *POOLED]
    yield "conv_flatten", [*convolved, *FLAT]
    yield "attention", [*once, attention("softmax"), RELU, *POOLED]
    yield "attention_identity", [attention("identity"), *POOLED]


def lengths() -> Iterator[tuple[str, Layers]]:
    yield "conv_valid", [conv(2, "VALID"), RELU, *POOLED]
    yield "sum_pool", [dense(), RELU, SumPool(2), dense(), RELU, *POOLED]


def graphs(pattern: Array) -> Iterator[tuple[str, Layers]]:
    once = [Aggregate(jnp.transpose(pattern)), dense(), RELU]
    yield "aggregate", [*once, *POOLED]
    yield "aggregate_twice", [*once, *once, *POOLED]
    yield "aggregate_flatten", [*once, *FLAT]


def images() -> Iterator[tuple[str, Layers]]:
    small = [conv((2, 2)), RELU]
    for padding in ("SAME", "VALID", "CIRCULAR"):
        low = padding.lower()
        layers = [conv((3, 2), padding, (2, 1)), RELU, conv((2, 2)), ERF]
        yield f"conv_{low}_flatten", [*layers, *FLAT]
        yield f"conv_{low}_pool", [*layers, *POOLED]
        across = [conv((3, 2), padding, (2, 1), by=ConvTranspose), RELU]
        yield f"conv_transpose_{low}", [*across, *POOLED]
        window = ((3, 2), (2, 1), padding)
        yield f"average_{low}_conv", [*small, AvgPool(*window), *small, *POOLED]
        yield f"sum_{low}_flatten", [*small, SumPool(*window), *FLAT]
    first, second = (conv(s, parameterization="standard") for s in ((3, 2), (2, 2)))
    layers, last = [first, RELU, second, ERF], dense(1, True, "standard")
    yield "conv_standard_flatten", [*layers, Flatten(), last]
    yield "conv_standard_pool", [*layers, GlobalAvgPool(), last]
    bare = [conv((3, 2), bias=False), RELU]
    yield "conv_without_bias", [*bare, *bare, Flatten(), dense(1, False)]
    local = [conv((3, 2), by=ConvLocal), RELU]
    yield "conv_local", [*local, *small, *POOLED]
    standard = conv((3, 2), by=ConvLocal, parameterization="standard")
    yield "conv_local_standard", [standard, RELU, *POOLED]
    for over, name in ((False, "layer_norm"), (True, "layer_norm_positions")):
        layers = [conv((2, 2)), LayerNorm(over_positions=over, eps=1e-12), RELU]
        yield name, [*layers, *small, *POOLED]
    cropped = Index((slice(1, 4), slice(None, None, 2)))
    yield "index", [*small, cropped, *small, *POOLED]
    yield "index_row", [*small, Index(2), conv(2), RELU, *POOLED]
    branch = Sequential([RELU, conv((3, 3)), AvgPool((2, 2), (1, 1), "SAME")])
    block = Sum([branch, Identity()])
    yield "residual_pool", [conv((2, 2)), block, RELU, *POOLED]
    yield "residual_flatten", [conv((2, 2)), block, RELU, *FLAT]
    yield "resize", [dense(), RELU, ImageResize((7, 3)), *POOLED]


def volumes() -> Iterator[tuple[str, Layers]]:
    layers = [conv((2, 3, 1)), RELU, conv((2, 2, 2), "CIRCULAR"), ERF]
    yield "conv_flatten", [*layers, *FLAT]
    yield "conv_pool", [*layers, *POOLED]


def cases(stored: dict[str, np.ndarray]) -> dict[str, Layers]:
    """Layers by name, FAMILY/NAME."""
    pattern = jnp.asarray(stored["graphs.pattern"])
    families = (vectors, unit, sequences, masked, lengths, images, volumes)
    found = {f.__name__: f() for f in families} | {"graphs": graphs(pattern)}
    return {
        f"{family}/{name}": layers
        for family, its_cases in found.items()
        for name, layers in its_cases
    }
