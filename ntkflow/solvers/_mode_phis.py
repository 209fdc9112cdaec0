"""φ-functions of one mode of a flow's stiff Jacobian, for every eigenvalue at once."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import Scalar
from ..theory import phi_slopes, phis


class ModePhis(NamedTuple):
    """φ_k of a step times the matrix of a mode, by index; c is its components.

    A decay is of one component, M = −σ − λ, an oscillator of two.

    Attributes:
        small: For λ = 0.
        large: For every λ.
        slopes: Their divided differences (small − large)/hλ.
    """

    small: Sequence[Float[Array, "c c"]] | Float[Array, "k c c"]
    large: Sequence[Float[Array, "c c m"]] | Float[Array, "k c c m"]
    slopes: Sequence[Float[Array, "c c m"]] | Float[Array, "k c c m"]


def decay_phis(
    count: int, h: Scalar, shift: Scalar | float | int, values: Float[Array, " m"]
) -> ModePhis:
    """φ-functions of a step of decays, and their divided differences.

    Args:
        count: The last index.
        h: The step, in units of time.
        shift: σ, not negative, in units of 1/time.
        values: λ, none negative, likewise.

    Returns:
        The functions.
    """
    drop = h * values
    top = jnp.full_like(drop[:1], -h * shift)
    # Both arguments at once: fewer operations compile faster.
    at = phis(count + 1, jnp.concatenate([top, top - drop]))
    small, large = [a[:1, None] for a in at], [a[None, None, 1:] for a in at]
    if isinstance(shift, float | int) and shift == 0:
        return ModePhis(small, large, large[1:])
    slopes = phi_slopes(count, jnp.broadcast_to(top, drop.shape), drop)
    return ModePhis(small, large, [slope[None, None] for slope in slopes])
