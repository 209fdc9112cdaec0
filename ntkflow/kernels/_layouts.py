"""The three layouts of a kernel: which pairs of outputs are kept.

A method reduces every example to features: per output a matrix g [S, R], S positions a
weight is used at and R numbers at each, and (for a factored weight) the operand u
[S, C] it met there. A layout turns the features of two sets of examples into a kernel:
`products` gives G = ⟨g, g'⟩ for every pair of positions, `join` sums G∘⟨u, u'⟩ over
them. A plain Jacobian is the case of one position and no operand.
"""

import abc
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkflow._errors import unknown_name

OutputCounts = tuple[int, int]
"""Outputs along the rows and along the columns, which differ for two functions."""


class AbstractLayout(eqx.Module):
    """Which pairs of outputs a kernel holds."""

    name: eqx.AbstractClassVar[str]

    @abc.abstractmethod
    def shape(self, n1: int, n2: int, outputs: OutputCounts) -> tuple[int, ...]:
        """The shape of a kernel of n1 by n2 examples.

        Args:
            n1: Examples along the rows.
            n2: Examples along the columns.
            outputs: Outputs K1 along the rows and K2 along the columns.

        Returns:
            The shape.
        """

    @abc.abstractmethod
    def pairs(self, outputs: OutputCounts) -> int:
        """Pairs of outputs kept for a pair of examples; 1 where they are summed.

        Args:
            outputs: Outputs along the rows and along the columns.

        Returns:
            The number of entries a pair of examples has in the kernel.
        """

    @abc.abstractmethod
    def products(
        self,
        g1: Float[Array, "N1 K1 S1 R"],
        g2: Float[Array, "N2 K2 S2 R"],
    ) -> Float[Array, "..."]:
        """Inner products over R of every kept pair of outputs and every two positions.

        Args:
            g1: Features along the rows.
            g2: Features along the columns.

        Returns:
            The products, in an order of axes that `join` understands.
        """

    @abc.abstractmethod
    def join(
        self,
        products: Float[Array, "..."],
        operands: Float[Array, "N1 S1 N2 S2"],
    ) -> Float[Array, "..."]:
        """Weigh products by operands and sum over both positions.

        Args:
            products: What `products` returned.
            operands: ⟨u, u'⟩ for every two examples and every two positions.

        Returns:
            A kernel of this layout.
        """

    @abc.abstractmethod
    def transpose(self, kernel: Float[Array, "..."]) -> Float[Array, "..."]:
        """Exchange rows and columns.

        Args:
            kernel: A kernel of this layout.

        Returns:
            The same kernel with the two sets of examples exchanged.
        """

    @abc.abstractmethod
    def start(self, row: Array, column: Array) -> tuple[Array | int, ...]:
        """Where a block of the kernel begins.

        Args:
            row: First example along the rows.
            column: First example along the columns.

        Returns:
            One index for each axis of the kernel.
        """

    def gram(
        self, a: Float[Array, "N1 K1 1 R"], b: Float[Array, "N2 K2 1 R"]
    ) -> Float[Array, "..."]:
        """The kernel of two plain Jacobians.

        Args:
            a: The Jacobian along the rows, one position.
            b: The Jacobian along the columns.

        Returns:
            A kernel of this layout.
        """
        ones = jnp.ones((a.shape[0], 1, b.shape[0], 1), a.dtype)
        return self.join(self.products(a, b), ones)

    def symmetrize(self, kernel: Float[Array, "..."]) -> Float[Array, "..."]:
        """Remove the asymmetry that round-off leaves in a product A Aᵀ.

        Args:
            kernel: A kernel of one set of examples with itself.

        Returns:
            Half the sum of the kernel and its transpose, exactly symmetric.
        """
        return 0.5 * (kernel + self.transpose(kernel))


def inner(
    a: Float[Array, "rows F"], b: Float[Array, "columns F"]
) -> Float[Array, "rows columns"]:
    """A Bᵀ at full precision, accumulated in the dtype of the operands.

    Args:
        a: One vector a row.
        b: One vector a row.

    Returns:
        All inner products.
    """
    return jax.lax.dot_general(
        a, b, (((1,), (1,)), ((), ())), precision=jax.lax.Precision.HIGHEST
    )


def _by_rows(g: Float[Array, "... R"]) -> Float[Array, "rows R"]:
    return g.reshape(math.prod(g.shape[:-1]), g.shape[-1])


