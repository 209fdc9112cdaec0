"""Branches that read the same units: when they may be joined, and made alike.

Two branches are independent given what they read if each has random weights of its own.
Where one of them has none, as the identity, the other must.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool

from ntkflow.infinite._layer import AbstractLayer
from ntkflow.infinite._moments import Moments


def check_branches(owner: str, branches: Sequence[Any]) -> None:
    """Refuse what are no branches.

    Args:
        owner: The layer that joins them, as named in the message.
        branches: What was given.

    Raises:
        ValueError: There are fewer than two, or something that is no layer.
    """
    if len(branches) < 2:
        raise ValueError(f"{owner} joins two branches or more, got {len(branches)}.")
    for branch in branches:
        if not isinstance(branch, AbstractLayer):
            raise ValueError(
                f"{owner} joins layers of ntkflow.infinite, got {branch!r}. Several "
                "layers in a row are one branch as a Sequential; the input itself is "
                "Identity()."
            )


def check_zero_mean(owner: str, branches: Sequence[AbstractLayer]) -> None:
    """Refuse branches of which more than one is neither zero-mean nor independent.

    Args:
        owner: The layer that adds them up, as named in the message.
        branches: The branches.

    Raises:
        ValueError: The kernel of the sum is not the sum of the kernels.
    """
    fixed = [i for i, branch in enumerate(branches) if not branch.is_random]
    if len(fixed) > 1:
        raise ValueError(
            f"{owner}: branches {fixed} do not end in random weights of their own, so "
            "that the kernel of the sum has cross terms: that of h + h is 4 K, not 2 "
            "K. End all of these branches but one with a Dense or a Conv."
        )


def check_independent(owner: str, independent: Sequence[bool]) -> None:
    """Refuse branches of which more than one has no random weights.

    Args:
        owner: The layer that multiplies them, as named in the message.
        independent: Whether each branch has.

    Raises:
        ValueError: The kernel of the product is not the product of the kernels.
    """
    fixed = [i for i, has_weights in enumerate(independent) if not has_weights]
    if len(fixed) > 1:
        raise ValueError(
            f"{owner}: branches {fixed} have no random weights of their own, so that "
            "they are not independent: E[h² h'²] is not K². Give all of these branches "
            "but one a Dense or a Conv."
        )


def agree(owner: str, found: Sequence[Moments]) -> list[Moments]:
    """The moments of all branches, over the same positions and masks.

    Pairs of positions are kept only where every branch has them: where what follows
    needs them, every branch was asked for them.

    Args:
        owner: The layer that joins them, as named in the message.
        found: The moments of the branches.

    Returns:
        The moments, which differ in what they hold but not in shape.

    Raises:
        ValueError: The branches end with different positions.
    """
    positions = [moments.positions for moments in found]
    if any(shape != positions[0] for shape in positions):
        raise ValueError(
            f"{owner}: the branches end with positions {positions}, which must be the "
            "same: give them the same strides, padding and pooling."
        )
    pairs = all(moments.pairs for moments in found)
    mask1 = _any_of([moments.mask1 for moments in found])
    mask2 = _any_of([moments.mask2 for moments in found])

    def alike(moments: Moments) -> Moments:
        held = [moments.nngp, moments.ntk, moments.own1, moments.own2]
        if not pairs:
            held = [
                moments.at_equal_positions(moment, examples)
                for moment, examples in zip(held, (2, 2, 1, 1), strict=True)
            ]
        return moments.with_moments(*held, mask1=mask1, mask2=mask2, pairs=pairs)

    return [alike(moments) for moments in found]


def check_same_units(owner: str, found: Sequence[Moments]) -> int | None:
    """How many units all branches have.

    Args:
        owner: The layer that joins them, as named in the message.
        found: The moments of the branches.

    Returns:
        The number, or None where no branch knows.

    Raises:
        ValueError: Two branches have different numbers of units.
    """
    known = [m.channels for m in found if m.channels is not None]
    if any(units != known[0] for units in known):
        raise ValueError(
            f"{owner}: the branches end with {known} units, which must be the same "
            "number: give the last layer of each branch the same width=..."
        )
    return known[0] if known else None


def _any_of(
    masks: Sequence[Bool[Array, "N ..."] | None],
) -> Bool[Array, "N ..."] | None:
    """A position holds something if it does in any branch."""
    held = None
    for mask in masks:
        if mask is None:
            return None
        held = mask if held is None or mask is held else jnp.logical_or(held, mask)
    return held
