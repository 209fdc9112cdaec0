"""Refusals shared by what is continuous in depth: branches that could not be one."""

from ntkflow.infinite._layer import AbstractLayer, Shape
from ntkflow.infinite._moments import Moments


def check_branch(owner: str, branch: AbstractLayer) -> None:
    """Refuse a branch that does not end in random weights of its own.

    Args:
        owner: The layer, as named in the message.
        branch: What it adds to the state along depth.

    Raises:
        ValueError: It is no layer, or its units are not zero-mean and independent.
    """
    if not isinstance(branch, AbstractLayer):
        raise ValueError(
            f"{owner} takes a layer of ntkflow.infinite as its branch, got {branch!r}. "
            "Several are one as Sequential([Relu(), Dense()])."
        )
    if not branch.is_random:
        raise ValueError(
            f"{owner}: the branch must end in a layer with random weights of its own, "
            "else what it adds to the state depends on the state and no kernel "
            "follows. End it with Dense, as in Sequential([Relu(), Dense()])."
        )


def check_velocity(owner: str, moments: Moments, after: Moments) -> None:
    """Refuse a branch whose units cannot be added to those of the state.

    Args:
        owner: The layer, as named in the message.
        moments: Those of the state.
        after: Those of the branch's output.

    Raises:
        ValueError: The positions or the numbers of units differ.
    """
    known = moments.channels is not None and after.channels is not None
    if after.nngp.shape == moments.nngp.shape and after.gaussian:
        if not known or after.channels == moments.channels:
            return
        raise ValueError(
            f"{owner}: the branch returns {after.channels} units and the state has "
            f"{moments.channels}. Give the branch's last layer "
            f"width={moments.channels}, or none."
        )
    raise ValueError(
        f"{owner}: the branch must return Gaussian units at the positions of the "
        f"state, {moments.positions}, got positions {after.positions}. Take a branch "
        "that keeps positions, and pool or flatten behind it."
    )


def check_shape(owner: str, shape: Shape, after: Shape) -> None:
    """Refuse a finite branch whose output cannot be added to the state.

    Args:
        owner: The layer, as named in the message.
        shape: Units and positions of the state.
        after: Those that the branch returns.

    Raises:
        ValueError: They differ.
    """
    if after != shape:
        raise ValueError(
            f"{owner}: the state has shape {shape} and the branch returns {after}. "
            f"Give the branch's last layer width={shape[0]}, or build the network "
            "with the width that the layer in front has."
        )
