"""Kernels of infinite width by neural-tangents, run by a Python that has it.

    python reference.py OUT.npz

`build.py` makes such a Python and calls this script in it. Its conventions, and what is
done here so that the arrays compare directly with ntkflow's:

* Inputs are kept as ntkflow takes them, channels before positions; here the channels
  are moved last.
* `kernel_fn` returns the kernel of one output, as ntkflow does. It is only its
  empirical kernel that is a mean over outputs.
* `b_std=None` is no bias at all, which differs from `b_std=0` under "standard".
* Under "standard" a kernel depends on the widths below, which are those named here.
* `Dropout(rate)` takes the probability to keep a unit; "train" is the kernel averaged
  over masks, which differ between examples, so that only x2=None has a diagonal.
* A mask is a value of the input, MASKED. Masked inputs are stored as zeros, and their
  masks apart, true where there is something.
* What is masked behind a window at stride 2, or without padding, is there what is
  masked at its middle; here it is what is masked all over. For sequences that only end
  early, and the windows below, both are the same.
* `AvgPool` divides by the size of a window, masked positions included; the sum is
  compared instead.
* `ImageResize` after an odd number of convolutions takes rows for columns, as it does
  not look at `Kernel.is_reversed`; here it follows none where that would matter.
* `Aggregate` takes a pattern for each example, [n, tail, head], and sums over tails;
  all examples get the same one, and ntkflow's matrix is its transpose.
* Hermite polynomials are told that their inputs have variance 1 and do not look.
* NaN is stored where neural-tangents gives it.

A case is named FAMILY/NAME after the family of its inputs.
"""

import sys
import warnings
from collections.abc import Iterator

import jax
import numpy as np
from neural_tangents import stax

ROWS, COLUMNS = 4, 3
MASKED = 1000.0
W, B = 1.4, 0.3
FAMILIES = {
    "vectors": (4,),
    "unit": (4,),
    "sequences": (3, 6),
    "masked": (3, 6),
    "lengths": (3, 6),
    "graphs": (3, 6),
    "images": (2, 5, 4),
    "volumes": (2, 3, 4, 2),
}
"""Shapes of one example: channels, then positions."""


def inputs() -> dict[str, np.ndarray]:
    """Examples: one in both sets, one of them and its negative, norms 0.1 to 3."""
    rng = np.random.default_rng(20260)
    found = {}
    for family, shape in FAMILIES.items():
        x1 = rng.normal(size=(ROWS, *shape))
        x2 = rng.normal(size=(COLUMNS, *shape))
        scales1, scales2 = (0.1, 0.7, 1.3, 3.0), (1.0, 1.0, 2.0)
        for x, scales in ((x1, scales1), (x2, scales2)):
            for row, scale in zip(x, scales, strict=True):
                size = np.sqrt(shape[0]) if family == "unit" else scale
                row *= size / np.sqrt(np.mean(np.sum(row**2, axis=0)))
        x2[0], x2[1] = x1[1], -x1[2]
        found |= {f"{family}.x1": x1, f"{family}.x2": x2}
    for side, rows in (("1", ROWS), ("2", COLUMNS)):
        lengths = np.array([6, 4, 5, 3])[:rows]
        mask = np.arange(6) < lengths[:, None]
        for family, hole in (("lengths", True), ("masked", False)):
            mask[0, 1] = hole
            found[f"{family}.x{side}"] *= mask[:, None]
            found[f"{family}.mask{side}"] = mask.copy()
    return found | {"graphs.pattern": rng.normal(size=(6, 6))}


def dense(units: int = 1, bias: bool = True, parameterization: str = "ntk"):
    b_std = B if bias else None
    return stax.Dense(units, W, b_std, parameterization=parameterization)


def conv(
    shape, padding="SAME", strides=None, units=16, bias=True, by=stax.Conv, **more
):
    b_std = B if bias else None
    return by(units, shape, strides, padding, W_std=W, b_std=b_std, **more)


