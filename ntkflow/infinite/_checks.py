"""Refusals shared by the layers: scales, widths, and what precedes a layer."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkflow.infinite._moments import Moments


def check_scale(
    owner: str, name: str, value: float | int | Float[Array, "..."]
) -> float | Float[Array, ""]:
    """Refuse a scale that is negative, not finite or no number.

    Args:
        owner: The layer, as named in the message.
        name: The argument, as named in the message.
        value: What was given; an array is differentiated through, and not looked at.

    Returns:
        The scale.

    Raises:
        ValueError: It could not be a scale.
    """
    if isinstance(value, Array | np.ndarray):
        if value.shape == () and jnp.issubdtype(value.dtype, jnp.floating):
            return jnp.asarray(value)
    elif (
        isinstance(value, int | float | np.number)
        and not isinstance(value, bool | np.complexfloating)
        and math.isfinite(value)
        and value >= 0
    ):
        return float(value)
    raise ValueError(
        f"{owner}: `{name}` must be a number that is finite and not negative, or a "
        f"floating-point array of shape (), got {value!r}."
    )


def check_width(owner: str, width: int | None) -> None:
    """Refuse a width that is no positive integer.

    Args:
        owner: The layer, as named in the message.
        width: What was given, or None.

    Raises:
        ValueError: It is neither None nor a positive integer.
    """
    whole = isinstance(width, int | np.integer) and not isinstance(width, bool)
    if width is not None and not (whole and width > 0):
        raise ValueError(
            f"{owner}: `width` must be a positive integer, or None, got {width!r}."
        )


def check_gaussian(owner: str, moments: Moments) -> None:
    """Refuse units that are not Gaussian.

    Args:
        owner: The layer, as named in the message.
        moments: Those of its input.

    Raises:
        ValueError: The units are inputs, or outputs of a nonlinear layer.
    """
    if not moments.gaussian:
        raise ValueError(
            f"{owner} needs Gaussian units: it must follow a layer with random "
            "weights, such as Dense or Conv, with linear layers at most between them. "
            "Inputs and the outputs of an activation are not Gaussian: put a Dense in "
            "front of it. Units behind Flatten are not of one distribution: put it "
            "before Flatten."
        )


def check_positions(owner: str, moments: Moments, least: int = 1) -> None:
    """Refuse units that have too few axes of positions.

    Args:
        owner: The layer, as named in the message.
        moments: Those of its input.
        least: Axes that there must be.

    Raises:
        ValueError: There are fewer.
    """
    if len(moments.positions) < least:
        raise ValueError(
            f"{owner} needs inputs with positions, such as images of shape "
            f"[C, H, W], and meets units with {len(moments.positions)} axes of them: "
            "put it before Flatten or GlobalAvgPool, and give x as [N, C, ...]."
        )


def check_sequence(owner: str, positions: tuple[int, ...]) -> None:
    """Refuse what has not exactly one axis of positions.

    Args:
        owner: The layer, as named in the message.
        positions: The number of positions along each axis.

    Raises:
        ValueError: There is another number of axes.
    """
    if len(positions) != 1:
        raise ValueError(
            f"{owner} is over one axis of positions, and meets units with "
            f"{len(positions)}: give x as [N, C, T], with the positions of an image in "
            "one axis, x.reshape(N, C, H * W)."
        )
