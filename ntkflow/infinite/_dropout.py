"""Dropout at infinite width, by how the masks are drawn."""

import math
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ntkflow._errors import unknown_name
from ntkflow._types import DropoutMask
from ntkflow.infinite._finite import Pointwise
from ntkflow.infinite._layer import Shape
from ntkflow.infinite._maps import AbstractUnitMap
from ntkflow.infinite._moments import Moments
from ntkflow.models import Frozen

MASKS = ("independent", "shared", "mean")


class Masked(eqx.Module):
    """One mask for all examples.

    Attributes:
        mask: Factors, frozen.
    """

    mask: Frozen

    def __call__(self, x: Float[Array, "C *S"]) -> Float[Array, "C *S"]:
        """Apply it.

        Args:
            x: Units, then positions.

        Returns:
            The masked units.
        """
        return x * self.mask.tree.astype(x.dtype)


@final
class Dropout(AbstractUnitMap):
    """Dropout that keeps each unit, at each position, with probability p.

    With s = 1/p if inverted and 1 if not, the kernels Σ and Θ are multiplied by

    * `mask="independent"`, one mask for each example: p s² for one and the same example
      at equal positions, else p² s². Two equal examples in different places have masks
      of their own.
    * `mask="shared"`, one mask for all examples: p s² at equal positions, p² s² at
      different ones.
    * `mask="mean"`, the weight-scaled network without masks: p² s² everywhere.

    The first two are means over the masks. Masked units are not Gaussian: dropout goes
    behind an activation, or in front of a Dense or a Conv.

    Args:
        keep: The probability p of keeping a unit.
        mask: `"independent"`, `"shared"` or `"mean"`.
        inverted: Whether units that are kept are divided by p.

    Raises:
        ValueError: The probability is not in (0, 1], or the name is unknown.

    Source: Srivastava et al. (2014), section 4, for dropout and weight scaling; the
        factors are the first two moments of a Bernoulli variable.

    Verified by: tests/infinite/test_dropout.py::test_kernels_are_means_over_masks,
        tests/infinite/test_dropout.py::test_weight_scaled_relu_layers_multiply_by_keep
    """

    keep: float = eqx.field(static=True)
    mask: DropoutMask = eqx.field(static=True)
    inverted: bool = eqx.field(static=True)

    def __init__(
        self,
        keep: float | int,
        mask: DropoutMask = "independent",
        inverted: bool = True,
    ):
        if not (math.isfinite(keep) and 0 < keep <= 1):
            raise ValueError(
                "Dropout: `keep` is the probability of keeping a unit, above 0 and at "
                f"most 1, got {keep!r}."
            )
        if mask not in MASKS:
            raise unknown_name("mask", mask, MASKS)
        self.keep = float(keep)
        self.mask = mask
        self.inverted = inverted

    def propagate(self, moments: Moments) -> Moments:
        """The moments of the masked units.

        Args:
            moments: Those of the units.

        Returns:
            Those of the masked units, no longer Gaussian if there are masks.
        """
        apart, together = self._factors
        positions = math.prod(moments.positions)
        # Where two positions are one: of shape S x S with pairs, else one number.
        rank = moments.own1.ndim - 1
        if moments.pairs:
            equal = jnp.eye(positions, dtype=bool).reshape(moments.own1.shape[1:])
        else:
            equal = jnp.ones((1,) * rank, dtype=bool)
        same = moments.same.reshape(*moments.same.shape, *(1,) * rank)
        masked = equal[None, None] & (jnp.bool_(self.mask == "shared") | same)

        def scaled(moment: Array, where: Array) -> Array:
            low, high = (jnp.asarray(f, moment.dtype) for f in (apart, together))
            return moment * jnp.where(where, high, low)

        return moments.with_moments(
            scaled(moments.nngp, masked),
            scaled(moments.ntk, masked),
            scaled(moments.own1, equal[None]),
            scaled(moments.own2, equal[None]),
            gaussian=moments.gaussian and apart == together,
        )

    def build(
        self, shape: Shape, width: int, *, key: PRNGKeyArray
    ) -> tuple[Callable[[Any], Any], Shape]:
        """The finite layer.

        Args:
            shape: Units and positions of one input.
            width: Not used.
            key: Random key for the mask that all examples share.

        Returns:
            A module, and the same shape.

        Raises:
            ValueError: The masks are one for each example, which a module called on one
                example without a key cannot draw.
        """
        factor = 1 / self.keep if self.inverted else 1.0
        if self.mask == "mean" or self.keep == 1:
            factor = self.keep * factor
            return Pointwise(lambda x: factor * x), shape
        if self.mask == "independent":
            raise ValueError(
                "Dropout(mask='independent') draws a mask for each example, and a "
                "finite network is called on one without a key. Take mask='shared', "
                "whose one mask is part of the network, or mask='mean'."
            )
        kept = jax.random.bernoulli(key, self.keep, shape)
        return Masked(Frozen(factor * kept.astype(float))), shape

    @property
    def _factors(self) -> tuple[float, float]:
        """Of different masks, and of a mask with itself."""
        scale = 1 / self.keep if self.inverted else 1.0
        apart = (self.keep * scale) ** 2
        return apart, apart if self.mask == "mean" else self.keep * scale**2