ACTIVATIONS = {
    "relu": stax.Relu(),
    "leaky_relu": stax.LeakyRelu(0.2),
    "ab_relu": stax.ABRelu(-0.5, 1.3),
    "abs": stax.Abs(),
    "sign": stax.Sign(),
    "erf": stax.Erf(),
    "erf_scaled": stax.Erf(1.3, 0.7, 0.2),
    "sigmoid_like": stax.Sigmoid_like(),
    "gelu": stax.Gelu(),
    "sin": stax.Sin(),
    "sin_shifted": stax.Sin(1.2, 0.8, 0.4),
    "cos": stax.Cos(),
    "cos_shifted": stax.Cos(1.2, 0.8, 0.4),
    "rbf": stax.Rbf(0.6),
    "gaussian": stax.Gaussian(1.2, -0.4),
    "exp": stax.Exp(0.8, 0.5),
    "exp_normalized": stax.ExpNormalized(0.7),
    "gabor": stax.Gabor(),
    "polynomial": stax.Polynomial((0.3, -0.5, 0.2, 0.1)),
    **{f"monomial_{n}": stax.Monomial(n) for n in range(6)},
    **{f"rectified_{n}": stax.RectifiedMonomial(n) for n in range(6)},
}


def vectors() -> Iterator[tuple[str, tuple]]:
    """Activations between dense layers, and depth."""
    for name, activation in ACTIVATIONS.items():
        yield f"{name}", (dense(32), activation, dense())
        yield f"{name}_without_bias", (dense(32, False), activation, dense(1, False))
        if name != "ab_relu":  # Its scale cannot go into weights of this kind.
            first, last = (dense(n, True, "standard") for n in (32, 1))
            yield f"{name}_standard", (first, activation, last)
    for name in ("relu", "erf"):
        for depth in range(1, 6):
            for parameterization in ("ntk", "standard"):
                layers = []
                for i in range(depth):
                    units = (32, 64)[i % 2]
                    layers += [dense(units, True, parameterization), ACTIVATIONS[name]]
                layers.append(dense(1, True, parameterization))
                yield f"{name}_depth_{depth}_{parameterization}", tuple(layers)
    yield "linear", (dense(),)
    yield "linear_standard", (dense(1, True, "standard"),)
    yield "linear_standard_without_bias", (dense(1, False, "standard"),)
    norm, dropout = stax.LayerNorm(), stax.Dropout(0.8)
    relu, erf, gelu = (ACTIVATIONS[name] for name in ("relu", "erf", "gelu"))
    yield "layer_norm", (dense(32), norm, gelu, dense())
    yield "layer_norm_eps", (dense(32), stax.LayerNorm(eps=0.1), gelu, dense())
    yield "dropout", (dense(32), relu, dropout, dense())
    yield "dropout_deep", (dense(), erf, dropout, dense(), relu, dropout, dense())
    yield "dropout_test", (dense(32), relu, stax.Dropout(0.8, "test"), dense())
    branch = stax.serial(relu, dense(16))
    residual = stax.serial(
        stax.FanOut(2), stax.parallel(branch, stax.Identity()), stax.FanInSum()
    )
    yield "residual", (dense(16), residual, residual, relu, dense())
    first, second = stax.serial(dense(8), erf), stax.serial(dense(8), relu, dense(8))
    pair = stax.serial(stax.FanOut(2), stax.parallel(first, second))
    both = stax.parallel(dense(8), stax.serial(relu, dense(8)))
    yield "sum", (dense(), stax.FanOut(2), both, stax.FanInSum(), erf, dense())
    yield "product", (pair, stax.FanInProd(), dense())
    join = (stax.FanOut(2), stax.parallel(first, dense(24)), stax.FanInConcat(-1))
    yield "concatenate", (*join, dense())
    yield "concatenate_standard", (*join, dense(1, True, "standard"))


