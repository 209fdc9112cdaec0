"""What is known of a layer's infinitely many units: their second moments.

At infinite width the units of a layer are independent copies of one Gaussian process
over the inputs. Its covariance is the NNGP kernel, and the derivatives of the units
with respect to all parameters below have an inner product that does not depend on the
draw, the NTK. A layer maps both from its input to its output.

Inputs with positions (a sequence, an image, a volume) have covariances between
positions. Most layers need those of equal positions only; where one below the last
needs all pairs, all are carried, at the square of the cost.
"""

import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class Moments(eqx.Module):
    """Second moments of a layer's units, between two sets of examples.

    Axes of positions follow those of the examples: `*S` where only equal positions are
    carried, `*S *S` (those of the first example, then those of the second) for all
    pairs.

    Attributes:
        nngp: E[h h'] of a unit for every two examples, of the mean over units where
            there are finitely many, as in the input.
        ntk: The inner product of the unit's derivatives with respect to the parameters
            so far.
        own1: E[h h'] of every example along the rows with itself.
        own2: The same along the columns.
        same: Whether two examples are one and the same, not merely equal.
        mask1: Which positions of the rows hold something; None for all.
        mask2: The same along the columns.
        channels: The number of units, where it is known.
        pairs: Whether all pairs of positions are carried.
        gaussian: Whether the units are jointly Gaussian over inputs and positions.
    """

    nngp: Float[Array, "N1 N2 ..."]
    ntk: Float[Array, "N1 N2 ..."]
    own1: Float[Array, "N1 ..."]
    own2: Float[Array, "N2 ..."]
    same: Bool[Array, "N1 N2"]
    mask1: Bool[Array, "N1 ..."] | None = None
    mask2: Bool[Array, "N2 ..."] | None = None
    channels: int | None = eqx.field(static=True, default=None)
    pairs: bool = eqx.field(static=True, default=False)
    gaussian: bool = eqx.field(static=True, default=False)

    @property
    def positions(self) -> tuple[int, ...]:
        """The number of positions along each axis; empty for plain vectors."""
        shape = self.own1.shape[1:]
        return shape[: len(shape) // 2] if self.pairs else shape

    @property
    def variance1(self) -> Float[Array, "N1 *S"]:
        """E[h²] at every position of the rows."""
        return self.at_equal_positions(self.own1, 1)

    @property
    def variance2(self) -> Float[Array, "N2 *S"]:
        """E[h²] at every position of the columns."""
        return self.at_equal_positions(self.own2, 1)

    def at_equal_positions(
        self, moment: Float[Array, "..."], examples: int
    ) -> Float[Array, "..."]:
        """A moment at equal positions only.

        Args:
            moment: One of this object's moments.
            examples: How many axes of examples it has, 1 or 2.

        Returns:
            The same with one set of axes of positions.
        """
        if not self.pairs:
            return moment
        rank, count = len(self.positions), math.prod(self.positions)
        lead = moment.shape[:examples]
        square = moment.reshape(*lead, count, count)
        found = jnp.diagonal(square, axis1=-2, axis2=-1)
        return found.reshape(*lead, *moment.shape[examples : examples + rank])

    def beside(
        self, first: Float[Array, "N1 *S"], second: Float[Array, "N2 *S"]
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """Quantities of the rows and of the columns, shaped to go with `nngp`.

        Args:
            first: A number for each example of the rows and position.
            second: The same for the columns.

        Returns:
            Both with axes of size one where they do not vary.
        """
        rank = len(self.positions)
        if not self.pairs:
            return first[:, None], second[None, :]
        ones = (1,) * rank
        return (
            first.reshape(first.shape[0], 1, *first.shape[1:], *ones),
            second.reshape(1, second.shape[0], *ones, *second.shape[1:]),
        )

    def with_moments(
        self,
        nngp: Float[Array, "N1 N2 ..."],
        ntk: Float[Array, "N1 N2 ..."],
        own1: Float[Array, "N1 ..."],
        own2: Float[Array, "N2 ..."],
        **changes: Any,
    ) -> "Moments":
        """The moments after a layer.

        Args:
            nngp: The new covariance.
            ntk: The new tangent kernel.
            own1: The new covariance of each row with itself.
            own2: The new covariance of each column with itself.
            **changes: New values of other attributes.

        Returns:
            The new moments.
        """
        settings = {
            "same": self.same,
            "mask1": self.mask1,
            "mask2": self.mask2,
            "channels": self.channels,
            "pairs": self.pairs,
            "gaussian": self.gaussian,
        }
        return Moments(nngp, ntk, own1, own2, **(settings | changes))
