"""The convolution whose weights are not shared between positions, at infinite width."""

import math
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
    check_padding,
    check_sizes,
    find_windows,
    for_each_axis,
)


@final
class ConvLocal(AbstractRandomMap):
    """A locally connected layer: a convolution with weights of its own in every window.

    Equal positions have the moments that `Conv` gives them. Those of different
    positions are zero, in both kernels: neither weights nor the bias, of which there is
    one for each unit and position, are shared between windows. Masks are those of
    `Conv`.

    Args:
        kernel_size: Offsets along every axis, or along each.
        strides: Distances between windows.
        padding: `"SAME"`, `"VALID"` or `"CIRCULAR"`.
        dilation: Distances between offsets.
        w_std: Scale of the weights.
        b_std: Scale of the bias, one for each unit and position.
        parameterization: `"ntk"`, `"standard"` or `"mean_field"`, as in `Dense`.
        width: Number of units; see `Dense`.
        use_bias: Whether there is a bias.
        trainable: Whether the layer's parameters are trained.

    Raises:
        ValueError: An argument is nothing it could be.

    Source: Novak et al. (2019), on networks with and without shared weights.

    Verified by:
    tests/infinite/test_convolution.py::test_local_convolution_relates_no_two_positions,
    tests/infinite/test_convolution.py::test_kernels_are_those_of_the_finite_layer
    """

    weights: Weights
    kernel_size: Sizes = eqx.field(static=True)
    strides: Sizes = eqx.field(static=True)
    padding: Padding = eqx.field(static=True)
    dilation: Sizes = eqx.field(static=True)
    width: int | None = eqx.field(static=True)

    def __init__(
        self,
        kernel_size: Sizes = 3,
        strides: Sizes = 1,
        padding: Padding = "SAME",
        dilation: Sizes = 1,
        *,
        w_std: float | int | Float[Array, ""] = 1.0,
        b_std: float | int | Float[Array, ""] = 0.1,
        parameterization: Parameterization = "ntk",
        width: int | None = None,
        use_bias: bool = True,
        trainable: bool = True,
    ):
        self.weights = Weights(
            "ConvLocal", w_std, b_std, parameterization, width, use_bias, trainable
        )
        self.kernel_size = check_sizes("ConvLocal", "kernel_size", kernel_size)
        self.strides = check_sizes("ConvLocal", "strides", strides)
        self.dilation = check_sizes("ConvLocal", "dilation", dilation)
        self.padding = check_padding(padding)
        self.width = width

    def propagate(self, moments: Moments) -> Moments:
        """The moments of the layer's output.

        Args:
            moments: Those of its input.

        Returns:
            Those of its output, Gaussian.

        Raises:
            ValueError: The input has no positions or too few, or its number of units is
                needed and not known.
        """  # ruff: ignore[docstring-extraneous-exception]
        check_positions("ConvLocal", moments)
        windows = self._windows(moments.positions)
        keeps_mask = self.padding != "VALID" and all(w.stride == 1 for w in windows)
        seen, fan_in = seen_through(_at_equal(moments), windows, keeps_mask)
        out = silenced(self.weights.propagate(seen, fan_in, self.width))
        return _apart(out) if moments.pairs else out

    def build(
        self, shape: Shape, width: int, *, key: PRNGKeyArray
    ) -> tuple[Callable[[Any], Any], Shape]:
        """The finite layer.

        Args:
            shape: Units and positions of one input.
            width: Units if the layer does not say how many it has.
            key: Random key.

        Returns:
            A locally connected layer, and the shape of its output.
        """
        windows = self._windows(shape[1:])
        units = self.width or width
        layer, new = draw_conv(self.weights, shape, units, windows, local=True, key=key)
        return self.weights.mark(layer), new

    def _windows(self, positions: tuple[int, ...]) -> tuple[Window, ...]:
        return find_windows(
            "ConvLocal",
            positions,
            for_each_axis("ConvLocal", "kernel_size", self.kernel_size, len(positions)),
            self.strides,
            self.dilation,
            self.padding,
        )


def _at_equal(moments: Moments) -> Moments:
    return moments.with_moments(
        moments.at_equal_positions(moments.nngp, 2),
        moments.at_equal_positions(moments.ntk, 2),
        moments.variance1,
        moments.variance2,
        pairs=False,
    )


def _apart(moments: Moments) -> Moments:
    """All pairs of positions, the different ones unrelated."""
    shape = moments.positions
    count = math.prod(shape)

    def spread(moment: Float[Array, "..."], examples: int) -> Float[Array, "..."]:
        lead = moment.shape[:examples]
        flat = moment.reshape(*lead, count, 1)
        eye = jnp.eye(count, dtype=bool).reshape(*(1,) * examples, count, count)
        return jnp.where(eye, flat, jnp.zeros_like(flat)).reshape(*lead, *shape, *shape)

    return moments.with_moments(
        spread(moments.nngp, 2),
        spread(moments.ntk, 2),
        spread(moments.own1, 1),
        spread(moments.own2, 1),
        pairs=True,
    )
