"""Images made larger or smaller, at infinite width."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ntkflow._errors import unknown_name
from ntkflow._types import ResizeMethod
from ntkflow.infinite._checks import check_positions
from ntkflow.infinite._finite import Pointwise
from ntkflow.infinite._layer import Shape
from ntkflow.infinite._maps import AbstractPositionMap
from ntkflow.infinite._moments import Moments
from ntkflow.infinite._positions import along, on_both_sides
from ntkflow.infinite._windows import Sizes, check_sizes, for_each_axis

METHODS = ("nearest", "linear", "cubic", "lanczos3", "lanczos5")


@final
class ImageResize(AbstractPositionMap):
    """Every unit's image interpolated to another size, by `jax.image.resize`.

    Interpolation is one matrix for each axis of positions, which acts on both positions
    of a pair, in Σ and in Θ.

    Args:
        size: New number of positions along every axis, or along each.
        method: `"nearest"`, `"linear"`, `"cubic"`, `"lanczos3"` or `"lanczos5"`.
        antialias: Whether an image is smoothed as it is made smaller.

    Raises:
        ValueError: The method is unknown, or the size is no size.

    Verified by:
    tests/infinite/test_positions.py::test_linear_layers_map_moments_like_inputs
    """

    size: Sizes = eqx.field(static=True)
    method: ResizeMethod = eqx.field(static=True)
    antialias: bool = eqx.field(static=True)

    def __init__(
        self, size: Sizes, method: ResizeMethod = "linear", antialias: bool = True
    ):
        self.size = check_sizes("ImageResize", "size", size)
        if method not in METHODS:
            raise unknown_name("method", method, METHODS)
        self.method = method
        self.antialias = antialias

    def propagate(self, moments: Moments) -> Moments:
        """The moments of the interpolated units.

        Args:
            moments: Those of the units.

        Returns:
            Those of the same units at new positions.

        Raises:
            ValueError: The input has no positions, another number of axes than sizes
                are given, or a mask.
        """
        check_positions("ImageResize", moments)
        if moments.mask1 is not None or moments.mask2 is not None:
            raise ValueError(
                "ImageResize takes no masks: interpolation would mix positions that "
                "hold something with those that do not. Resize the inputs instead."
            )
        old = moments.positions
        dtype = moments.nngp.dtype
        matrices = [
            jax.image.resize(
                jnp.eye(n, dtype=dtype), (m, n), self.method, self.antialias
            )
            for n, m in zip(old, self._sizes(len(old)), strict=True)
        ]

        def act(x: Float[Array, "..."], start: int) -> Float[Array, "..."]:
            for axis, matrix in enumerate(matrices, start=start):
                x = along(x, matrix, axis)
            return x

        return on_both_sides(moments, act)

    def build(
        self, shape: Shape, width: int, *, key: PRNGKeyArray
    ) -> tuple[Callable[[Any], Any], Shape]:
        """The function.

        Args:
            shape: Units and positions of one input.
            width: Not used.
            key: Not used.

        Returns:
            A module that interpolates, and the shape of its output.
        """
        new = (shape[0], *self._sizes(len(shape) - 1))
        return Pointwise(self._resize), new

    def _resize(self, x: Float[Array, "C *S"]) -> Float[Array, "C *T"]:
        new = (x.shape[0], *self._sizes(x.ndim - 1))
        return jax.image.resize(x, new, self.method, self.antialias)

    def _sizes(self, rank: int) -> tuple[int, ...]:
        return for_each_axis("ImageResize", "size", self.size, rank)
