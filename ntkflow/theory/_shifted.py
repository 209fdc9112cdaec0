"""A way of training as a filter: with weight decay, and with the kernel's rounding cut.

Of an eigenvalue below rounding nothing is known, and what a mode moves off the sample
is multiplied by one over the eigenvalue, or by the training time.
"""

from typing import final

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import Scalar
from ._decays import AbstractDecay
from ._filters import AbstractFilter


@final
class Shifted(AbstractFilter):
    """A decay with weight decay ρ towards θ₀: A(λ + ρ) and R(λ + ρ) + ρA(λ + ρ).

    The second is 1 − λA(λ + ρ), what is left of the residual, without subtraction.

    Of eigenvalues up to the floor nothing is known but that they are small. What they
    move and learn, A and 1 − R, is multiplied by exp(−(floor·A(0))²): as long as no
    mode so slow could be learned, that is one and they count as they are; later they
    count as not learned, as they do at t = ∞. Else the rounding of a kernel off the
    sample would be multiplied by A(0), the training time.

    Attributes:
        decay: R and A.
        ridge: ρ.
    """

    decay: AbstractDecay
    ridge: Float[Array, ""]

    def values(
        self, rates: Float[Array, "*shape"], floor: Scalar
    ) -> Float[Array, "c *shape"]:
        """How far the parameters have moved, and what is left of the residual.

        Args:
            rates: Eigenvalues, none negative.
            floor: Eigenvalues up to it are round-off.

        Returns:
            Two functions.
        """
        moved, left = self._pair(rates + self.ridge, floor)
        return jnp.stack([moved, left + self.ridge * moved])

    def slopes(
        self, low: Float[Array, "*shape"], high: Float[Array, "*shape"], floor: Scalar
    ) -> Float[Array, "c *shape"]:
        """Their divided differences, along which as many are below the floor.

        Args:
            low: Eigenvalues, none negative.
            high: Eigenvalues, none less than those of `low`.
            floor: Eigenvalues up to it are round-off.

        Returns:
            Two functions.
        """
        low, high = low + self.ridge, high + self.ridge
        kept, cut = self._kept(floor), low <= floor
        # What is left out altogether may be beyond any number.
        moved, left = (
            jnp.where(cut & (kept == 0), jnp.zeros_like(slope), slope)
            for slope in self.decay.pair_slopes(low, high, floor)
        )
        moved = jnp.where(cut, kept * moved, moved)
        left = jnp.where(cut, kept * left, left)
        # Against one that is known, an eigenvalue that does not count is zero.
        one = cut & (high > floor)
        missed = jnp.where(one, (1 - kept) / jnp.where(one, high, 1 + 0 * high), 0)
        there = self.decay.pair(high, floor)
        moved, left = moved + missed * there[0], left - missed * (1 - there[1])
        return jnp.stack([moved, left + self.ridge * moved])

    def _pair(
        self, rates: Float[Array, "*shape"], floor: Scalar
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        moved, left = self.decay.pair(rates, floor)
        kept = jnp.where(rates <= floor, self._kept(floor), 1 + 0 * floor)
        return kept * moved, left + (1 - kept) * (1 - left)

    def _kept(self, floor: Scalar) -> Scalar:
        """What counts of modes below the floor."""
        return jnp.exp(-((floor * reach(self.decay, floor)) ** 2))


def reach(decay: AbstractDecay, floor: Scalar) -> Scalar:
    """How far a mode without an eigenvalue is moved, A(0): t for gradient flow.

    Args:
        decay: R and A.
        floor: Eigenvalues up to it are round-off.

    Returns:
        A(0), in units of time; zero at t = ∞.
    """
    return decay.pair(jnp.zeros_like(floor), floor)[0]