class Full(AbstractLayout):
    """Every pair of outputs: [N1, K1, N2, K2]."""

    name = "full"

    def shape(self, n1: int, n2: int, outputs: OutputCounts) -> tuple[int, ...]:
        return (n1, outputs[0], n2, outputs[1])

    def pairs(self, outputs: OutputCounts) -> int:
        return outputs[0] * outputs[1]

    def products(
        self, g1: Float[Array, "N1 K1 S1 R"], g2: Float[Array, "N2 K2 S2 R"]
    ) -> Float[Array, "N1 K1 S1 N2 K2 S2"]:
        flat = inner(_by_rows(g1), _by_rows(g2))
        return flat.reshape(*g1.shape[:3], *g2.shape[:3])

    def join(
        self,
        products: Float[Array, "N1 K1 S1 N2 K2 S2"],
        operands: Float[Array, "N1 S1 N2 S2"],
    ) -> Float[Array, "N1 K1 N2 K2"]:
        return jnp.sum(products * operands[:, None, :, :, None, :], axis=(2, 5))

    def transpose(
        self, kernel: Float[Array, "N1 K1 N2 K2"]
    ) -> Float[Array, "N2 K2 N1 K1"]:
        return jnp.transpose(kernel, (2, 3, 0, 1))

    def start(self, row: Array, column: Array) -> tuple[Array | int, ...]:
        return (row, 0, column, 0)


class Diagonal(AbstractLayout):
    """Equal outputs only: [N1, N2, K]."""

    name = "diagonal"

    def shape(self, n1: int, n2: int, outputs: OutputCounts) -> tuple[int, ...]:
        return (n1, n2, outputs[0])

    def pairs(self, outputs: OutputCounts) -> int:
        return outputs[0]

    def products(
        self, g1: Float[Array, "N1 K S1 R"], g2: Float[Array, "N2 K S2 R"]
    ) -> Float[Array, "N1 S1 N2 S2 K"]:
        by_output = jax.vmap(inner)(
            jax.vmap(_by_rows, 1)(g1), jax.vmap(_by_rows, 1)(g2)
        )
        shape = (g1.shape[1], g1.shape[0], g1.shape[2], g2.shape[0], g2.shape[2])
        return jnp.moveaxis(by_output.reshape(shape), 0, -1)

    def join(
        self,
        products: Float[Array, "N1 S1 N2 S2 K"],
        operands: Float[Array, "N1 S1 N2 S2"],
    ) -> Float[Array, "N1 N2 K"]:
        return jnp.sum(products * operands[..., None], axis=(1, 3))

    def transpose(self, kernel: Float[Array, "N1 N2 K"]) -> Float[Array, "N2 N1 K"]:
        return jnp.swapaxes(kernel, 0, 1)

    def start(self, row: Array, column: Array) -> tuple[Array | int, ...]:
        return (row, column, 0)


class Trace(AbstractLayout):
    """The sum over equal outputs: [N1, N2]."""

    name = "trace"

    def shape(self, n1: int, n2: int, outputs: OutputCounts) -> tuple[int, ...]:
        return (n1, n2)

    def pairs(self, outputs: OutputCounts) -> int:
        return 1

    def products(
        self, g1: Float[Array, "N1 K S1 R"], g2: Float[Array, "N2 K S2 R"]
    ) -> Float[Array, "N1 S1 N2 S2"]:
        a, b = (
            jnp.moveaxis(g, 1, 2).reshape(
                g.shape[0] * g.shape[2], g.shape[1] * g.shape[3]
            )
            for g in (g1, g2)
        )
        return inner(a, b).reshape(g1.shape[0], g1.shape[2], g2.shape[0], g2.shape[2])

    def join(
        self,
        products: Float[Array, "N1 S1 N2 S2"],
        operands: Float[Array, "N1 S1 N2 S2"],
    ) -> Float[Array, "N1 N2"]:
        return jnp.sum(products * operands, axis=(1, 3))

    def transpose(self, kernel: Float[Array, "N1 N2"]) -> Float[Array, "N2 N1"]:
        return kernel.T

    def start(self, row: Array, column: Array) -> tuple[Array | int, ...]:
        return (row, column)


LAYOUTS: Final[Mapping[str, AbstractLayout]] = MappingProxyType({
    layout.name: layout
    for layout in (Full(), Diagonal(), Trace())  # pyright: ignore[reportCallIssue]
})


def find_layout(name: str) -> AbstractLayout:
    """The layout of a name, as `outputs=` gives it.

    Args:
        name: "full", "diagonal" or "trace".

    Returns:
        The layout.

    Raises:
        ValueError: The name is none of these.
    """  # ruff: ignore[docstring-missing-exception, docstring-extraneous-exception]
    if name not in LAYOUTS:
        raise unknown_name("outputs", name, LAYOUTS)
    return LAYOUTS[name]


def check_outputs(layout: AbstractLayout, outputs: OutputCounts) -> None:
    """Refuse a layout of equal outputs for functions of unequally many.

    Args:
        layout: The layout.
        outputs: Outputs along the rows and along the columns.

    Raises:
        ValueError: The layout holds equal outputs only, and there are none.
    """
    if layout.name != "full" and outputs[0] != outputs[1]:
        raise ValueError(
            f"outputs={layout.name!r} pairs equal outputs of both functions, but of "
            f"apply=(a, b) a has {outputs[0]} and b has {outputs[1]}. Use "
            "outputs='full', the kernel of every output of a with every one of b."
        )
