"""L2 weight decay: towards zero, or towards where training started."""

from typing import final

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from .._errors import unknown_name
from .._types import DecayTarget, Number


@final
class Decay(eqx.Module):
    """Adds ½·strength·‖θ − θ_ref‖² to the loss, over the trained leaves.

    Decay towards the initial parameters keeps the frozen-kernel flow closed in function
    space, and its stationary point is kernel ridge regression about f₀.

    Attributes:
        strength: The factor λ ≥ 0, in units of the (summed) loss.
        towards: `"zero"`, or `"initial"` for the parameters training starts from.
    """

    strength: Number
    towards: DecayTarget = eqx.field(static=True, default="zero")

    def __check_init__(self):
        if isinstance(self.strength, float | int) and self.strength < 0:
            raise ValueError(f"decay must be ≥ 0, got {self.strength}.")
        if self.towards not in {"zero", "initial"}:
            raise unknown_name("decay target", self.towards, ["zero", "initial"])

    def astype(self, dtype: np.dtype) -> "Decay":
        """The same decay, its strength an array that is not compiled into programs.

        Args:
            dtype: The dtype of the parameters.

        Returns:
            A decay.
        """
        return Decay(jnp.asarray(self.strength, dtype), self.towards)
