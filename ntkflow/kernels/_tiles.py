"""A kernel, tile by tile, within a stated memory.

A method gives two functions: `features` reduces some examples to arrays with the
examples first, `contract` turns two of these into a block of the kernel. Features are
made once and kept if those of all examples fit, else again for every tile. A kernel
that is not too small is swept tile by tile; of a symmetric one, one of each two
mirrored tiles is computed. The last tile begins early enough to be whole and overlaps
the one before, so that nothing is padded.
"""

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from ntkflow.kernels._layouts import AbstractLayout, OutputCounts

Features = Any
"""Arrays whose first axis is the example."""
Kernels = tuple[Array, ...]

CACHED: Final = 2**22
"""Bytes of work on a block on a CPU, which should stay in the cache. Measured best,
within noise, between half and twice this."""


class Grid(NamedTuple):
    """The pairs of examples of a kernel, and what is kept of each.

    Attributes:
        x1: Examples along the rows: an array, or several with the examples first.
        x2: Examples along the columns; None for those along the rows.
        layout: Which pairs of outputs are kept.
        n_outputs: Outputs along the rows and along the columns.
        dtype: Dtype of the kernel.
        max_bytes: Bound on the working memory.
    """

    x1: Any
    x2: Any
    layout: AbstractLayout
    n_outputs: OutputCounts
    dtype: np.dtype
    max_bytes: int

    @property
    def n1(self) -> int:
        """Examples along the rows."""
        return _count(self.x1)

    @property
    def n2(self) -> int:
        """Examples along the columns."""
        return self.n1 if self.x2 is None else _count(self.x2)

    @property
    def n_examples(self) -> int:
        """Examples, each counted once."""
        return self.n1 + (0 if self.x2 is None else self.n2)


def _count(x: Any) -> int:
    return jax.tree.leaves(x)[0].shape[0]


class Cost(NamedTuple):
    """Bytes of working memory, result apart.

    Attributes:
        example: What the features of one example take.
        work: What making them takes besides.
        pair: What contracting one pair of examples takes.
    """

    example: int
    work: int
    pair: int


class Tiling(NamedTuple):
    """How the examples are cut.

    Attributes:
        rows: Examples in a tile along the rows.
        columns: Examples in a tile along the columns.
        chunk: Examples whose features are made at once.
        kept: Whether the features of all examples are kept.
    """

    rows: int
    columns: int
    chunk: int
    kept: bool


def least_bytes(cost: Cost) -> int:
    """Working memory of one pair of examples, the smallest tile.

    Args:
        cost: What features and pairs take.

    Returns:
        Bytes.
    """
    return 2 * cost.example + cost.work + cost.pair


def plan_tiles(grid: Grid, cost: Cost) -> Tiling | None:
    """Cut the examples so that working memory keeps within the bound.

    Args:
        grid: The pairs of examples.
        cost: What features and pairs take.

    Returns:
        The tiling; tiles of one kind are nearly equal. None if a tile of one example
        is over the bound.
    """
    n1, n2, bound = grid.n1, grid.n2, grid.max_bytes
    n_kept = grid.n_examples

    def needed(size: int, chunk: int, kept: bool) -> int:
        rows, columns = min(size, n1), min(size, n2)
        examples = n_kept if kept else rows + columns
        held = examples * cost.example + chunk * cost.work
        return held + rows * columns * cost.pair

    if least_bytes(cost) > bound:
        return None
    most = max(n1, n2)
    # Half of the bound is left to the tiles, which would else become tiny.
    kept = needed(1, 1, kept=True) <= bound and n_kept * cost.example <= bound // 2
    if kept:
        size = _largest(most, lambda n: needed(n, 1, kept=True) <= bound)
        size = _balanced(grid, min(size, _preferred(grid, cost)))
        chunk = _largest(most, lambda n: needed(size, n, kept=True) <= bound)
    else:
        size = _largest(most, lambda n: needed(n, n, kept=False) <= bound)
        size = _balanced(grid, size)
        chunk = size
    return Tiling(min(size, n1), min(size, n2), chunk, kept)


