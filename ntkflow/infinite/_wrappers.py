"""What `ntkflow.models.Scaled` and `Antisymmetric` are at infinite width."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from ntkflow import models
from ntkflow.infinite._layer import AbstractLayer, Shape
from ntkflow.infinite._moments import Moments


class AbstractWrapper(AbstractLayer):
    """A scale, or a difference, of what some layers make.

    Attributes:
        layer: The layers.
    """

    layer: eqx.AbstractVar[AbstractLayer]

    @property
    def is_linear(self) -> bool:
        """Whether the layer is."""
        return self.layer.is_linear

    @property
    def is_random(self) -> bool:
        """Whether the layer is."""
        return self.layer.is_random

    def needs_pairs(self, after: bool) -> bool:
        """Asks the layer.

        Args:
            after: Whether pairs are asked for behind it.

        Returns:
            Whether its input must have them.
        """
        return self.layer.needs_pairs(after)


@final
class Scaled(AbstractWrapper):
    """F = α(f − f₀), with f₀ as f is at the start: Σ' = 0 and Θ' = α² Θ.

    Not centered, F = αf and Σ' = α² Σ. The tangent kernel has no time scale in it, as
    that of `ntkflow.ntk`.

    Args:
        layer: The layers of f, often a `Sequential`.
        alpha: The output scale α; positive.
        centered: Whether f₀ is subtracted.

    Raises:
        ValueError: If `alpha` is not positive and finite, or `layer` is no layer.

    Source: Chizat, Oyallon and Bach (2019), section 1.

    Verified by: tests/infinite/test_from_module.py::test_wrappers_scale_kernels
    """

    layer: AbstractLayer
    alpha: float = eqx.field(static=True)
    centered: bool = eqx.field(static=True)

    def __init__(self, layer: AbstractLayer, alpha: float | int, centered: bool = True):
        # The finite wrapper's own refusal of a scale that cannot be.
        self.alpha = float(models.Scaled(lambda x: x, alpha, centered=False).alpha)
        self.layer = _checked("Scaled", layer)
        self.centered = centered

    def propagate(self, moments: Moments) -> Moments:
        """The moments of F.

        Args:
            moments: Those of the input of f.

        Returns:
            Those of the output.
        """
        found = self.layer.propagate(moments)
        square = self.alpha**2
        factor = 0.0 if self.centered else square
        return found.with_moments(
            factor * found.nngp,
            square * found.ntk,
            factor * found.own1,
            factor * found.own2,
        )

    def build(
        self, shape: Shape, width: int, *, key: PRNGKeyArray
    ) -> tuple[Callable[[Any], Any], Shape]:
        """The finite network.

        Args:
            shape: Units and positions of one input.
            width: Units of the layers that do not say how many they have.
            key: Random key.

        Returns:
            A `ntkflow.models.Scaled`, and the shape of its output.
        """
        module, out = self.layer.build(shape, width, key=key)
        return models.Scaled(module, self.alpha, self.centered), out


@final
class Antisymmetric(AbstractWrapper):
    """(f_a − f_b)/√2 of two copies that start equal: Σ' = 0 and Θ' = Θ.

    Args:
        layer: The layers of f, often a `Sequential`.

    Raises:
        ValueError: If `layer` is no layer.

    Source: Zhang, Xu, Luo and Ma (2020), section on antisymmetrical initialization.

    Verified by: tests/infinite/test_from_module.py::test_wrappers_scale_kernels
    """

    layer: AbstractLayer

    def __init__(self, layer: AbstractLayer):
        self.layer = _checked("Antisymmetric", layer)

    def propagate(self, moments: Moments) -> Moments:
        """The moments of the difference.

        Args:
            moments: Those of the input of f.

        Returns:
            Those of the output.
        """
        found = self.layer.propagate(moments)
        return found.with_moments(
            jnp.zeros_like(found.nngp),
            found.ntk,
            jnp.zeros_like(found.own1),
            jnp.zeros_like(found.own2),
        )

    def build(
        self, shape: Shape, width: int, *, key: PRNGKeyArray
    ) -> tuple[Callable[[Any], Any], Shape]:
        """The finite network.

        Args:
            shape: Units and positions of one input.
            width: Units of the layers that do not say how many they have.
            key: Random key.

        Returns:
            A `ntkflow.models.Antisymmetric`, and the shape of its output.
        """
        module, out = self.layer.build(shape, width, key=key)
        return models.Antisymmetric(module), out


def _checked(owner: str, layer: AbstractLayer) -> AbstractLayer:
    if not isinstance(layer, AbstractLayer):
        raise ValueError(
            f"{owner} of ntkflow.infinite wraps a layer of that room, got {layer!r}. "
            f"A finite model is wrapped by ntkflow.models.{owner}, and read by "
            "ntkflow.infinite.from_module."
        )
    return layer
