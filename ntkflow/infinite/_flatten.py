"""Positions made units."""

import math
from collections.abc import Callable
from typing import Any, final

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ntkflow.infinite._finite import Pointwise, flatten
from ntkflow.infinite._layer import Shape
from ntkflow.infinite._maps import AbstractFixedMap
from ntkflow.infinite._moments import Moments
from ntkflow.infinite._positions import silenced


@final
class Flatten(AbstractFixedMap):
    """All units at all positions as one vector, Σ' the mean over equal positions.

    A masked position counts as one that holds zeros.

    Source: Novak et al. (2019), on "vectorization".

    Verified by:
    tests/infinite/test_convolution.py::test_flatten_ignores_other_positions
    """

    def needs_pairs(self, after: bool) -> bool:
        """It only sees equal positions.

        Args:
            after: Not used, as no positions are left.

        Returns:
            No.
        """
        return False

    def propagate(self, moments: Moments) -> Moments:
        """The moments of the vector.

        Args:
            moments: Those of the units.

        Returns:
            Those of the vector, whose entries are no longer copies of one Gaussian.
        """
        rank = len(moments.positions)
        if rank == 0:
            return moments
        moments = silenced(moments)
        axes = tuple(range(-rank, 0))

        def mean(moment: Float[Array, "..."], examples: int) -> Float[Array, "..."]:
            return jnp.mean(moments.at_equal_positions(moment, examples), axis=axes)

        count = math.prod(moments.positions)
        units = moments.channels
        return moments.with_moments(
            mean(moments.nngp, 2),
            mean(moments.ntk, 2),
            mean(moments.own1, 1),
            mean(moments.own2, 1),
            channels=None if units is None else units * count,
            mask1=None,
            mask2=None,
            pairs=False,
            gaussian=False,
        )

    def build(
        self, shape: Shape, width: int, *, key: PRNGKeyArray
    ) -> tuple[Callable[[Any], Any], Shape]:
        """The function.

        Args:
            shape: Units and positions of one input.
            width: Not used.
            key: Not used.

        Returns:
            A module that flattens, and the shape of its output.
        """
        return Pointwise(flatten), (math.prod(shape),)