def checked_tiling(method: str, grid: Grid, cost: Cost) -> Tiling:
    """The tiling, or an error that tells what would suffice.

    Args:
        method: Name of the method, for the error.
        grid: The pairs of examples.
        cost: What features and pairs take.

    Returns:
        The tiling.

    Raises:
        ValueError: A tile of one example is over the bound.
    """
    tiling = plan_tiles(grid, cost)
    if tiling is None:
        raise ValueError(
            f"max_bytes={grid.max_bytes:,} is too small: one pair of examples takes "
            f"about {least_bytes(cost):,} bytes with {method!r}. Raise max_bytes, or "
            "use method='vector_products', which forms no Jacobian."
        )
    return tiling


def _preferred(grid: Grid, cost: Cost) -> int:
    """The tile that is fastest where memory is no matter."""
    if jax.default_backend() != "cpu":
        return max(grid.n1, grid.n2)  # one large product keeps a GPU busy
    return max(1, math.isqrt(CACHED // cost.pair))


def _largest(most: int, fits: Callable[[int], bool]) -> int:
    """The largest number up to `most` that fits, given that 1 does."""
    low, high = 1, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _balanced(grid: Grid, size: int) -> int:
    """The same number of tiles or one more, of nearly equal size."""
    total = max(grid.n1, grid.n2)
    count = math.ceil(total / size)
    if grid.x2 is None and count % 2 == 0:
        count += 1  # half a circle of an odd number of tiles meets no pair twice
    return math.ceil(total / count)


def compute_tiles(
    grid: Grid,
    features: Callable[[Any], Features],
    contract: Callable[[Features, Features], Kernels],
    tiling: Tiling,
    others: Callable[[Any], Features] | None = None,
) -> Kernels:
    """Compute kernels from features.

    Args:
        grid: The pairs of examples.
        features: Examples -> features.
        contract: Features of two sets of examples -> blocks of the kernels.
        tiling: How the examples are cut.
        others: The same along the columns of a kernel of two functions; None for
            `features`.

    Returns:
        The kernels.
    """
    # Reverse differentiation would otherwise keep what every tile went through.
    make, block = jax.checkpoint(features), jax.checkpoint(contract)
    rows = _cut(grid.x1, tiling.rows, make, tiling)
    x2 = grid.x2
    symmetric = x2 is None
    if x2 is None:
        columns = rows
    else:
        made = make if others is None else jax.checkpoint(others)
        columns = _cut(x2, tiling.columns, made, tiling)
    sweep = _Sweep(grid.layout, rows, columns, block)
    if rows.n_tiles == columns.n_tiles == 1:
        kernels = contract(*jax.lax.optimization_barrier((rows.at(0), columns.at(0))))
        if symmetric:
            # Computed once: two computations of one entry could be rounded apart.
            kernels = jax.lax.optimization_barrier(kernels)
            return tuple(grid.layout.symmetrize(kernel) for kernel in kernels)
        return kernels
    shape = grid.layout.shape(grid.n1, grid.n2, grid.n_outputs)
    start = tuple(jnp.zeros(shape, grid.dtype) for _ in range(sweep.n_kernels()))
    return sweep.symmetric(start) if symmetric else sweep.cross(start)


class _Tiles(NamedTuple):
    """Examples, or features already made of them, cut into tiles of one size."""

    size: int
    total: int
    values: Any
    make: Callable[[Any], Features]

    @property
    def n_tiles(self) -> int:
        return math.ceil(self.total / self.size)

    def begin(self, index: Int[Array, ""] | int) -> Int[Array, ""]:
        return jnp.minimum(jnp.asarray(index) * self.size, self.total - self.size)

    def at(self, index: Int[Array, ""] | int) -> Features:
        if self.n_tiles == 1:
            return self.make(self.values)
        start = self.begin(index)
        return self.make(
            jax.tree.map(
                lambda v: jax.lax.dynamic_slice_in_dim(v, start, self.size), self.values
            )
        )


def _cut(x: Any, size: int, make: Callable[[Any], Features], tiling: Tiling) -> _Tiles:
    total = _count(x)
    if not tiling.kept:
        return _Tiles(size, total, x, make)
    if tiling.chunk >= total:
        values = make(x)
    else:
        values = _made_in_chunks(make, x, tiling.chunk)
    return _Tiles(size, total, values, lambda tile: tile)


def _made_in_chunks(make: Callable[[Any], Features], x: Any, chunk: int) -> Features:
    """Features of all examples, some at a time; those without numbers are not mapped.

    A map in batches divides by the size of what it returns.
    """  # ruff: ignore[docstring-missing-returns]
    shapes, structure = jax.tree.flatten(jax.eval_shape(make, x))

    def of_example(xi: Any) -> list[Array]:
        found = jax.tree.leaves(make(_alone(xi)))
        return [value[0] for value in found if value.size]

    made = iter(jax.lax.map(of_example, x, batch_size=chunk))
    values = [next(made) if s.size else jnp.zeros(s.shape, s.dtype) for s in shapes]
    return jax.tree.unflatten(structure, values)


def _alone(x: Any) -> Any:
    return jax.tree.map(lambda v: v[None], x)


class _Sweep(NamedTuple):
    """Two sets of tiles and how a block is made of one of each."""

    layout: AbstractLayout
    rows: _Tiles
    columns: _Tiles
    contract: Callable[[Features, Features], Kernels]

    def n_kernels(self) -> int:
        """How many kernels a block consists of."""
        blocks = jax.eval_shape(
            lambda: self.contract(self.rows.at(0), self.columns.at(0))
        )
        return len(blocks)

    def cross(self, start: Kernels) -> Kernels:
        """Every tile of a kernel between two sets of examples."""

        def row(kernels: Kernels, i: Array) -> tuple[Kernels, None]:
            first = self.rows.at(i)

            def cell(kernels: Kernels, j: Array) -> tuple[Kernels, None]:
                blocks = self.contract(first, self.columns.at(j))
                corner = self.layout.start(self.rows.begin(i), self.columns.begin(j))
                return _put(kernels, blocks, corner), None

            return jax.lax.scan(cell, kernels, jnp.arange(self.columns.n_tiles))

        return jax.lax.scan(row, start, jnp.arange(self.rows.n_tiles))[0]

    def symmetric(self, start: Kernels) -> Kernels:
        """One of each two mirrored tiles, written to both places.

        Row i meets columns i, i+1, ... around half the circle, so that every row has
        as many cells and the scan is rectangular. The diagonal block of the last,
        overlapping, tile is the last to be written: the only entries whose two mirrored
        writes could differ by round-off lie inside it.
        """  # ruff: ignore[docstring-missing-returns]
        count = self.rows.n_tiles

        def row(kernels: Kernels, i: Array) -> tuple[Kernels, None]:
            first = self.rows.at(i)

            def cell(kernels: Kernels, ahead: Array) -> tuple[Kernels, None]:
                j = (i + ahead) % count
                blocks = jax.lax.cond(
                    ahead == 0,
                    lambda found: tuple(map(self.layout.symmetrize, found)),
                    lambda found: found,
                    self.contract(first, self.columns.at(j)),
                )
                mirrored = tuple(self.layout.transpose(block) for block in blocks)
                begin, end = self.rows.begin(i), self.columns.begin(j)
                kernels = _put(kernels, blocks, self.layout.start(begin, end))
                kernels = _put(kernels, mirrored, self.layout.start(end, begin))
                return kernels, None

            return jax.lax.scan(cell, kernels, jnp.arange(count // 2, -1, -1))

        return jax.lax.scan(row, start, jnp.arange(count))[0]


def _put(kernels: Kernels, blocks: Kernels, corner: tuple[Array | int, ...]) -> Kernels:
    # Index arrays must agree in dtype under strict promotion.
    where = tuple(jnp.asarray(index, jnp.int32) for index in corner)
    return tuple(
        jax.lax.dynamic_update_slice(kernel, block, where)
        for kernel, block in zip(kernels, blocks, strict=True)
    )
