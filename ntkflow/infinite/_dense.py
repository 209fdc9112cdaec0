"""The fully connected layer at infinite width."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from ntkflow._types import Parameterization
from ntkflow.infinite._finite import at_positions
from ntkflow.infinite._layer import Shape
from ntkflow.infinite._maps import AbstractRandomMap
from ntkflow.infinite._moments import Moments
from ntkflow.infinite._weights import Weights
from ntkflow.models import Dense as FiniteDense


@final
class Dense(AbstractRandomMap):
    """A fully connected layer, applied at every position of its own.

        Σ' = w_std² Σ + b_std²,    Θ' = w_std² Θ + (what the layer's parameters add)

    In the `"ntk"` parameterization that is Σ'. In the `"standard"` one it is n Σ + 1,
    with n the number of units below: the limit does not exist, and the value is the
    leading order at that width. A `"mean_field"` readout has both kernels of `"ntk"`
    divided by n.

    Args:
        w_std: Scale of the weights.
        b_std: Scale of the bias.
        parameterization: `"ntk"`, `"standard"` or `"mean_field"`, as in
            `ntkflow.models`.
        width: Number of units; needed before a layer whose kernel depends on it, and by
            `to_module`, which else takes its own.
        use_bias: Whether there is a bias.
        trainable: Whether the layer's parameters are trained.

    Raises:
        ValueError: The parameterization is unknown, or a scale or width is no number it
            could be.

    Source: Jacot, Gabriel & Hongler (2018), theorem 1; Sohl-Dickstein et al. (2020),
        section 2, for the standard parameterization.

    Verified by:
    tests/infinite/test_dense.py::test_kernel_of_one_layer_is_that_of_the_layer
    """

    weights: Weights
    width: int | None = eqx.field(static=True)

    def __init__(
        self,
        w_std: float | int | Float[Array, "..."] = 1.0,
        b_std: float | int | Float[Array, "..."] = 0.1,
        parameterization: Parameterization = "ntk",
        width: int | None = None,
        *,
        use_bias: bool = True,
        trainable: bool = True,
    ):
        self.weights = Weights(
            "Dense", w_std, b_std, parameterization, width, use_bias, trainable
        )
        self.width = width

    def propagate(self, moments: Moments) -> Moments:
        """The moments of the layer's output.

        Args:
            moments: Those of its input.

        Returns:
            Those of its output, Gaussian.

        Raises:
            ValueError: The parameterization needs the width of the layer below.
        """  # ruff: ignore[docstring-extraneous-exception]
        return self.weights.propagate(moments, moments.channels, self.width)

    def build(
        self, shape: Shape, width: int, *, key: PRNGKeyArray
    ) -> tuple[Callable[[Any], Any], Shape]:
        """The finite layer.

        Args:
            shape: Units and positions of one input.
            width: Units if the layer does not say how many it has.
            key: Random key.

        Returns:
            A `ntkflow.models.Dense` at every position, and the shape of its output.
        """
        units = self.width or width
        weights = self.weights
        layer = FiniteDense(
            shape[0],
            units,
            weights.parameterization,
            float(weights.w_std),
            float(weights.b_std),
            weights.use_bias,
            readout=weights.parameterization == "mean_field",
            key=key,
        )
        return at_positions(weights.mark(layer), shape), (units, *shape[1:])
