"""What becomes of a weight on its way to a matmul: layout changes and scalar factors.

A chain says how an array inside the program is made from one trained leaf by
operations that only move numbers, drop some, or multiply all of them by one scalar:
transposing, reshaping, slicing, changing the precision, scaling. A loop may take the
leaf apart along its first axis, one block an iteration. Two uses of a leaf can be
contracted together only if they read it the same way, so a chain keeps, axis by axis,
where its numbers sit in the leaf.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import jax.numpy as jnp

Atom = Any
"""A slot of the program (an int), or a literal of its jaxpr."""


class Stage(NamedTuple):
    """Axes that numbers are addressed by until the next reshape.

    Attributes:
        windows: For each axis the half-open interval of indices that is read.
        order: The order of axes in which the next reshape read them.
    """

    windows: tuple[tuple[int, int], ...]
    order: tuple[int, ...] = ()


class Scale(NamedTuple):
    """One scalar factor.

    Attributes:
        atom: Where its value is found.
        inverse: Whether it divides.
    """

    atom: Atom
    inverse: bool


class Block(NamedTuple):
    """An axis along which a loop takes the leaf apart.

    Attributes:
        stage: The stage the axis belongs to.
        axis: The axis.
        loop: The loop.
    """

    stage: int
    axis: int
    loop: int


class Chain(NamedTuple):
    """An array that is one trained leaf up to layout and scalar factors.

    Attributes:
        leaf: Index of the leaf.
        stages: The leaf's own axes first, then those after each reshape.
        axes: For each axis of the array the axis of the last stage it runs along; −1
            for an axis of length one that was inserted.
        scales: The scalar factors.
        negative: Whether the sign was changed.
        blocks: The axes loops take apart, in the order of loops.
    """

    leaf: int
    stages: tuple[Stage, ...]
    axes: tuple[int, ...]
    scales: tuple[Scale, ...] = ()
    negative: bool = False
    blocks: tuple[Block, ...] = ()

    def iterated(self, loop: int) -> "Chain":
        """What one iteration of a loop sees of the chain.

        Args:
            loop: A loop over the first axis.

        Returns:
            The chain without that axis.
        """
        block = Block(len(self.stages) - 1, self.axes[0], loop)
        return self._replace(axes=self.axes[1:], blocks=(*self.blocks, block))

    def scaled(self, atom: Atom, inverse: bool) -> "Chain":
        """The chain times or over a scalar.

        Args:
            atom: The scalar.
            inverse: Whether to divide by it.

        Returns:
            The longer chain.
        """
        return self._replace(scales=(*self.scales, Scale(atom, inverse)))


def length(chain: Chain, axis: int) -> int:
    """How many indices an axis of the last stage runs over.

    Args:
        chain: The chain.
        axis: The axis, or −1 for an inserted one.

    Returns:
        The length.
    """
    if axis < 0:
        return 1
    first, last = chain.stages[-1].windows[axis]
    return last - first


def start_chain(leaf: int, shape: tuple[int, ...]) -> Chain:
    """The chain of a leaf as it enters the program.

    Args:
        leaf: Index of the leaf.
        shape: Its shape.

    Returns:
        The chain.
    """
    windows = tuple((0, size) for size in shape)
    return Chain(leaf, (Stage(windows),), tuple(range(len(shape))))


def disjoint(a: tuple[Stage, ...], b: tuple[Stage, ...]) -> bool:
    """Whether two chains read different numbers of the leaf.

    Args:
        a: Stages of one chain.
        b: Stages of the other.

    Returns:
        True only if no number is read by both.
    """
    for first, second in zip(a, b, strict=False):
        apart = any(
            x[1] <= y[0] or y[1] <= x[0]
            for x, y in zip(first.windows, second.windows, strict=True)
        )
        if apart:
            return True
        if first != second:  # later axes address different sets of numbers
            return False
    return False


def _transpose(
    chain: Chain, params: Mapping[str, Any], shape: tuple[int, ...]
) -> Chain:
    del shape
    return chain._replace(axes=tuple(chain.axes[i] for i in params["permutation"]))


def _broadcast(
    chain: Chain, params: Mapping[str, Any], shape: tuple[int, ...]
) -> Chain | None:
    axes = [-1] * len(shape)
    for axis, target in zip(chain.axes, params["broadcast_dimensions"], strict=True):
        axes[target] = axis
    repeats = any(
        size != 1 and size != length(chain, axis)
        for axis, size in zip(axes, shape, strict=True)
    )
    return None if repeats else chain._replace(axes=tuple(axes))


def _squeeze(chain: Chain, params: Mapping[str, Any], shape: tuple[int, ...]) -> Chain:
    del shape
    gone = {d % len(chain.axes) for d in params["dimensions"]}
    return chain._replace(
        axes=tuple(axis for i, axis in enumerate(chain.axes) if i not in gone)
    )


def _reshape(
    chain: Chain, params: Mapping[str, Any], shape: tuple[int, ...]
) -> Chain | None:
    if params.get("dimensions") is not None:
        return None
    long = [axis for axis in chain.axes if length(chain, axis) != 1]
    if [length(chain, axis) for axis in long] == [n for n in shape if n != 1]:
        kept = iter(long)
        return chain._replace(axes=tuple(-1 if n == 1 else next(kept) for n in shape))
    read = chain.stages[-1]._replace(order=chain.axes)
    whole = Stage(tuple((0, size) for size in shape))
    return chain._replace(
        stages=(*chain.stages[:-1], read, whole), axes=tuple(range(len(shape)))
    )


def _slice(
    chain: Chain, params: Mapping[str, Any], shape: tuple[int, ...]
) -> Chain | None:
    del shape
    if params["strides"] is not None and any(step != 1 for step in params["strides"]):
        return None
    windows = list(chain.stages[-1].windows)
    for axis, first, last in zip(
        chain.axes, params["start_indices"], params["limit_indices"], strict=True
    ):
        if axis >= 0:
            offset = windows[axis][0]
            windows[axis] = (offset + first, offset + last)
    return chain._replace(stages=(*chain.stages[:-1], Stage(tuple(windows))))


def _convert(
    chain: Chain, params: Mapping[str, Any], shape: tuple[int, ...]
) -> Chain | None:
    del shape
    return chain if jnp.issubdtype(params["new_dtype"], jnp.floating) else None


def _negate(chain: Chain, params: Mapping[str, Any], shape: tuple[int, ...]) -> Chain:
    del params, shape
    return chain._replace(negative=not chain.negative)


def _copy(chain: Chain, params: Mapping[str, Any], shape: tuple[int, ...]) -> Chain:
    del params, shape
    return chain


RULES: Final[
    Mapping[str, Callable[[Chain, Mapping[str, Any], tuple[int, ...]], Chain | None]]
] = MappingProxyType({
    "broadcast_in_dim": _broadcast,
    "convert_element_type": _convert,
    "copy": _copy,
    "neg": _negate,
    "reshape": _reshape,
    "slice": _slice,
    "squeeze": _squeeze,
    "transpose": _transpose,
})
"""Primitives of one operand a chain goes through: (chain, parameters, shape of the
result) -> the longer chain, or None where the rule does not hold."""
