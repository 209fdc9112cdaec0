"""Where a program rounds its results below the precision it computes in.

The derivative of rounding is taken to be the identity, and is rounded itself: the
tangent in forward mode, the cotangent in reverse. So the two modes give two different
maps, and a product of numbers that were multiplied first is another one than that of
their factors.
"""

from typing import Any, Final

import jax.extend.core as jex
import jax.numpy as jnp
from jax.lax import DotAlgorithm, DotAlgorithmPreset as Preset

from ntkflow._equations import parameters

EXACT: Final = frozenset({Preset.DEFAULT, Preset.F32_F32_F32, Preset.F64_F64_F64})


def bits(dtype: Any) -> int:
    """Bits of the mantissa that a real dtype holds.

    Args:
        dtype: Any dtype.

    Returns:
        Their number; 0 for a dtype that is not one of real numbers.
    """
    return jnp.finfo(dtype).nmant if jnp.issubdtype(dtype, jnp.floating) else 0


def bits_left(equation: jex.JaxprEqn) -> int | None:
    """To how many bits an equation rounds what it is given.

    Args:
        equation: The equation.

    Returns:
        Bits of the mantissa, or None where it keeps all that its operands have.
    """
    if not equation.outvars:  # a callback that only tells
        return None
    params, given = parameters(equation), max(_bits(v) for v in equation.invars)
    left = min(_bits(v) for v in equation.outvars)
    if equation.primitive.name == "reduce_precision":
        left = min(left, params["mantissa_bits"])
    elif isinstance(params.get("precision"), DotAlgorithm):
        left = min(left, bits(params["precision"].lhs_precision_type))
    elif isinstance(params.get("precision"), Preset):
        precision = params["precision"]
        if precision not in EXACT:
            # Of its operands, whatever it accumulates in.
            left = min(left, 3 if "F8" in precision.name else 10)
    return left if 0 < left < given else None


def _bits(variable: Any) -> int:
    return bits(getattr(variable.aval, "dtype", bool))