def unit() -> Iterator[tuple[str, tuple]]:
    """Hermite polynomials of units of variance 1."""
    plain = stax.Dense(32)
    for degree in range(7):
        yield f"hermite_{degree}", (plain, stax.Hermite(degree), dense())


def sequences() -> Iterator[tuple[str, tuple]]:
    """One axis of positions: convolutions, attention, resizing, branches."""
    relu, erf = stax.Relu(), stax.Erf()
    flat = (stax.Flatten(), dense())
    pooled = (stax.GlobalAvgPool(), dense())
    yield "flatten", flat
    yield "dense_flatten", (dense(8), relu, *flat)
    kinds = {
        "conv": stax.Conv,
        "conv_transpose": stax.ConvTranspose,
        "conv_local": stax.ConvLocal,
    }
    for padding in ("SAME", "VALID", "CIRCULAR"):
        for kind, by in kinds.items():
            name = f"{kind}_{padding.lower()}"
            yield f"{name}_flatten", (conv((3,), padding, by=by), relu, *flat)
            layers = (conv((2,)), erf, conv((3,), padding, (2,), by=by), relu)
            yield f"{name}_strided_pool", (*layers, *pooled)
    yield "global_sum_pool", (conv((3,)), relu, stax.GlobalSumPool(), dense())
    layers = (conv((3,)), stax.LayerNorm((1, 2)), relu)
    yield "layer_norm_positions", (*layers, conv((3,)), relu, *pooled)
    yield "layer_norm_positions_flatten", (*layers, *flat)
    yield "dropout_pool", (conv((3,)), relu, stax.Dropout(0.8), *pooled)
    yield "dropout_flatten", (conv((3,)), relu, stax.Dropout(0.8), *flat)
    for what in ("SOFTMAX", "IDENTITY", "RELU", "ABS"):
        for b_std in (None, B):
            layer = attention(what, b_std)
            name = f"attention_{what.lower()}_{'no_' if b_std is None else ''}bias"
            yield name, (conv((3,)), relu, layer, relu, *pooled)
    yield "attention_flatten", (attention("SOFTMAX", B), *flat)
    yield "attention_random", (attention("IDENTITY", B, False), relu, *pooled)
    for values in (False, True):
        name = f"attention_positional{'_values' if values else ''}"
        more = {"pos_emb_type": "SUM", "W_pos_emb_std": 0.7, "val_pos_emb": values}
        layer = attention("SOFTMAX", B, **more)
        yield name, (conv((3,)), relu, layer, relu, *pooled)
        more["pos_emb_decay_fn"] = lambda distance: np.exp(-distance / 5)
        layer = attention("ABS", B, **more)
        yield f"{name}_near", (conv((3,)), relu, layer, relu, *pooled)
        layer = attention("IDENTITY", B, False, **more)
        yield f"{name}_random", (conv((3,)), relu, layer, relu, *pooled)
    window = stax.AvgPool((3,), (2,), "SAME", normalize_edges=True)
    yield "average_edges", (conv((3,)), relu, window, conv((2,)), relu, *pooled)
    yield "resize_up", (conv((3,)), relu, resize(9, "linear"), *pooled)
    yield "resize_down", (conv((3,)), relu, resize(4, "linear"), conv((2,)), *pooled)
    yield "resize_plain", (conv((3,)), relu, resize(4, "linear", False), *pooled)
    yield "resize_nearest", (conv((3,)), relu, resize(9, "nearest"), conv((2,)), *flat)
    yield "resize_flatten", (conv((3,)), relu, resize(4, "linear"), *flat)
    first, second = conv((3,), units=8), stax.serial(conv((2,), units=24), relu)
    join = (stax.FanOut(2), stax.parallel(first, second), stax.FanInConcat(-1))
    yield "concatenate_pool", (*join, *pooled)
    yield "concatenate_flatten", (*join, *flat)
    second = stax.serial(conv((2,), units=8), relu)
    pair = stax.serial(stax.FanOut(2), stax.parallel(first, second))
    yield "product_pool", (pair, stax.FanInProd(), *pooled)


