"""Numbers that activations have: what they may be, and in which precision they act."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Number = float | Float[Array, ""]
"""A Python float, or an array of shape () that is differentiated through."""


def check_number(
    owner: str, name: str, value: float | int | Float[Array, ""]
) -> float | Float[Array, ""]:
    """Refuse what is not one finite number.

    Args:
        owner: The activation, as named in the message.
        name: The argument, as named in the message.
        value: What was given; an array is differentiated through, and not looked at.

    Returns:
        The number.

    Raises:
        ValueError: It is not one.
    """
    if isinstance(value, Array | np.ndarray):
        if value.shape == () and jnp.issubdtype(value.dtype, jnp.floating):
            return jnp.asarray(value)
    elif isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    raise ValueError(
        f"{owner}: `{name}` must be a finite number, or a floating-point array of "
        f"shape (), got {value!r}."
    )


def check_order(owner: str, name: str, value: int) -> int:
    """Refuse an order or degree that is no whole number from 0 on.

    Args:
        owner: The activation, as named in the message.
        name: The argument, as named in the message.
        value: What was given.

    Returns:
        The order.

    Raises:
        ValueError: It could not be one.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if whole and value >= 0:
        return int(value)
    raise ValueError(
        f"{owner}: `{name}` must be an integer from 0 on, got {value!r}. Other powers "
        "go through Elementwise(function)."
    )


def as_scalar(value: Number, like: Float[Array, "..."]) -> Float[Array, ""]:
    """The number in the precision of what it acts on.

    Args:
        value: The number.
        like: What it is to be combined with.

    Returns:
        An array of shape ().
    """
    return jnp.asarray(value, like.dtype)
