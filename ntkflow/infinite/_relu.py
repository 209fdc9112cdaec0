"""The rectified linear unit and its leaky relatives."""

from typing import final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkflow.infinite._activation import (
    AbstractActivation,
    Triple,
    safe_divide,
    sine_and_cosine,
)
from ntkflow.infinite._angle import supplement

Pair = tuple[Float[Array, "..."], Float[Array, "..."]]


@final
class LeakyRelu(AbstractActivation):
    """φ(x) = x above zero, slope·x below: 0 is ReLU, −1 the absolute value.

    With θ the angle between u and v, κ = (1−s)²/(2π)·√(q₁q₂)·(sin θ + (π−θ) cos θ) + s
    c and κ̇ = (1−s)²/(2π)·(π−θ) + s.

    Args:
        slope: The slope s below zero.

    Source: Cho & Saul (2009), the kernel of degree 1; s by the linear part of φ.

    Verified by: tests/infinite/test_activations.py::test_dual_matches_quadrature
    """

    slope: float = 0.01

    def function(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The activation itself.

        Args:
            x: Preactivations.

        Returns:
            x above zero, slope·x below.
        """
        return jnp.where(x > 0, x, self.slope * x)

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
        bend = (1 - self.slope) ** 2 / (2 * jnp.pi)
        kappa, kappa_dot = _arc_cosine(c, q1, q2)
        return bend * kappa + self.slope * c, bend * kappa_dot + self.slope

    def second_moment(self, q: Float[Array, "..."]) -> Float[Array, "..."]:
        """E[φ(u)²] = (1 + s²)/2·q.

        Args:
            q: Variances of u.

        Returns:
            The moment for every variance.
        """
        return (1 + self.slope**2) / 2 * q


@jax.custom_jvp
def _arc_cosine(
    c: Float[Array, "..."], q1: Float[Array, "..."], q2: Float[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """√(q₁q₂)(sin θ + (π−θ) cos θ) and π−θ."""
    sine, cosine = sine_and_cosine(c, q1, q2)
    rest = supplement(sine, cosine)
    return sine + rest * cosine, rest


@_arc_cosine.defjvp
def _arc_cosine_jvp(primals: Triple, tangents: Triple) -> tuple[Pair, Pair]:
    # Written out, the parts of the first that are infinite at θ = 0 cancel by hand.
    (c, q1, q2), (dc, dq1, dq2) = primals, tangents
    kappa, rest = _arc_cosine(c, q1, q2)
    sine, cosine = sine_and_cosine(c, q1, q2)
    stretch = (safe_divide(dq1, q1) + safe_divide(dq2, q2)) / 2
    turn = safe_divide(dc - cosine * stretch, sine)
    return (kappa, rest), (rest * dc + sine * stretch, turn)


def Relu() -> LeakyRelu:  # ruff: ignore[invalid-function-name]
    """The rectified linear unit max(x, 0).

    Returns:
        The layer.
    """
    return LeakyRelu(0.0)


def Abs() -> LeakyRelu:  # ruff: ignore[invalid-function-name]
    """The absolute value.

    Returns:
        The layer.
    """
    return LeakyRelu(-1.0)