def attention(what: str, b_std: float | None, scaled: bool = True, **more):
    return stax.GlobalSelfAttention(
        16,
        n_chan_key=8,
        n_chan_val=8,
        n_heads=2,
        linear_scaling=scaled,
        W_key_std=1.2,
        W_value_std=0.9,
        W_query_std=0.8,
        W_out_std=1.5,
        b_std=b_std,
        attention_mechanism=what,
        **more,
    )


def resize(length: int, method: str, antialias: bool = True):
    return stax.ImageResize((-1, length, -1), method, antialias)


def masked() -> Iterator[tuple[str, tuple]]:
    """Sequences of different lengths."""
    relu = stax.Relu()
    flat = (stax.Flatten(), dense())
    pooled = (stax.GlobalAvgPool(), dense())
    yield "pool", (dense(8), relu, *pooled)
    yield "sum_pool", (dense(8), relu, stax.GlobalSumPool(), dense())
    yield "flatten", (dense(8), relu, *flat)
    yield "conv_pool", (conv((3,)), relu, conv((3,)), relu, *pooled)
    yield "conv_flatten", (conv((3,)), relu, *flat)
    yield "attention", (dense(8), relu, attention("SOFTMAX", B), relu, *pooled)
    yield "attention_identity", (attention("IDENTITY", B), *pooled)


def lengths() -> Iterator[tuple[str, tuple]]:
    """Sequences that end early, seen through windows that do not overlap the edge."""
    relu, pooled = stax.Relu(), (stax.GlobalAvgPool(), dense())
    yield "conv_valid", (conv((2,), "VALID"), relu, *pooled)
    total = stax.SumPool((2,), (2,), "VALID")
    yield "sum_pool", (dense(8), relu, total, dense(8), relu, *pooled)


def graphs() -> Iterator[tuple[str, tuple]]:
    """Sums over weighted edges."""
    pooled = (stax.GlobalAvgPool(), dense())
    once = (stax.Aggregate(aggregate_axis=1), dense(8), stax.Relu())
    yield "aggregate", (*once, *pooled)
    yield "aggregate_twice", (*once, *once, *pooled)
    yield "aggregate_flatten", (*once, stax.Flatten(), dense())


def images() -> Iterator[tuple[str, tuple]]:
    """Two axes of positions: the same, and pooling over windows."""
    relu, erf = stax.Relu(), stax.Erf()
    flat = (stax.Flatten(), dense())
    pooled = (stax.GlobalAvgPool(), dense())
    for padding in ("SAME", "VALID", "CIRCULAR"):
        low = padding.lower()
        layers = (conv((3, 2), padding, (2, 1)), relu, conv((2, 2)), erf)
        yield f"conv_{low}_flatten", (*layers, *flat)
        yield f"conv_{low}_pool", (*layers, *pooled)
        across = (conv((3, 2), padding, (2, 1), by=stax.ConvTranspose), relu)
        yield f"conv_transpose_{low}", (*across, *pooled)
        window = ((3, 2), (2, 1), padding)
        average, total = stax.AvgPool(*window), stax.SumPool(*window)
        layers = (conv((2, 2)), relu, average, conv((2, 2)), relu)
        yield f"average_{low}_conv", (*layers, *pooled)
        yield f"sum_{low}_flatten", (conv((2, 2)), relu, total, *flat)
    first, second = (conv(s, parameterization="standard") for s in ((3, 2), (2, 2)))
    layers, last = (first, relu, second, erf), dense(1, True, "standard")
    yield "conv_standard_flatten", (*layers, stax.Flatten(), last)
    yield "conv_standard_pool", (*layers, stax.GlobalAvgPool(), last)
    bare = conv((3, 2), bias=False)
    yield "conv_without_bias", (bare, relu, bare, relu, stax.Flatten(), dense(1, False))
    local = conv((3, 2), by=stax.ConvLocal)
    yield "conv_local", (local, relu, conv((2, 2)), relu, *pooled)
    standard = conv((3, 2), by=stax.ConvLocal, parameterization="standard")
    yield "conv_local_standard", (standard, relu, *pooled)
    layers = (conv((2, 2)), stax.LayerNorm(), relu)
    yield "layer_norm", (*layers, conv((2, 2)), relu, *pooled)
    layers = (conv((2, 2)), stax.LayerNorm((1, 2, 3)), relu)
    yield "layer_norm_positions", (*layers, conv((2, 2)), relu, *pooled)
    cropped = (conv((2, 2)), relu, stax.Index(stax.Slice[:, 1:4, ::2]))
    yield "index", (*cropped, conv((2, 2)), relu, *pooled)
    row = (conv((2, 2)), relu, stax.Index(stax.Slice[:, 2]))
    yield "index_row", (*row, conv((2,)), relu, *pooled)
    branch = stax.serial(relu, conv((3, 3)), stax.AvgPool((2, 2), (1, 1), "SAME"))
    block = stax.serial(
        stax.FanOut(2), stax.parallel(branch, stax.Identity()), stax.FanInSum()
    )
    yield "residual_pool", (conv((2, 2)), block, relu, *pooled)
    yield "residual_flatten", (conv((2, 2)), block, relu, *flat)
    bigger = stax.ImageResize((-1, 7, 3, -1), "linear")
    yield "resize", (dense(16), relu, bigger, *pooled)


