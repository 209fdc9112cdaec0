"""The error function, and the sigmoid that is nearest to it."""

from typing import Final, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkflow.infinite._activation import AbstractActivation, determinant
from ntkflow.infinite._angle import arctan2
from ntkflow.infinite._parameters import Number, as_scalar, check_number

SIGMOID_WIDTH: Final = 2.4020563531719796
"""The w for which ½(erf(x/w) + 1) is nearest to the logistic sigmoid."""


@final
class Erf(AbstractActivation):
    """φ(x) = a·erf(b x) + c.

    With Δ = q₁q₂ − c₁₂² and D = 1 + 2b²(q₁+q₂) + 4b⁴Δ, κ = (2a²/π)·atan(2b²c₁₂/√D) +
    c² and κ̇ = 4a²b²/(π√D).

    Args:
        a: Scale of the output.
        b: Scale of the input.
        c: Shift of the output.

    Raises:
        ValueError: A parameter is no finite number.

    Source: Williams (1997), on sigmoidal units, an arcsine written as the arctangent
        that keeps its digits.

    Verified by: tests/infinite/test_activations.py::test_dual_matches_quadrature
    """

    a: Number
    b: Number
    c: Number

    def __init__(
        self, a: Number | int = 1.0, b: Number | int = 1.0, c: Number | int = 0.0
    ):
        self.a = check_number("Erf", "a", a)
        self.b = check_number("Erf", "b", b)
        self.c = check_number("Erf", "c", c)

    def function(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The activation itself.

        Args:
            x: Preactivations.

        Returns:
            a·erf(b x) + c.
        """
        a, b, c = (as_scalar(value, x) for value in (self.a, self.b, self.c))
        return a * jax.scipy.special.erf(b * x) + c

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
        a2, b2, shift2 = (as_scalar(s, c) ** 2 for s in (self.a, self.b, self.c))
        delta = determinant(c, q1, q2)
        root = jnp.sqrt(1 + 2 * b2 * (q1 + q2) + 4 * b2**2 * delta)
        angle = arctan2(2 * b2 * c, root)
        return 2 / jnp.pi * a2 * angle + shift2, 4 / jnp.pi * a2 * b2 / root

    def second_moment(self, q: Float[Array, "..."]) -> Float[Array, "..."]:
        """E[φ(u)²].

        Args:
            q: Variances of u.

        Returns:
            The moment for every variance.
        """
        return self.dual(q, q, q)[0]


def SigmoidLike() -> Erf:  # ruff: ignore[invalid-function-name]
    """A sigmoid of closed form, ½(erf(x/2.4020563531719796) + 1).

    It differs from 1/(1 + exp(−x)) by 0.02 at most; `Sigmoid` is that one itself.

    Returns:
        The layer.
    """
    return Erf(0.5, 1 / SIGMOID_WIDTH, 0.5)
