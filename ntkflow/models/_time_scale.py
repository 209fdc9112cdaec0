"""The time scale c of the gradient flow θ̇ = −c∇L that a model asks for."""

import math
import numbers
from typing import Any

import jax

from .._tracing import is_traced
from .._types import Scalar


def time_scale(model: Any) -> float | Scalar:
    """The c of θ̇ = −c∇L that gives the model a limit as its scale or width grows.

    Args:
        model: Any equinox module. One that has an attribute or property `time_scale`
            is asked for it; the scale of a layer deeper inside is not looked for.

    Returns:
        The model's own `time_scale`: the width for mean-field networks, 1/α² for
        `Scaled`, products where they are nested. 1 for a model without one. An array
        where a property computes it from arrays.

    Raises:
        ValueError: If the model's `time_scale` is not a positive finite number.
    """
    scale = getattr(model, "time_scale", 1.0)
    computed = isinstance(getattr(type(model), "time_scale", None), property)
    is_array = computed and isinstance(scale, jax.Array) and scale.shape == ()
    if is_array and (is_traced(scale) or (math.isfinite(scale) and scale > 0)):
        return scale
    real = isinstance(scale, numbers.Real) and not isinstance(scale, bool)
    if not real or not math.isfinite(scale) or scale <= 0:
        raise ValueError(
            f"The `time_scale` of {type(model).__name__} must be a positive finite "
            f"number, the c of dθ/dt = −c∇L, got {scale!r}. Rename the attribute if it "
            "means something else."
        )
    return float(scale)
