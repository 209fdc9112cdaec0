"""Instance normalization, by the mean only, at infinite width."""

from collections.abc import Callable
from typing import Any, final

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ntkflow.infinite._checks import check_positions
from ntkflow.infinite._finite import Pointwise
from ntkflow.infinite._layer import Shape
from ntkflow.infinite._maps import AbstractPositionMap
from ntkflow.infinite._moments import Moments
from ntkflow.infinite._positions import beside_itself, shares, silenced


@final
class InstanceNorm(AbstractPositionMap):
    """Units minus their mean over all positions, each on its own.

    With M the mean over positions, Σ' = Σ − MΣ − ΣMᵀ + MΣMᵀ, and so Θ'. That is exact
    at any width: the layer is linear. The usual division by the standard deviation over
    positions is not part of it, as this is no number even at infinite width, where it
    differs from unit to unit.

    After a first convolution it is the same as subtracting from every patch of the
    input, padding included, the mean patch; the bias then cancels. For inputs of
    different lengths the mean is over the positions that hold something.

    Source: Ulyanov, Vedaldi & Lempitsky (2016), the numerator of their formula.

    Verified by:
    tests/infinite/test_normalization.py::test_instance_norm_centers_the_patches,
    tests/infinite/test_normalization.py::test_instance_norm_of_lengths_is_of_the_cut
    """

    def propagate(self, moments: Moments) -> Moments:
        """The moments of the centered units.

        Args:
            moments: Those of the units.

        Returns:
            Those of the centered units.

        Raises:
            ValueError: The input has no positions.
        """  # ruff: ignore[docstring-extraneous-exception]
        check_positions("InstanceNorm", moments)
        rank = len(moments.positions)
        first, second = shares(moments)
        across = moments.beside(first, second)
        centered = moments.with_moments(
            _centered(moments.nngp, rank, *across),
            _centered(moments.ntk, rank, *across),
            _centered(moments.own1, rank, *beside_itself(moments, first)),
            _centered(moments.own2, rank, *beside_itself(moments, second)),
        )
        return silenced(centered)

    def build(
        self, shape: Shape, width: int, *, key: PRNGKeyArray
    ) -> tuple[Callable[[Any], Any], Shape]:
        """The function.

        Args:
            shape: Units and positions of one input.
            width: Not used.
            key: Not used.

        Returns:
            A module that centers, and the same shape.
        """
        return Pointwise(_center), shape


def _centered(
    moment: Float[Array, "..."],
    rank: int,
    rows: Float[Array, "..."],
    columns: Float[Array, "..."],
) -> Float[Array, "..."]:
    """Minus the weighted means over the positions of the rows and of the columns."""
    axes = tuple(range(moment.ndim))
    of_rows, of_columns = axes[-2 * rank : -rank], axes[-rank:]
    moment = moment - jnp.sum(rows * moment, axis=of_rows, keepdims=True)
    return moment - jnp.sum(columns * moment, axis=of_columns, keepdims=True)


def _center(x: Float[Array, "C *S"]) -> Float[Array, "C *S"]:
    return x - jnp.mean(x, axis=tuple(range(1, x.ndim)), keepdims=True)
