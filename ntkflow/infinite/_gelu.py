"""The Gaussian error linear unit."""

from typing import final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkflow.infinite._activation import AbstractActivation, determinant
from ntkflow.infinite._angle import arctan2


@final
class Gelu(AbstractActivation):
    """φ(x) = x Φ(x) with Φ the normal distribution function, not its approximation.

    With D = 1 + q₁ + q₂ + q₁q₂ − c², M = (1+q₁)(1+q₂) and G = E[Φ(u)Φ(v)] =
    arccos(−c/√M)/(2π), twice Stein's lemma gives 2πκ = 2πcG + (q₁q₂√D + c²/√D)/M and
    2πκ̇ = 2πG + c/√D·(1/(1+q₁) + 1/(1+q₂) + 1/D).

    Source: Tsuchida, Pearce, van der Heide, Roosta & Gallagher (2021), GELU;
        rederived.

    Verified by: tests/infinite/test_activations.py::test_dual_matches_quadrature
    """

    def function(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The activation itself.

        Args:
            x: Preactivations.

        Returns:
            x Φ(x).
        """
        return jax.nn.gelu(x, approximate=False)

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
        size = 1 + q1 + q2 + determinant(c, q1, q2)
        root = jnp.sqrt(size)
        # Not π/2 + arcsine: for c < 0 the two would cancel.
        angle = arctan2(root, -c)
        inverse1, inverse2 = 1 / (1 + q1), 1 / (1 + q2)
        kappa = c * angle + (q1 * q2 * root + c**2 / root) * inverse1 * inverse2
        kappa_dot = angle + c / root * (inverse1 + inverse2 + 1 / size)
        return kappa / (2 * jnp.pi), kappa_dot / (2 * jnp.pi)

    def second_moment(self, q: Float[Array, "..."]) -> Float[Array, "..."]:
        """E[φ(u)²].

        Args:
            q: Variances of u.

        Returns:
            The moment for every variance.
        """
        return self.dual(q, q, q)[0]
