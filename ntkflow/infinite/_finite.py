"""The finite networks that `to_module` builds are made of these."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkflow.infinite._layer import Shape


class Chain(eqx.Module):
    """Modules called one after the other, on one example.

    Attributes:
        layers: The modules, first to last.
    """

    layers: tuple[Callable[[Any], Any], ...]

    def __call__(self, x: Any) -> Any:
        """Apply them.

        Args:
            x: One example.

        Returns:
            What the last returns.
        """
        for layer in self.layers:
            x = layer(x)
        return x


class AtPositions(eqx.Module):
    """A module of vectors, applied to the units at every position.

    Attributes:
        layer: Maps units to units.
    """

    layer: Callable[[Any], Any]

    def __call__(self, x: Float[Array, "C *S"]) -> Float[Array, "D *S"]:
        """Apply it everywhere.

        Args:
            x: Units, then positions.

        Returns:
            The new units at the same positions.
        """
        flat = x.reshape(x.shape[0], -1)
        out = jax.vmap(self.layer, in_axes=1, out_axes=1)(flat)
        return out.reshape(-1, *x.shape[1:])


class Pointwise(eqx.Module):
    """A function without parameters.

    Attributes:
        function: Maps arrays to arrays.
    """

    function: Callable[[Any], Any] = eqx.field(static=True)

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Apply it.

        Args:
            x: Units, then positions.

        Returns:
            The function's value.
        """
        return self.function(x)


def at_positions(layer: Callable[[Any], Any], shape: Shape) -> Callable[[Any], Any]:
    """A module of vectors as one of units with positions.

    Args:
        layer: Maps units to units.
        shape: Units and positions.

    Returns:
        The module itself where there are no positions.
    """
    return layer if len(shape) == 1 else AtPositions(layer)


def flatten(x: Float[Array, "..."]) -> Float[Array, " C"]:
    """Units and positions as one vector.

    Args:
        x: Units, then positions.

    Returns:
        All of them.
    """
    return jnp.ravel(x)
