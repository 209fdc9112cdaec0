"""Linear maps of positions, and positions that hold nothing."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkflow.infinite._moments import Moments


def on_both_sides(
    moments: Moments,
    act: Callable[[Float[Array, "..."], int], Float[Array, "..."]],
    **changes: Any,
) -> Moments:
    """The moments of units after a linear map of their positions.

    Args:
        moments: Those of the units, for all pairs of positions.
        act: Maps values, of which it is told the first axis of positions.
        **changes: New values of other attributes.

    Returns:
        Those after the map.
    """
    rank = len(moments.positions)

    def both(moment: Float[Array, "..."], examples: int) -> Float[Array, "..."]:
        # The later axes first: the map may take axes away.
        return act(act(moment, examples + rank), examples)

    return moments.with_moments(
        both(moments.nngp, 2),
        both(moments.ntk, 2),
        both(moments.own1, 1),
        both(moments.own2, 1),
        **changes,
    )


def beside_itself(
    moments: Moments, numbers: Float[Array, "N *S"]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Quantities of examples, shaped to go with `own1` or `own2`.

    Args:
        moments: Whose layout it is.
        numbers: A number for each example and position.

    Returns:
        Those of the first position and of the second.
    """
    if not moments.pairs:
        return numbers, numbers
    count, *shape = numbers.shape
    ones = (1,) * len(shape)
    return numbers.reshape(count, *shape, *ones), numbers.reshape(count, *ones, *shape)


def scaled(
    moments: Moments, factor1: Float[Array, "N1 *S"], factor2: Float[Array, "N2 *S"]
) -> Moments:
    """The moments of units times a number for each example and position.

    Args:
        moments: Those of the units.
        factor1: The number for the rows.
        factor2: The number for the columns.

    Returns:
        Those of the products.
    """
    rows, columns = moments.beside(factor1, factor2)
    rows1, columns1 = beside_itself(moments, factor1)
    rows2, columns2 = beside_itself(moments, factor2)
    return moments.with_moments(
        moments.nngp * rows * columns,
        moments.ntk * rows * columns,
        moments.own1 * rows1 * columns1,
        moments.own2 * rows2 * columns2,
    )


def silenced(moments: Moments) -> Moments:
    """The moments of units that are zero at masked positions.

    Args:
        moments: Those of any units.

    Returns:
        The same where nothing is masked.
    """
    if moments.mask1 is None or moments.mask2 is None:
        return moments
    dtype = moments.nngp.dtype
    return scaled(moments, moments.mask1.astype(dtype), moments.mask2.astype(dtype))


def shares(moments: Moments) -> tuple[Float[Array, "N1 *S"], Float[Array, "N2 *S"]]:
    """The weights of positions in a mean over those that hold something.

    Args:
        moments: Whose positions they are.

    Returns:
        One over their number, for the rows and the columns; 0 for masked positions.
    """
    dtype = moments.nngp.dtype
    shape = moments.positions
    ones1 = jnp.ones((moments.own1.shape[0], *shape), dtype)
    ones2 = jnp.ones((moments.own2.shape[0], *shape), dtype)
    held1 = ones1 if moments.mask1 is None else moments.mask1.astype(dtype)
    held2 = ones2 if moments.mask2 is None else moments.mask2.astype(dtype)
    axes = tuple(range(1, 1 + len(shape)))

    def share(held: Float[Array, "N *S"]) -> Float[Array, "N *S"]:
        total = jnp.sum(held, axis=axes, keepdims=True)
        return held / jnp.maximum(total, jnp.ones_like(total))

    return share(held1), share(held2)


def along(
    x: Float[Array, "..."], matrix: Float[Array, "T S"], axis: int
) -> Float[Array, "..."]:
    """A matrix applied to one axis.

    Args:
        x: Values with positions.
        matrix: The matrix, new positions first.
        axis: The axis.

    Returns:
        The same with the new positions in its place.
    """
    found = jnp.tensordot(matrix, x, axes=(1, axis), precision="highest")
    return jnp.moveaxis(found, 0, axis)
