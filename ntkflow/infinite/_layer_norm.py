"""Layer normalization at infinite width."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ntkflow.infinite._checks import check_gaussian
from ntkflow.infinite._finite import Pointwise
from ntkflow.infinite._layer import Shape
from ntkflow.infinite._maps import AbstractUnitMap
from ntkflow.infinite._moments import Moments
from ntkflow.infinite._positions import scaled, shares
from ntkflow.models._checks import check_positive


@final
class LayerNorm(AbstractUnitMap):
    """Units minus their mean, divided by their standard deviation, at every position.

    At infinite width the mean is zero and the standard deviation √q no longer depends
    on the draw, nor do its derivatives contribute:

        Σ' = Σ/√((q + eps)(q' + eps)),    Θ' = Θ/√((q + eps)(q' + eps))

    Nothing of it is trained; a gain and an offset are no part of it.

    Args:
        over_positions: Whether mean and standard deviation are taken over all units at
            all positions together, masked ones left out.
        eps: What is added to the variance; positive.

    Raises:
        ValueError: `eps` is not positive.

    Source: Ba, Kiros & Hinton (2016), eq. 3, where the law of large numbers makes both
        sums constants.

    Verified by:
    tests/infinite/test_normalization.py::test_layer_norm_makes_every_variance_one,
    tests/infinite/test_width.py::test_networks_of_every_layer_approach_the_limit
    """

    over_positions: bool = eqx.field(static=True)
    eps: float = eqx.field(static=True)

    def __init__(self, over_positions: bool = False, eps: float = 1e-5):
        self.over_positions = over_positions
        self.eps = check_positive("LayerNorm", "eps", eps)

    def propagate(self, moments: Moments) -> Moments:
        """The moments of the normalized units.

        Args:
            moments: Those of the units.

        Returns:
            Those of the normalized units, Gaussian.

        Raises:
            ValueError: The units are not Gaussian.
        """  # ruff: ignore[docstring-extraneous-exception]
        check_gaussian("LayerNorm", moments)
        first, second = shares(moments)
        return scaled(
            moments,
            self._factor(moments.variance1, first),
            self._factor(moments.variance2, second),
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
            A module that normalizes, and the same shape.
        """
        return Pointwise(self._normalize), shape

    def _factor(
        self, variance: Float[Array, "N *S"], share: Float[Array, "N *S"]
    ) -> Float[Array, "N *S"]:
        if self.over_positions and variance.ndim > 1:
            axes = tuple(range(1, variance.ndim))
            mean = jnp.sum(share * variance, axis=axes, keepdims=True)
            variance = jnp.broadcast_to(mean, variance.shape)
        return 1 / jnp.sqrt(variance + self.eps)

    def _normalize(self, x: Float[Array, "C *S"]) -> Float[Array, "C *S"]:
        axes = tuple(range(x.ndim)) if self.over_positions else (0,)
        mean = jnp.mean(x, axis=axes, keepdims=True)
        variance = jnp.var(x, axis=axes, keepdims=True)
        return (x - mean) / jnp.sqrt(variance + self.eps)
