"""The sign."""

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
from ntkflow.infinite._angle import arctan2


@final
class Sign(AbstractActivation):
    """φ(x) = −1, 0 or 1: κ = (2/π)·arcsin(c/√(q₁q₂)).

    κ̇ is 0, as φ' is wherever it exists and as it is for a finite network that is
    trained: no gradient passes. κ itself is not smooth at equal units, where its
    derivative is infinite, and 0 is returned.

    Source: Cho & Saul (2009), the kernel of degree 0.

    Verified by: tests/infinite/test_activations.py::test_dual_matches_quadrature
    """

    def function(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The activation itself.

        Args:
            x: Preactivations.

        Returns:
            The sign of x, 0 at 0.
        """
        return jnp.sign(x)

    def dual(
        self,
        c: Float[Array, "..."],
        q1: Float[Array, "..."],
        q2: Float[Array, "..."],
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """E[φ(u) φ(v)] and 0.

        Args:
            c: Covariances of u and v.
            q1: Variances of u.
            q2: Variances of v.

        Returns:
            Both.
        """
        return 2 / jnp.pi * _arc_sine(c, q1, q2), jnp.zeros_like(c)

    def second_moment(self, q: Float[Array, "..."]) -> Float[Array, "..."]:
        """E[φ(u)²] = 1, and 0 for a unit that is always 0.

        Args:
            q: Variances of u.

        Returns:
            The moment for every variance.
        """
        return jnp.where(q > 0, jnp.ones_like(q), jnp.zeros_like(q))


@jax.custom_jvp
def _arc_sine(
    c: Float[Array, "..."], q1: Float[Array, "..."], q2: Float[Array, "..."]
) -> Float[Array, "..."]:
    """arcsin(c/√(q₁q₂)), and 0 where a variance is."""
    sine, cosine = sine_and_cosine(c, q1, q2)
    nothing = (sine == 0) & (cosine == 0)
    return arctan2(cosine, jnp.where(nothing, jnp.ones_like(sine), sine))


@_arc_sine.defjvp
def _arc_sine_jvp(
    primals: Triple, tangents: Triple
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    (c, q1, q2), (dc, dq1, dq2) = primals, tangents
    sine, cosine = sine_and_cosine(c, q1, q2)
    stretch = (safe_divide(dq1, q1) + safe_divide(dq2, q2)) / 2
    return _arc_sine(c, q1, q2), safe_divide(dc - cosine * stretch, sine)
