"""Sine and cosine, and the random features of the squared exponential kernel."""

import math
from typing import final

import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkflow.infinite._activation import AbstractActivation
from ntkflow.infinite._checks import check_scale
from ntkflow.infinite._parameters import Number, as_scalar, check_number


@final
class Sin(AbstractActivation):
    """φ(x) = a·sin(b x + c).

    With S = b²(q₁+q₂)/2 and k = b²c₁₂, κ = a²e^{−S}(cos² c·sinh k + sin² c·cosh k) and
    κ̇ = a²b²e^{−S}(cos² c·cosh k + sin² c·sinh k).

    Args:
        a: Scale of the output.
        b: Frequency.
        c: Phase.

    Raises:
        ValueError: A parameter is no finite number.

    Source: Pearce, Tsuchida, Zaki, Brintrup & Neely (2020), cosine; by the
        characteristic function of the Gaussian.

    Verified by: tests/infinite/test_activations.py::test_dual_matches_quadrature
    """

    a: Number
    b: Number
    c: Number

    def __init__(
        self, a: Number | int = 1.0, b: Number | int = 1.0, c: Number | int = 0.0
    ):
        self.a = check_number("Sin", "a", a)
        self.b = check_number("Sin", "b", b)
        self.c = check_number("Sin", "c", c)

    def function(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The activation itself.

        Args:
            x: Preactivations.

        Returns:
            a·sin(b x + c).
        """
        a, b, c = (as_scalar(value, x) for value in (self.a, self.b, self.c))
        return a * jnp.sin(b * x + c)

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
        phase = as_scalar(self.c, c)
        sin2, cos2 = jnp.sin(phase) ** 2, jnp.cos(phase) ** 2
        # Differences of neighbors are exact: equal u and v give exactly 1.
        near = jnp.exp(-b2 / 2 * ((q1 - c) + (q2 - c)))
        far = jnp.exp(-b2 / 2 * ((q1 + c) + (q2 + c)))
        total = (near + far) / 2
        # near − far without cancellation, and without e^{2|k|}; double where.
        ahead = c >= 0
        k = b2 * c
        nothing = jnp.zeros_like(k)
        above = -near * jnp.expm1(-2 * jnp.where(ahead, k, nothing))
        below = far * jnp.expm1(2 * jnp.where(ahead, nothing, k))
        half = jnp.where(ahead, above, below) / 2
        kappa = a2 * (cos2 * half + sin2 * total)
        return kappa, a2 * b2 * (cos2 * total + sin2 * half)

    def second_moment(self, q: Float[Array, "..."]) -> Float[Array, "..."]:
        """E[φ(u)²].

        Args:
            q: Variances of u.

        Returns:
            The moment for every variance.
        """
        return self.dual(q, q, q)[0]


def Cos(  # ruff: ignore[invalid-function-name]
    a: Number | int = 1.0, b: Number | int = 1.0, c: Number | int = 0.0
) -> Sin:
    """φ(x) = a·cos(b x + c).

    Args:
        a: Scale of the output.
        b: Frequency.
        c: Phase.

    Returns:
        The layer, a sine of phase c + π/2.
    """
    return Sin(a, b, check_number("Cos", "c", c) + math.pi / 2)


@final
class Rbf(AbstractActivation):
    """φ(x) = √2·sin(√(2γ) x + π/4), whose κ is exp(−γ(q₁ + q₂ − 2c)).

    After a `Dense` without bias on inputs x of d units that is exp(−γ w_std²‖x−x'‖²/d),
    the squared exponential kernel. κ̇ = 2γκ.

    Args:
        gamma: The γ of the kernel.

    Raises:
        ValueError: γ is negative or no finite number.

    Source: Rahimi & Recht (2007), random Fourier features.

    Verified by: tests/infinite/test_activations.py::test_dual_matches_quadrature
    """

    gamma: Number

    def __init__(self, gamma: Number | int = 1.0):
        self.gamma = check_scale("Rbf", "gamma", gamma)

    def function(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The activation itself.

        Args:
            x: Preactivations.

        Returns:
            √2·sin(√(2γ) x + π/4).
        """
        frequency = jnp.sqrt(2 * as_scalar(self.gamma, x))
        return math.sqrt(2) * jnp.sin(frequency * x + math.pi / 4)

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
        gamma = as_scalar(self.gamma, c)
        kappa = jnp.exp(-gamma * ((q1 - c) + (q2 - c)))
        return kappa, 2 * gamma * kappa

    def second_moment(self, q: Float[Array, "..."]) -> Float[Array, "..."]:
        """E[φ(u)²] = 1.

        Args:
            q: Variances of u.

        Returns:
            The moment for every variance.
        """
        return jnp.ones_like(q)
