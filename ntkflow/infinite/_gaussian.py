"""Gaussian bumps, bare and around a wave."""

from typing import final

import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkflow.infinite._activation import AbstractActivation, determinant
from ntkflow.infinite._checks import check_scale
from ntkflow.infinite._parameters import Number, as_scalar, check_number


@final
class Gaussian(AbstractActivation):
    """φ(x) = a·exp(−b x²).

    With D = 1 + 2b(q₁+q₂) + 4b²(q₁q₂ − c²), κ = a²/√D and κ̇ = 4a²b²c/D^{3/2}.

    Args:
        a: Scale of the output.
        b: How fast it falls.

    Raises:
        ValueError: b is negative, or a parameter is no finite number.

    Source: the Gaussian integral over u and v.

    Verified by: tests/infinite/test_activations.py::test_dual_matches_quadrature
    """

    a: Number
    b: Number

    def __init__(self, a: Number | int = 1.0, b: Number | int = 1.0):
        self.a = check_number("Gaussian", "a", a)
        self.b = check_scale("Gaussian", "b", b)

    def function(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The activation itself.

        Args:
            x: Preactivations.

        Returns:
            a·exp(−b x²).
        """
        return as_scalar(self.a, x) * jnp.exp(-as_scalar(self.b, x) * x**2)

    def dual(
        self,
        c: Float[Array, "..."],
        q1: Float[Array, "..."],
        q2: Float[Array, "..."],
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """E[φ(u) φ(v)] and E[φ'(u) φ'(v)].

        Args:
            c: Covariances of u and v.
            q1: Variances of u.
            q2: Variances of v.

        Returns:
            Both.
        """
        a2, b = as_scalar(self.a, c) ** 2, as_scalar(self.b, c)
        size = 1 + 2 * b * (q1 + q2) + 4 * b**2 * determinant(c, q1, q2)
        kappa = a2 / jnp.sqrt(size)
        return kappa, 4 * b**2 * c * kappa / size

    def second_moment(self, q: Float[Array, "..."]) -> Float[Array, "..."]:
        """E[φ(u)²] = a²/√(1 + 4bq).

        Args:
            q: Variances of u.

        Returns:
            The moment for every variance.
        """
        return as_scalar(self.a, q) ** 2 / jnp.sqrt(1 + 4 * as_scalar(self.b, q) * q)


@final
class Gabor(AbstractActivation):
    """φ(x) = exp(−x²) sin x.

    With Δ = q₁q₂ − c², D = 1 + 2(q₁+q₂) + 4Δ, S = (q₁+q₂+4Δ)/(2D) and k = c/D,
    κ = e^{−S} sinh k/√D and κ̇ = e^{−S}((8c − 8cS) sinh k + (1 + 8ck) cosh k)/D^{3/2}.

    Source: the characteristic function of the Gaussian that exp(−u²−v²) tilts.

    Verified by: tests/infinite/test_activations.py::test_dual_matches_quadrature
    """

    def function(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The activation itself.

        Args:
            x: Preactivations.

        Returns:
            exp(−x²) sin x.
        """
        return jnp.exp(-(x**2)) * jnp.sin(x)

    def dual(
        self,
        c: Float[Array, "..."],
        q1: Float[Array, "..."],
        q2: Float[Array, "..."],
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """E[φ(u) φ(v)] and E[φ'(u) φ'(v)].

        Args:
            c: Covariances of u and v.
            q1: Variances of u.
            q2: Variances of v.

        Returns:
            Both.
        """
        delta = determinant(c, q1, q2)
        size = 1 + 2 * (q1 + q2) + 4 * delta
        spread, k = (q1 + q2 + 4 * delta) / (2 * size), c / size
        scale = jnp.exp(-spread) / jnp.sqrt(size)
        # |k| ≤ 1/4, so that neither function grows.
        odd, even = jnp.sinh(k), jnp.cosh(k)
        slope = 8 * c * (1 - spread) * odd + (1 + 8 * c * k) * even
        return scale * odd, scale * slope / size

    def second_moment(self, q: Float[Array, "..."]) -> Float[Array, "..."]:
        """E[φ(u)²].

        Args:
            q: Variances of u.

        Returns:
            The moment for every variance.
        """
        return self.dual(q, q, q)[0]
