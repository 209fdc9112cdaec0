"""Whether a value is at hand, or stands for one in a program that is being traced."""

from typing import Any

import jax
import numpy as np


def is_traced(value: Any) -> bool:
    """Whether a value is not known yet, as inside `jax.jit` or `jax.vmap`.

    Args:
        value: A number or an array.

    Returns:
        Whether it is; what is traced cannot be checked.
    """
    try:
        np.asarray(value)
    except jax.errors.TracerArrayConversionError:
        return True
    return False