def volumes() -> Iterator[tuple[str, tuple]]:
    """Three axes of positions."""
    layers = (conv((2, 3, 1)), stax.Relu(), conv((2, 2, 2), "CIRCULAR"), stax.Erf())
    yield "conv_flatten", (*layers, stax.Flatten(), dense())
    yield "conv_pool", (*layers, stax.GlobalAvgPool(), dense())


def kernels(layers: tuple, x1: np.ndarray, x2: np.ndarray | None, more: dict) -> list:
    """Both kernels of one network."""
    kernel = stax.serial(*layers)[2]
    last = tuple(None if x is None else np.moveaxis(x, 1, -1) for x in (x1, x2))
    found = kernel(*last, ("nngp", "ntk"), **more)
    return [np.asarray(found.nngp), np.asarray(found.ntk)]


def settings(family: str, held: dict[str, np.ndarray]) -> tuple:
    """Inputs of a family as neural-tangents takes them, and what goes with them."""
    x1, x2 = held[f"{family}.x1"], held[f"{family}.x2"]
    if f"{family}.mask1" in held:
        x1, x2 = (
            np.where(held[f"{family}.mask{side}"][:, None], x, MASKED)
            for side, x in (("1", x1), ("2", x2))
        )
        return x1, x2, {"mask_constant": MASKED}, {"mask_constant": MASKED}
    if family == "graphs":
        one = held["graphs.pattern"]
        first, second = (np.tile(one, (len(x), 1, 1)) for x in (x1, x2))
        return x1, x2, {"pattern": (first, second)}, {"pattern": (first, first)}
    return x1, x2, {}, {}


def main(out: str) -> None:
    """Computes every case."""
    jax.config.update("jax_enable_x64", True)
    held = inputs()
    names, cross, own = [], [], []
    for family in FAMILIES:
        x1, x2, between, within = settings(family, held)
        for name, layers in globals()[family]():
            names.append(f"{family}/{name}")
            cross.append(kernels(layers, x1, x2, between))
            own.append(kernels(layers, x1, None, within))
            if not np.isfinite(np.sum(cross[-1]) + np.sum(own[-1])):
                print(f"{names[-1]} is not finite")
    held |= {"names": np.array(names), "cross": np.array(cross), "own": np.array(own)}
    np.savez_compressed(out, **held)
    print(len(names), "cases")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1])
