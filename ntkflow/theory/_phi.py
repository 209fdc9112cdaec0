"""The φ-functions, of which every exponential integrator is made.

φ₀(z) = eᶻ and φ_k(z) = ∫₀¹ e^{(1−s)z} s^{k−1}/(k−1)! ds, so that φ_k(0) = 1/k! and
z φ_{k+1}(z) = φ_k(z) − 1/k!. Near zero the recurrence subtracts what agrees, and far
from zero the series adds what cancels; each is used where the other fails.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_MODERATE = 4.0
"""Where the two arguments of a divided difference count as far from zero or apart."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
"""Gauss–Legendre quadrature on [−1, 1]; of e^{8s} it leaves 1e-19."""


def phi(k: int, z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """φ_k at real arguments, element by element.

    Args:
        k: Index, not negative.
        z: Arguments; negative ones as large as they come.

    Returns:
        The values.

    Source: Hochbruck & Ostermann (2010), eqs. 2.10 and 2.11.

    Verified by: tests/theory/test_phi.py::test_phi_is_the_sum_of_its_series
    """
    return phis(k, z)[k]


def phis(count: int, z: Float[Array, "*shape"]) -> list[Float[Array, "*shape"]]:
    """φ₀ to φ_count, at the cost of the last.

    Args:
        count: The last index, not negative.
        z: Real arguments.

    Returns:
        The values by index.

    Source: as `phi`.

    Verified by: tests/theory/test_phi.py::test_phi_is_the_sum_of_its_series
    """
    found = [jnp.exp(z)]
    if count == 0:
        return found
    # The terms of a series begin with zʲ k!/(j + k)!: up to here none exceeds the
    # first, so that their sum loses no digits.
    within = [max(k - 1.0, 0.5) for k in range(1, count + 1)]
    near = [jnp.abs(z) < bound for bound in within]
    # Double where: neither branch sees arguments at which its derivative fails.
    small = jnp.stack([jnp.where(n, z, jnp.zeros_like(z)) for n in near])
    series = _series(small, within[-1])
    for k in range(1, count + 1):
        away = jnp.where(near[k - 1], jnp.ones_like(z), z)
        below = jnp.expm1(away) if k == 1 else found[-1] - 1 / math.factorial(k - 1)
        found.append(jnp.where(near[k - 1], series[k - 1], below / away))
    return found


def _series(z: Float[Array, "k *shape"], bound: float) -> Float[Array, "k *shape"]:
    """Row k − 1 is the series of φ_k."""
    terms, size = 0, 1.0
    while size > 0.25 * np.finfo(z.dtype).eps:
        terms += 1
        size *= bound / (len(z) + terms)
    coefficients = np.array([
        [1 / math.factorial(k + j) for k in range(1, len(z) + 1)]
        for j in reversed(range(terms + 1))
    ])
    shaped = coefficients.reshape(*coefficients.shape, *[1] * (z.ndim - 1))
    shaped = np.broadcast_to(shaped, (terms + 1, *z.shape)).astype(z.dtype)
    # Written out, the many terms of the many uses would take long to compile.
    return jnp.polyval(jnp.asarray(shaped), z, unroll=1)


def phi_slopes(
    count: int, z: Float[Array, "*shape"], drop: Float[Array, "*shape"]
) -> list[Float[Array, "*shape"]]:
    """Divided differences (φ_k(z) − φ_k(z − drop))/drop without cancellation.

    At z = 0 they are φ_{k+1}(−drop), and at drop = 0 the derivatives of φ_k.

    Args:
        count: The last index, not negative.
        z: Larger arguments, none positive.
        drop: How far below the smaller ones lie, none negative.

    Returns:
        The values by index k from zero, all positive.

    Source: derived here. For φ₀ it is e^z φ₁(−drop); for the others far from zero by
    the recurrence, with Leibniz' rule; near zero, for arguments apart, as it is
    written, and for close ones by quadrature of ∫₀¹ (1−s) s^{k−1}/(k−1)! e^{(1−s)z}
    φ₁(−(1−s)drop) ds, the divided difference of the integral that defines φ_k.

    Verified by: tests/theory/test_phi.py::test_divided_difference_is_that_of_the_series
    """
    found = [jnp.exp(z) * phi(1, -drop)]
    if count == 0:
        return found
    far, apart = z < -_MODERATE, drop > _MODERATE
    # Where a branch is not taken it sees other arguments, as in `phis`.
    far_z = jnp.where(far, z, -jnp.ones_like(z))
    apart_drop = jnp.where(apart, drop, jnp.ones_like(drop))
    high, low = phis(count, z), phis(count, z - drop)
    close = _quadrature(count, jnp.maximum(z, -_MODERATE), jnp.minimum(drop, _MODERATE))
    for k in range(1, count + 1):
        by_recurrence = (low[k] - found[-1]) / -far_z
        as_written = (high[k] - low[k]) / apart_drop
        near = jnp.where(apart, as_written, close[k - 1])
        found.append(jnp.where(far, by_recurrence, near))
    return found


def _quadrature(
    count: int, z: Float[Array, "*shape"], drop: Float[Array, "*shape"]
) -> Float[Array, "k *shape"]:
    s = 0.5 * (1 + _NODES)
    weights = np.stack([
        0.5 * _WEIGHTS * (1 - s) * s ** (k - 1) / math.factorial(k - 1)
        for k in range(1, count + 1)
    ])
    left = jnp.asarray((1 - s).astype(z.dtype))
    at_nodes = jnp.exp(jnp.multiply.outer(left, z)) * phi(
        1, -jnp.multiply.outer(left, drop)
    )
    factors = jnp.asarray(weights.astype(z.dtype))
    return jnp.tensordot(factors, at_nodes, axes=1, precision="highest")
