"""A family of random networks: blocks in a row, drawn by hypothesis.

Weights are of order one over the root of what they sum over, examples of order one, and
a variance that is divided by is at least 0.1, so that a kernel is well conditioned in
what it is computed from and its error is that of the arithmetic.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from jaxtyping import Array

EXAMPLES, POSITIONS, WIDTH, WORDS = 3, 6, 4, 5
MOST_POSITIONS = 8
LAYOUTS = ("full", "trace", "diagonal")
WAYS = ("factored", "nested", "assembled", "structured", "auto")
Weights = dict[str, Array]
Options = tuple[tuple[str, Any], ...]


class Block(NamedTuple):
    """A map from one array [positions, WIDTH] to another.

    Attributes:
        kind: Name of its function and of its weights.
        options: How the function is to be carried out.
        shared: Whether its matrix is that of an earlier block, if one has its shape.
        remade: Whether it is inside a `jax.checkpoint`.
    """

    kind: str
    options: Options
    shared: bool = False
    remade: bool = False


class Case(NamedTuple):
    """A network, its examples and how its kernel is asked for.

    Attributes:
        blocks: The blocks, first to last.
        words: Whether an example is a row of integers, looked up first.
        n_outputs: K.
        outputs: Name of the layout.
        way: The method; "factored", "nested" and "assembled" are "structured" with the
            other forms ruled out for every leaf.
        seed: Of weights and examples.
    """

    blocks: tuple[Block, ...]
    words: bool
    n_outputs: int
    outputs: str
    way: str
    seed: int


@jax.custom_jvp
def swish(h: Array) -> Array:
    return h * jax.nn.sigmoid(h)


@swish.defjvp
def _(primals: Any, tangents: Any) -> Any:
    (h,), (dh,) = primals, tangents
    s = jax.nn.sigmoid(h)
    return h * s, (s + h * s * (1.0 - s)) * dh


@jax.custom_jvp
def bent(w: Array, h: Array) -> Array:
    """A layer whose weight is inside the custom rule, where it is not followed."""
    return jnp.tanh(h @ w)


@bent.defjvp
def _(primals: Any, tangents: Any) -> Any:
    (w, h), (dw, dh) = primals, tangents
    y = jnp.tanh(h @ w)
    return y, (1.0 - y**2) * (dh @ w + h @ dw)


ACTIVATIONS = {"tanh": jnp.tanh, "swish": swish, "relu": jax.nn.relu}


def dense(p: Weights, h: Array, _: Array, side: str, activation: str) -> Array:
    if side == "each":
        h = jax.vmap(lambda row: p["w"] @ row)(h)
    else:
        h = h @ p["w"] if side == "right" else (p["w"] @ h.T).T
    return ACTIVATIONS[activation](h + p["b"][None])


def affine(p: Weights, h: Array, _: Array, first: bool) -> Array:
    h = h * p["s"][None] if first else h - p["b"][None]
    return p["b"][None] - h if first else h / p["s"][None]


def normalize(p: Weights, h: Array, _: Array, by_position: bool) -> Array:
    axis = 1 if by_position else (0, 1)
    h = h - jnp.mean(h, axis, keepdims=True)
    variance = jnp.mean(h**2, axis, keepdims=True) + 0.1
    return p["s"][None] * (h / jnp.sqrt(variance)) + p["b"][None]


def convolve(p: Weights, h: Array, _: Array, **options: Any) -> Array:
    two, last = options["two"], options["channels_last"]
    height = 2 if two and len(h) % 2 == 0 else 1
    grid = (height, len(h) // height) if two else (len(h),)
    letters = "HW" if two else "H"
    numbers = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    kernel, image = p["w"], h.reshape(1, *grid, WIDTH)
    if not last:
        numbers = (f"NC{letters}", f"OI{letters}", f"NC{letters}")
        kernel = jnp.moveaxis(kernel, (-1, -2), (0, 1))
        image = jnp.moveaxis(image, -1, 1)
    n = len(grid)
    strides, spread = (options["stride"],) * n, (options["spread"],) * n
    if options["transposed"]:
        y = jax.lax.conv_transpose(
            image, kernel, strides, "SAME", spread, numbers, transpose_kernel=True
        )
    else:
        window = (options["window"] - 1) * options["spread"] + 1
        low, high = options["padding"]
        # Wide enough for the window to fit at least once.
        missing = [
            max(0, window - (size - 1) * options["between"] - 1 - low - high)
            for size in grid
        ]
        y = jax.lax.conv_general_dilated(
            image,
            kernel,
            strides,
            [(low, high + more) for more in missing],
            (options["between"],) * n,
            spread,
            numbers,
            feature_group_count=options["groups"],
        )
    y = y if last else jnp.moveaxis(y, 1, -1)
    return jnp.tanh(y.reshape(-1, WIDTH)[:MOST_POSITIONS] + p["b"][None])


def recur(p: Weights, h: Array, _: Array, reverse: bool) -> Array:
    def step(carry: Array, row: Array) -> tuple[Array, Array]:
        carry = jnp.tanh(p["w"] @ carry + row + p["b"])
        return carry, carry

    return jax.lax.scan(step, jnp.zeros_like(h[0]), h, reverse=reverse)[1]


def stack(p: Weights, h: Array, _: Array, reverse: bool) -> Array:
    def layer(carry: Array, w: Array) -> tuple[Array, None]:
        return carry + jnp.tanh(carry @ w), None

    return jax.lax.scan(layer, h, p["w"], reverse=reverse)[0]


def branch(p: Weights, h: Array, codes: Array, inside: bool) -> Array:
    # Of the example, not of h: round-off must not decide which branch is taken.
    if inside:
        return jax.lax.cond(
            codes[0] > 1, lambda: jnp.tanh(h @ p["w"]), lambda: h * p["s"][None]
        )
    return jax.lax.cond(codes[0] > 1, jnp.tanh, jnp.sin, h @ p["w"]) + p["s"][None]


def custom(p: Weights, h: Array, _: Array, inside: bool) -> Array:
    return bent(p["w"], h) if inside else swish(h @ p["w"]) + h


def attend(p: Weights, h: Array, _: Array, sliced: bool) -> Array:
    w, heads = p["w"], 2
    if sliced:
        mixed = jnp.stack([h @ w[0], h @ w[1], h @ w[2]])
    else:
        mixed = jnp.einsum("pc,icd->ipd", h, w)
    q, k, v = mixed.reshape(3, len(h), heads, -1)
    scores = jnp.einsum("phc,qhc->hpq", q, k) / math.sqrt(WIDTH // heads)
    return h + jnp.einsum("hpq,qhc->phc", jax.nn.softmax(scores), v).reshape(h.shape)


def lookup(p: Weights, h: Array, codes: Array, scaled: bool) -> Array:
    rows = p["w"][codes[np.arange(len(h)) % len(codes)]]
    return jnp.tanh(h + rows * 0.5) if scaled else h * rows


NEEDED = {
    **dict.fromkeys(("dense", "convolve", "recur"), "wb"),
    **dict.fromkeys(("affine", "normalize"), "sb"),
    **dict.fromkeys(("stack", "custom", "attend", "lookup"), "w"),
    "branch": "ws",
}
"""Which weights a kind of block has: a matrix, a scale of each feature, a bias."""
FUNCTIONS: dict[str, Callable[..., Array]] = {
    "dense": dense,
    "affine": affine,
    "normalize": normalize,
    "convolve": convolve,
    "recur": recur,
    "stack": stack,
    "branch": branch,
    "custom": custom,
    "attend": attend,
    "lookup": lookup,
}


def options_of(kind: str, smooth: bool) -> st.SearchStrategy[Options]:
    """What may be varied in a block."""
    flag = st.booleans()
    one_or_two = st.integers(1, 2)
    choices: dict[str, dict[str, st.SearchStrategy[Any]]] = {
        "dense": {
            "side": st.sampled_from(["right", "left", "each"]),
            # A bfloat16 near the corner of a ramp may be on either side of it.
            "activation": st.sampled_from(list(ACTIVATIONS)[: 2 if smooth else 3]),
        },
        "affine": {"first": flag},
        "normalize": {"by_position": flag},
        "convolve": {
            "two": flag,
            "channels_last": flag,
            "transposed": flag,
            "window": st.integers(1, 3),
            "stride": one_or_two,
            "spread": one_or_two,
            "between": one_or_two,
            "groups": one_or_two,
            "padding": st.tuples(st.integers(0, 2), st.integers(0, 2)),
        },
        "recur": {"reverse": flag},
        "stack": {"reverse": flag},
        "branch": {"inside": flag},
        "custom": {"inside": flag},
        "attend": {"sliced": flag},
        "lookup": {"scaled": flag},
    }
    drawn = st.fixed_dictionaries(choices[kind])
    return drawn.map(lambda found: tuple(found.items()))


TRAITS = (*FUNCTIONS, "shared", "remade", "words")
"""What a case can be asked to have: a kind of block, or a property."""


def blocks(
    smooth: bool, kind: str | None = None, **traits: bool
) -> st.SearchStrategy[Block]:
    """Any block, or one of a kind."""
    flags = {"shared": st.booleans(), "remade": st.booleans()}
    flags |= {name: st.just(trait) for name, trait in traits.items()}
    kinds = st.sampled_from(list(FUNCTIONS)) if kind is None else st.just(kind)
    return kinds.flatmap(
        lambda k: st.builds(Block, st.just(k), options_of(k, smooth), **flags)
    )


@st.composite
def cases(draw: st.DrawFn, trait: str, smooth: bool = False) -> Case:
    """A network of one to six blocks that has a trait.

    Args:
        draw: What hypothesis hands in.
        trait: One of `TRAITS`.
        smooth: Whether every block is to have derivatives that round-off moves little.

    Returns:
        The case.
    """
    asked = [blocks(smooth, trait)] if trait in FUNCTIONS else []
    if trait == "shared":
        asked = [blocks(smooth, "dense"), blocks(smooth, "dense", shared=True)]
    if trait == "remade":
        asked = [blocks(smooth, remade=True)]
    chosen = [draw(block) for block in asked]
    least = 1 - min(len(chosen), 1)
    others = st.lists(blocks(smooth), min_size=least, max_size=6 - len(chosen))
    before = draw(others)
    cut = draw(st.integers(0, len(before)))
    return Case(
        blocks=(*before[:cut], *chosen, *before[cut:]),
        words=trait == "words" or draw(st.booleans()),
        n_outputs=draw(st.integers(2, 3)),
        outputs=draw(st.sampled_from(LAYOUTS)),
        way=draw(st.sampled_from(WAYS)),
        seed=draw(st.integers(0, 1000)),
    )


def matrix_shape(block: Block) -> tuple[int, ...]:
    """The shape of a block's matrix; the contracted axis is the last but one."""
    if block.kind == "convolve":
        options = dict(block.options)
        windows = (options["window"],) * (2 if options["two"] else 1)
        groups = 1 if options["transposed"] else options["groups"]
        return (*windows, WIDTH // groups, WIDTH)
    leading = {"stack": (2,), "attend": (3,)}.get(block.kind, ())
    rows = WORDS if block.kind == "lookup" else WIDTH
    return (*leading, rows, WIDTH)


class Network(eqx.Module):
    """Blocks in a row, averaged over positions and read out."""

    weights: Weights
    blocks: tuple[tuple[Block, str], ...] = eqx.field(static=True)

    def __call__(self, x: Array) -> Array:
        if jnp.issubdtype(x.dtype, jnp.integer):
            codes, h = x, self.weights["table"][x]
        else:
            codes, h = jnp.argmax(x, axis=1), x
        for i, (block, matrix) in enumerate(self.blocks):
            named = {"w": matrix, "s": f"s{i}", "b": f"b{i}"}
            p = {name: self.weights[named[name]] for name in NEEDED[block.kind]}

            def function(p: Weights, h: Array, block: Block = block) -> Array:
                return FUNCTIONS[block.kind](p, h, codes, **dict(block.options))

            h = (jax.checkpoint(function) if block.remade else function)(p, h)
        return self.weights["v"] @ jnp.mean(h, axis=0) + self.weights["c"]


def build(case: Case, dtype: Any) -> tuple[Network, Array]:
    """The network of a case and its examples, all numbers of order one."""
    rng = np.random.default_rng(case.seed)

    def normal(shape: tuple[int, ...], mean: float, std: float) -> Array:
        return jnp.asarray(mean + std * rng.standard_normal(shape), dtype)

    weights, chain, names = {}, [], {}
    for i, block in enumerate(case.blocks):
        shape, needed = matrix_shape(block), NEEDED[block.kind]
        if "w" in needed and not (block.shared and shape in names):
            fan_in = 1 if block.kind == "lookup" else WIDTH
            fan_in *= math.prod(shape[:-2]) if block.kind == "convolve" else 1
            names[shape] = f"w{i}"
            weights[f"w{i}"] = normal(shape, 0.0, fan_in**-0.5)
        chain.append((block, names.get(shape, "")))
        if "b" in needed:
            weights[f"b{i}"] = normal((WIDTH,), 0.0, 0.5)
        if "s" in needed:
            weights[f"s{i}"] = jnp.asarray(rng.uniform(0.5, 1.5, WIDTH), dtype)
    weights["v"] = normal((case.n_outputs, WIDTH), 0.0, WIDTH**-0.5)
    weights["c"] = normal((case.n_outputs,), 0.0, 0.5)
    if not case.words:
        x = normal((EXAMPLES, POSITIONS, WIDTH), 0.0, 1.0)
    else:
        weights["table"] = normal((WORDS, WIDTH), 0.0, 1.0)
        codes = rng.integers(0, WORDS, (EXAMPLES, POSITIONS))
        x = jnp.asarray(codes, jnp.int32)
    return Network(weights, tuple(chain)), x
