"""What random weights and a bias make of the second moments they act on."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkflow._errors import unknown_name
from ntkflow._types import Parameterization
from ntkflow.infinite._checks import check_scale, check_width
from ntkflow.infinite._moments import Moments
from ntkflow.models import Frozen

PARAMETERIZATIONS = ("ntk", "standard", "mean_field")


class Weights(eqx.Module):
    """Random weights with a bias, as dense layers and convolutions have them.

    Attributes:
        w_std: Scale of the weights.
        b_std: Scale of the bias.
        parameterization: Where the scales are kept; see `ntkflow.models`.
        use_bias: Whether there is a bias.
        trainable: Whether both are trained.
    """

    w_std: float | Float[Array, ""]
    b_std: float | Float[Array, ""]
    parameterization: Parameterization = eqx.field(static=True)
    use_bias: bool = eqx.field(static=True)
    trainable: bool = eqx.field(static=True)

    def __init__(
        self,
        owner: str,
        w_std: float | int | Float[Array, "..."],
        b_std: float | int | Float[Array, "..."],
        parameterization: Parameterization,
        width: int | None,
        use_bias: bool,
        trainable: bool,
    ):
        if parameterization not in PARAMETERIZATIONS:
            raise unknown_name("parameterization", parameterization, PARAMETERIZATIONS)
        check_width(owner, width)
        self.w_std = check_scale(owner, "w_std", w_std)
        self.b_std = check_scale(owner, "b_std", b_std)
        self.parameterization = parameterization
        self.use_bias = use_bias
        self.trainable = trainable

    def propagate(
        self, moments: Moments, fan_in: int | None, width: int | None
    ) -> Moments:
        """The moments of weights times units, plus bias.

        Args:
            moments: Those of what is summed over, as a mean over it.
            fan_in: How many terms that mean has; None if that is not known.
            width: Units of the new layer, if known.

        Returns:
            The moments of the sum.
        """
        dtype = moments.nngp.dtype
        w2 = jnp.asarray(self.w_std, dtype) ** 2
        b2 = jnp.asarray(self.b_std if self.use_bias else 0.0, dtype) ** 2
        nngp = w2 * moments.nngp + b2
        own1, own2 = w2 * moments.own1 + b2, w2 * moments.own2 + b2
        ntk = w2 * moments.ntk
        if self.parameterization == "standard" and self.trainable:
            n = self._known(fan_in)
            ntk = ntk + n * moments.nngp + (1.0 if self.use_bias else 0.0)
        elif self.trainable:
            ntk = ntk + nngp
        if self.parameterization == "mean_field":
            n = self._known(fan_in)
            nngp, ntk, own1, own2 = (m / n for m in (nngp, ntk, own1, own2))
        return moments.with_moments(
            nngp, ntk, own1, own2, channels=width, gaussian=True
        )

    def mark(self, layer: Any) -> Any:
        """The finite layer, frozen unless it is trained.

        Args:
            layer: The finite layer.

        Returns:
            The layer, or a `ntkflow.models.Frozen` around it.
        """
        return layer if self.trainable else Frozen(layer)

    def _known(self, fan_in: int | None) -> int:
        if fan_in is None:
            raise ValueError(
                f"parameterization={self.parameterization!r} has kernels that depend "
                "on the width of the layer below, which is not known: give that layer "
                "width=..., or take parameterization='ntk'."
            )
        return fan_in
