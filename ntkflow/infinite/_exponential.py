"""Exponentials of the unit, and of the angle between units."""

from typing import final

import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkflow.infinite._activation import (
    AbstractActivation,
    geometric_mean,
    safe_divide,
)
from ntkflow.infinite._checks import check_scale
from ntkflow.infinite._parameters import Number, as_scalar, check_number


@final
class Exponential(AbstractActivation):
    """φ(x) = a·exp(b x), whose κ is a² exp(b²(q₁ + q₂ + 2c)/2), and κ̇ = b²κ.

    Args:
        a: Scale of the output.
        b: Scale of the input.

    Raises:
        ValueError: A parameter is no finite number.

    Source: Daniely, Frostig & Singer (2016), table 1, for every variance.

    Verified by: tests/infinite/test_activations.py::test_dual_matches_quadrature
    """

    a: Number
    b: Number

    def __init__(self, a: Number | int = 1.0, b: Number | int = 1.0):
        self.a = check_number("Exponential", "a", a)
        self.b = check_number("Exponential", "b", b)

    def function(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The activation itself.

        Args:
            x: Preactivations.

        Returns:
            a·exp(b x).
        """
        return as_scalar(self.a, x) * jnp.exp(as_scalar(self.b, x) * x)

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
        a2, b2 = as_scalar(self.a, c) ** 2, as_scalar(self.b, c) ** 2
        # The differences are exact where u and v are opposite.
        kappa = a2 * jnp.exp(b2 / 2 * ((q1 + c) + (q2 + c)))
        return kappa, b2 * kappa

    def second_moment(self, q: Float[Array, "..."]) -> Float[Array, "..."]:
        """E[φ(u)²] = a² exp(2b²q).

        Args:
            q: Variances of u.

        Returns:
            The moment for every variance.
        """
        return as_scalar(self.a, q) ** 2 * jnp.exp(2 * as_scalar(self.b, q) ** 2 * q)


@final
class NormalizedExponential(AbstractActivation):
    """κ = √(q₁q₂)·exp(γ(cos θ − 1)) with θ the angle between u and v; κ̇ = ∂κ/∂c.

    The kernel of a Gaussian of the distance between normalized vectors. No function of
    one variable has it, so it has no finite counterpart.

    Args:
        gamma: The γ of the kernel.

    Raises:
        ValueError: γ is negative or no finite number.

    Source: Shankar, Fang, Guo, Fridovich-Keil, Ragan-Kelley, Schmidt & Recht (2020),
        section 6.

    Verified by:
    tests/infinite/test_activations.py::test_normalized_exponential_is_the_mehler_sum
    """

    gamma: Number

    def __init__(self, gamma: Number | int = 1.0):
        self.gamma = check_scale("NormalizedExponential", "gamma", gamma)

    def function(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """There is none.

        Args:
            x: Not used.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "NormalizedExponential is a kernel that no function of one variable has, "
            "so no finite network has it either: use Rbf or Exponential for one."
        )

    def dual(
        self,
        c: Float[Array, "..."],
        q1: Float[Array, "..."],
        q2: Float[Array, "..."],
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """κ and ∂κ/∂c.

        Args:
            c: Covariances of u and v.
            q1: Variances of u.
            q2: Variances of v.

        Returns:
            Both.
        """
        gamma = as_scalar(self.gamma, c)
        norm = geometric_mean(q1, q2)
        # Not clipped, which would halve derivatives at the end; rounding does no harm.
        beyond = safe_divide(c - norm, norm)
        turned = jnp.where(norm > 0, beyond, -jnp.ones_like(beyond))
        share = jnp.exp(gamma * turned)
        return norm * share, gamma * share

    def second_moment(self, q: Float[Array, "..."]) -> Float[Array, "..."]:
        """κ of a unit with itself, its variance.

        Args:
            q: Variances of u.

        Returns:
            The moment for every variance.
        """
        return q
