"""The transposed convolution at infinite width."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ntkflow._types import Padding, Parameterization
from ntkflow.infinite._checks import check_positions
from ntkflow.infinite._conv import seen_through
from ntkflow.infinite._finite_conv import draw_conv
from ntkflow.infinite._layer import Shape
from ntkflow.infinite._maps import AbstractRandomMap
from ntkflow.infinite._moments import Moments
from ntkflow.infinite._positions import silenced
from ntkflow.infinite._weights import Weights
from ntkflow.infinite._windows import (
    Sizes,
    Window,
    any_in_windows,
    check_padding,
    check_sizes,
    for_each_axis,
)


@final
class ConvTranspose(AbstractRandomMap):
    """A transposed convolution: positions spread out by zeros, then a convolution.

    Along an axis of n positions, stride s and kernel size k, the output has n·s
    positions with `"SAME"` and `"CIRCULAR"`, and n·s + max(k − s, 0) with `"VALID"`, as
    `jax.lax.conv_transpose` has. Weights are scaled for a fan-in of units times k, as
    in `Conv`, although zeros take part: units have a smaller variance at larger
    strides, by position.

    For inputs of different lengths, masked positions count as zeros. A position of the
    output is masked where the one it is spread from is, with `"VALID"` where all are
    that its window sees. Masked outputs are zero, without a bias.

    Args:
        kernel_size: Offsets along every axis, or along each.
        strides: How many positions each one is spread to.
        padding: `"SAME"`, `"VALID"` or `"CIRCULAR"`.
        w_std: Scale of the weights.
        b_std: Scale of the bias, one for each unit.
        parameterization: `"ntk"`, `"standard"` or `"mean_field"`, as in `Dense`.
        width: Number of units; see `Dense`.
        use_bias: Whether there is a bias.
        trainable: Whether the layer's parameters are trained.

    Raises:
        ValueError: An argument is nothing it could be.

    Source: Novak et al. (2019) for a convolution, here of the spread input;
        Dumoulin & Visin (2016), chapter 4, for the spreading.

    Verified by:
    tests/infinite/test_convolution.py::test_transposed_convolution_is_that_of_jax,
    tests/infinite/test_convolution.py::test_kernels_are_those_of_the_finite_layer
    """

    weights: Weights
    kernel_size: Sizes = eqx.field(static=True)
    strides: Sizes = eqx.field(static=True)
    padding: Padding = eqx.field(static=True)
    width: int | None = eqx.field(static=True)

    def __init__(
        self,
        kernel_size: Sizes = 3,
        strides: Sizes = 1,
        padding: Padding = "SAME",
        *,
        w_std: float | int | Float[Array, ""] = 1.0,
        b_std: float | int | Float[Array, ""] = 0.1,
        parameterization: Parameterization = "ntk",
        width: int | None = None,
        use_bias: bool = True,
        trainable: bool = True,
    ):
        name = "ConvTranspose"
        self.weights = Weights(
            name, w_std, b_std, parameterization, width, use_bias, trainable
        )
        self.kernel_size = check_sizes(name, "kernel_size", kernel_size)
        self.strides = check_sizes(name, "strides", strides)
        self.padding = check_padding(padding)
        self.width = width

    def propagate(self, moments: Moments) -> Moments:
        """The moments of the layer's output.

        Args:
            moments: Those of its input.

        Returns:
            Those of its output, Gaussian.

        Raises:
            ValueError: The input has no positions or another number of axes, or its
                number of units is needed and not known.
        """  # ruff: ignore[docstring-extraneous-exception]
        check_positions("ConvTranspose", moments)
        windows = self._windows(len(moments.positions))
        seen, fan_in = seen_through(moments, windows, keeps_mask=True)
        out = self.weights.propagate(seen, fan_in, self.width)
        if moments.mask1 is None or moments.mask2 is None:
            return out
        return silenced(
            eqx.tree_at(
                lambda m: (m.mask1, m.mask2),
                out,
                (
                    self._spread(moments.mask1, windows),
                    self._spread(moments.mask2, windows),
                ),
            )
        )

    def build(
        self, shape: Shape, width: int, *, key: PRNGKeyArray
    ) -> tuple[Callable[[Any], Any], Shape]:
        """The finite layer.

        Args:
            shape: Units and positions of one input.
            width: Units if the layer does not say how many it has.
            key: Random key.

        Returns:
            A transposed convolution, and the shape of its output.
        """
        windows = self._windows(len(shape) - 1)
        layer, new = draw_conv(
            self.weights, shape, self.width or width, windows, key=key
        )
        return self.weights.mark(layer), new

    def _windows(self, rank: int) -> tuple[Window, ...]:
        name = "ConvTranspose"
        sizes = for_each_axis(name, "kernel_size", self.kernel_size, rank)
        strides = for_each_axis(name, "strides", self.strides, rank)
        return tuple(
            self._window(size, stride)
            for size, stride in zip(sizes, strides, strict=True)
        )

    def _window(self, size: int, stride: int) -> Window:
        low, high = size - 1, max(size - stride, 0)
        if self.padding != "VALID":
            # The middle n·s of n·s + k − 1 windows, as jax.lax.conv_transpose has them.
            low = min(low, -(-(size + stride - 2) // 2))
            high = size - 1 - low
        return Window(size, 1, 1, low, high, self.padding == "CIRCULAR", spread=stride)

    def _spread(self, mask: Array, windows: tuple[Window, ...]) -> Array:
        for axis, window in enumerate(windows, start=1):
            mask = jnp.repeat(mask, window.spread, axis=axis)
        if self.padding != "VALID":
            return mask
        return any_in_windows(mask, tuple(w._replace(spread=1) for w in windows))
