"""The kernels of a stack of layers over all pairs of examples, tile by tile."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import equinox as eqx
import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ntkflow._equations import programs
from ntkflow._precision import at_full_precision
from ntkflow.infinite._layer import AbstractLayer
from ntkflow.infinite._moments import Moments
from ntkflow.kernels._layouts import find_layout
from ntkflow.kernels._mesh import fill_up, over_rows
from ntkflow.kernels._tiles import Cost, Grid, compute_tiles, least_bytes, plan_tiles

ROWS: Final = 1009
COLUMNS: Final = 1013

ALIVE: Final = 3
"""How many times the largest equation's operands and results are alive at once: both
kernels and what an activation holds of each."""


class Examples(NamedTuple):
    """Examples with what tells them apart.

    Attributes:
        x: Inputs, units first.
        mask: Which positions hold something; None for all.
        number: One for each example: equal for one and the same.
    """

    x: Float[Array, "N C *S"]
    mask: Bool[Array, "N *S"] | None
    number: Int[Array, " N"]


class Kernels(NamedTuple):
    """The two kernels of infinitely wide networks, for one output.

    Attributes:
        nngp: E[f(x) f(x')] over the initial weights.
        ntk: ⟨∂f(x)/∂θ, ∂f(x')/∂θ⟩, in the limit the same for any draw of them.
    """

    nngp: Float[Array, "N1 N2"]
    ntk: Float[Array, "N1 N2"]


@eqx.filter_jit
@at_full_precision
def compute_kernels(
    layer: AbstractLayer,
    first: Examples,
    second: Examples | None,
    *,
    max_bytes: int,
    mesh: jax.sharding.Mesh | None,
) -> Kernels:
    """Both kernels of a stack of layers.

    Args:
        layer: The layers.
        first: Examples along the rows.
        second: Examples along the columns; None for those along the rows.
        max_bytes: Bound on the working memory in bytes.
        mesh: Devices to divide the rows among.

    Returns:
        The kernels.

    """
    if mesh is None:
        return _on_one_device(layer, first, second, max_bytes)
    total = first.number.shape[0]
    columns = first if second is None else second

    def part(whole: tuple, x: Array, number: Array, mask: Array | None) -> Kernels:
        layer, columns = whole
        return _on_one_device(layer, Examples(x, mask, number), columns, max_bytes)

    filled = jax.tree.map(lambda leaf: fill_up(leaf, mesh.size), first)
    rows = (filled.x, filled.number, *(() if filled.mask is None else (filled.mask,)))
    found = over_rows(
        mesh,
        lambda whole, x, number, mask=None: part(whole, x, number, mask),
        (layer, columns),
        *rows,
    )
    return Kernels(*(kernel[:total] for kernel in found))


def _on_one_device(
    layer: AbstractLayer, first: Examples, second: Examples | None, max_bytes: int
) -> Kernels:
    pairs = layer.needs_pairs(False)

    def contract(
        rows: Examples, columns: Examples
    ) -> tuple[Float[Array, "n1 n2"], Float[Array, "n1 n2"]]:
        end = layer.propagate(moments_of(rows, columns, pairs))
        if end.positions:
            raise ValueError(
                f"The network ends with positions {end.positions}: end it with Flatten "
                "or GlobalAvgPool, and a Dense."
            )
        return end.nngp, end.ntk

    grid = Grid(first, second, find_layout("trace"), (1, 1), first.x.dtype, max_bytes)
    cost = _cost(contract, first)
    tiling = plan_tiles(grid, cost)
    if tiling is None:
        raise ValueError(
            f"max_bytes={max_bytes:,} is too small: one pair of examples takes about "
            f"{least_bytes(cost):,} bytes. Raise max_bytes"
            + (", or pool over fewer positions." if pairs else ".")
        )
    return Kernels(*compute_tiles(grid, lambda x: x, contract, tiling))


def moments_of(first: Examples, second: Examples, pairs: bool) -> Moments:
    """The moments of inputs: products of units, averaged over these.

    Args:
        first: Examples along the rows.
        second: Examples along the columns.
        pairs: Whether all pairs of positions are carried.

    Returns:
        The moments, without a tangent kernel yet.
    """
    x1, x2 = _masked(first), _masked(second)
    channels = x1.shape[1]
    shape = x1.shape[2:]
    flat1 = x1.reshape(*x1.shape[:2], math.prod(shape))
    flat2 = x2.reshape(*x2.shape[:2], math.prod(shape))
    across, own = ("nct,mcs->nmts", "nct,ncs->nts")
    if not pairs:
        across, own = ("ncs,mcs->nms", "ncs,ncs->ns")

    def products(a: Array, b: Array, how: str, examples: int) -> Array:
        found = jnp.einsum(how, a, b, precision="highest") / channels
        return found.reshape(*found.shape[:examples], *shape, *(shape if pairs else ()))

    nngp = products(flat1, flat2, across, 2)
    return Moments(
        nngp=nngp,
        ntk=jnp.zeros_like(nngp),
        own1=products(flat1, flat1, own, 1),
        own2=products(flat2, flat2, own, 1),
        same=first.number[:, None] == second.number[None, :],
        mask1=first.mask,
        mask2=second.mask,
        channels=channels,
        pairs=pairs,
    )


def _masked(examples: Examples) -> Float[Array, "N C *S"]:
    if examples.mask is None:
        return examples.x
    return jnp.where(examples.mask[:, None], examples.x, jnp.zeros_like(examples.x))


def _cost(contract: Callable[..., Any], examples: Examples) -> Cost:
    """Bytes of an example and of a pair: the most that lives at once, from shapes.

    Traced with numbers of rows and columns that no other axis is a multiple of.
    """  # ruff: ignore[docstring-missing-returns]

    def many(count: int) -> Examples:
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape[1:]), leaf.dtype),
            examples,
        )

    per_pair, per_example = 0, 0
    for equation in _equations(jax.make_jaxpr(contract)(many(ROWS), many(COLUMNS))):
        sizes = [_bytes(atom.aval) for atom in (*equation.invars, *equation.outvars)]
        pairs = [size for size in sizes if size % (ROWS * COLUMNS) == 0]
        others = sum(sizes) - sum(pairs)
        per_pair = max(per_pair, sum(pairs) // (ROWS * COLUMNS))
        per_example = max(per_example, others // ROWS)
    return Cost(example=ALIVE * per_example, work=0, pair=ALIVE * per_pair)


def _equations(jaxpr: Any) -> Iterator[jex.JaxprEqn]:
    for equation in jaxpr.eqns:
        yield equation
        for inner in programs(equation):
            yield from _equations(inner)


def _bytes(aval: Any) -> int:
    shape = getattr(aval, "shape", None)
    return 0 if shape is None else math.prod(shape) * np.dtype(aval.dtype).itemsize
