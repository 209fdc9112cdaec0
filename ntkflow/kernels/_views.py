"""How the operand beside a weight is read, where it is not simply an array of columns.

A convolution multiplies its kernel with patches of the operand; a lookup multiplies its
table with rows of the identity, of which the index is all one needs.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Integer


class Patches(NamedTuple):
    """The part of a convolution's input that each output position sees.

    Attributes:
        lhs_spec: Axes of the input: batch, features, space.
        kernel: Extents of the kernel in space.
        out: Extents of the output in space.
        strides: Strides of the window.
        padding: Padding in space, low and high; negative ones crop.
        lhs_dilation: Distance of neighbors of the input in the dilated input.
        rhs_dilation: The same of the kernel.
        groups: Groups of features.
    """

    lhs_spec: tuple[int, ...]
    kernel: tuple[int, ...]
    out: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    lhs_dilation: tuple[int, ...]
    rhs_dilation: tuple[int, ...]
    groups: int

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "batch ..."]:
        """Gather the patches.

        Args:
            x: The convolution's input.

        Returns:
            Axes batch, space of the output, groups, features of a group, kernel.
        """
        x = jnp.transpose(x, self.lhs_spec)
        config = [(0, 0, 0), (0, 0, 0)]
        config += [
            (low, high, dilation - 1)
            for (low, high), dilation in zip(
                self.padding, self.lhs_dilation, strict=True
            )
        ]
        x = jax.lax.pad(x, jnp.zeros((), x.dtype), config)
        # One strided slice for every entry of the kernel, each copied as a whole.
        slices = [self._slice(x, offset) for offset in _offsets(self.kernel)]
        batch, features = x.shape[:2]
        patches = jnp.stack(slices).reshape(
            *self.kernel, batch, self.groups, features // self.groups, *self.out
        )
        n = len(self.kernel)
        order = (n, *range(n + 3, 2 * n + 3), n + 1, n + 2, *range(n))
        return jnp.transpose(patches, order)

    def _slice(self, x: Array, offset: tuple[int, ...]) -> Array:
        start = [o * d for o, d in zip(offset, self.rhs_dilation, strict=True)]
        limit = [
            first + (n - 1) * stride + 1
            for first, n, stride in zip(start, self.out, self.strides, strict=True)
        ]
        return jax.lax.slice(
            x, (0, 0, *start), (*x.shape[:2], *limit), (1, 1, *self.strides)
        )


def _offsets(kernel: tuple[int, ...]) -> list[tuple[int, ...]]:
    if not kernel:
        return [()]
    return [(i, *rest) for i in range(kernel[0]) for rest in _offsets(kernel[1:])]


class Rows(NamedTuple):
    """Which row of a table each position looks up.

    Attributes:
        n_rows: Rows of the table.
        axis: Where, along the last axis, the index into the rows is; None where the
            operand is that index.
        drops: Whether an index outside of the table looks up nothing.
    """

    n_rows: int
    axis: int | None
    drops: bool

    def __call__(self, indices: Integer[Array, "..."]) -> Int[Array, "..."]:
        """The row of each position.

        Args:
            indices: The indices as the program has them.

        Returns:
            Rows from 0 on; −1 for one that is dropped.
        """
        rows = indices if self.axis is None else indices[..., self.axis]
        # In the dtype of the indices: it may not hold the number of rows, and what it
        # holds may not be one of int32.
        last = min(self.n_rows - 1, int(jnp.iinfo(rows.dtype).max))
        nearest = jnp.clip(
            rows, jnp.zeros((), rows.dtype), jnp.asarray(last, rows.dtype)
        )
        found = nearest.astype(jnp.int32)
        return jnp.where(nearest == rows, found, -1) if self.drops else found


class Selected(NamedTuple):
    """Operands of a lookup: multiples of rows of the identity.

    Attributes:
        rows: Which row, or −1.
        weights: Which multiple; zero for a row −1, which is none.
    """

    rows: Int[Array, "... B S"]
    weights: Float[Array, "... B S"]


Operand = Float[Array, "... B S C"] | Selected
"""Operands u of a group's uses: blocks, positions, columns."""


def inner_operands(
    first: Float[Array, "n1 B S1 C"] | Selected,
    second: Float[Array, "n2 B S2 C"] | Selected,
) -> Float[Array, "B n1 S1 n2 S2"]:
    """⟨u, u'⟩ of every two examples and positions, block by block.

    Args:
        first: Operands along the rows, examples first.
        second: Operands along the columns.

    Returns:
        The products.
    """
    if isinstance(first, Selected) and isinstance(second, Selected):
        a, b = (jnp.moveaxis(u.rows, 1, 0) for u in (first, second))
        v, w = (jnp.moveaxis(u.weights, 1, 0) for u in (first, second))
        weights = v[:, :, :, None, None] * w[:, None, None]
        equal = a[:, :, :, None, None] == b[:, None, None]
        return jnp.where(equal, weights, jnp.zeros((), weights.dtype))
    assert not isinstance(first, Selected)
    assert not isinstance(second, Selected)
    return jnp.einsum(
        "nbsc,mbtc->bnsmt", first, second, precision=jax.lax.Precision.HIGHEST
    )


def outer_products(
    g: Float[Array, "K B S R"], u: Operand, n_columns: int
) -> Float[Array, "K BRC"]:
    """Σ_s g_s u_sᵀ: the Jacobian of a leaf in one example.

    Args:
        g: Cotangents.
        u: Operands.
        n_columns: C.

    Returns:
        The Jacobian, in an order of entries that is the same for every example.
    """
    if isinstance(u, Selected):

        def scatter(g: Array, rows: Array, weights: Array) -> Array:
            table = jnp.zeros((n_columns, g.shape[1]), g.dtype)
            return table.at[rows].add(g * weights[:, None])

        by_block = jax.vmap(scatter)
        jac = jax.vmap(by_block, (0, None, None))(g, u.rows, u.weights)
    else:
        n_outputs, n_blocks, n_positions, _ = g.shape
        g = jnp.transpose(g, (1, 0, 3, 2)).reshape(n_blocks, -1, n_positions)
        # Not an einsum, which would exchange the factors and then transpose the result.
        jac = jnp.matmul(g, u, precision=jax.lax.Precision.HIGHEST)
        jac = jnp.moveaxis(jac.reshape(n_blocks, n_outputs, -1), 0, 1)
    return jac.reshape(jac.shape[0], -1)


def size_of(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    """How many entries some axes of a shape span.

    Args:
        shape: The shape.
        axes: Some of its axes.

    Returns:
        Their product.
    """
    return math.prod(shape[axis] for axis in axes)


View = Patches | Rows
"""How an operand is read."""
