"""Refusals shared by the models: sizes, scales, dtypes, and batches."""

import math

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Shaped


def check_size(owner: str, name: str, value: int, minimum: int = 1) -> None:
    """Refuse a size that is no integer or below the minimum.

    Args:
        owner: The model, as named in the message.
        name: The argument, as named in the message.
        value: What was given.
        minimum: The least size that makes sense.

    Raises:
        ValueError: If `value` is not an integer of at least `minimum`.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < minimum:
        raise ValueError(
            f"{owner}: `{name}` must be an integer of at least {minimum}, got "
            f"{value!r}."
        )


def check_positive(owner: str, name: str, value: float | int) -> float:
    """Refuse a scale that is not a positive finite number.

    Args:
        owner: The model, as named in the message.
        name: The argument, as named in the message.
        value: What was given.

    Returns:
        The scale as a Python float, which never promotes an array's dtype.

    Raises:
        ValueError: If `value` is not positive and finite.
    """
    if not (math.isfinite(value) and value > 0):
        raise ValueError(
            f"{owner}: `{name}` must be positive and finite, got {value!r}."
        )
    return float(value)


def check_nonnegative(owner: str, name: str, value: float | int) -> float:
    """Refuse a scale that is negative or not finite.

    Args:
        owner: The model, as named in the message.
        name: The argument, as named in the message.
        value: What was given.

    Returns:
        The scale as a Python float, which never promotes an array's dtype.

    Raises:
        ValueError: If `value` is negative or not finite.
    """
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(
            f"{owner}: `{name}` must be zero or positive, and finite, got {value!r}."
        )
    return float(value)


def resolve_dtype(dtype: DTypeLike | None) -> np.dtype:
    """The dtype of the parameters: what was asked for, or JAX's default float.

    Args:
        dtype: A real floating dtype, or `None` for float64 where JAX has x64 enabled
            and float32 elsewhere.

    Returns:
        The dtype.

    Raises:
        ValueError: If the dtype is not a real floating one, or is one that JAX would
            silently truncate.
    """
    default = jnp.result_type(float)
    if dtype is None:
        return default
    asked = jnp.dtype(dtype)
    if not jnp.issubdtype(asked, jnp.floating):
        raise ValueError(
            f"Parameters need a real floating `dtype`, got {asked.name}. Use float32 "
            "or float64."
        )
    if asked.itemsize > default.itemsize:
        raise ValueError(
            f"JAX would truncate {asked.name} to {default.name}. Call "
            'jax.config.update("jax_enable_x64", True) first, or use '
            f"dtype={default.name}."
        )
    return asked


def check_example(owner: str, x: Shaped[Array, "..."], shape: tuple[int, ...]) -> None:
    """Refuse an input that is not one example of the given shape.

    Args:
        owner: The model, as named in the message.
        x: What the model was called on.
        shape: The shape of one example.

    Raises:
        ValueError: If `x` has another shape; a batch is named as such.
    """
    if x.shape == shape:
        return
    if x.shape[1:] == shape:
        remedy = (
            f"This is a batch of {x.shape[0]}: write jax.vmap(model)(x), or hand the "
            "model and its data to ntkflow.Problem, which maps it over the examples."
        )
    else:
        remedy = "Reshape the example, or build the model for this shape."
    raise ValueError(
        f"{owner} takes ONE example of shape {shape}, got shape {x.shape}. {remedy}"
    )
