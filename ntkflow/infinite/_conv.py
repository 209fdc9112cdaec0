"""The convolution at infinite width."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from ntkflow._types import Padding, Parameterization
from ntkflow.infinite._checks import check_positions
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
    find_windows,
    for_each_axis,
    sum_windows,
)


@final
class Conv(AbstractRandomMap):
    """A convolution over all axes of positions, however many the input has.

        Σ'(p, p') = w_std² · mean over offsets o of Σ(p + o, p' + o) + b_std²

    and the NTK likewise, plus what the layer's own parameters add, as in `Dense` with a
    fan-in of units times offsets. Positions outside count as zeros unless the padding
    is circular. Covariances of equal positions depend on those of equal positions only.

    For inputs of different lengths, masked positions count as zeros. Stride 1 with
    `"SAME"` or `"CIRCULAR"` keeps the mask; else a position of the output is masked
    where its whole window is. Masked outputs are zero, without a bias.

    Args:
        kernel_size: Offsets along every axis, or along each.
        strides: Distances between windows.
        padding: `"SAME"`, `"VALID"` or `"CIRCULAR"`.
        dilation: Distances between offsets.
        w_std: Scale of the weights.
        b_std: Scale of the bias, one for each unit.
        parameterization: `"ntk"`, `"standard"` or `"mean_field"`, as in `Dense`.
        width: Number of units; see `Dense`.
        use_bias: Whether there is a bias.
        trainable: Whether the layer's parameters are trained.

    Raises:
        ValueError: An argument is nothing it could be.

    Source: Novak et al. (2019), on covariances through a convolution, for the NNGP
        kernel; Arora et al. (2019), on the convolutional NTK, for the other.

    Verified by:
    tests/infinite/test_convolution.py::test_convolution_is_the_loop_over_offsets,
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
            "Conv", w_std, b_std, parameterization, width, use_bias, trainable
        )
        self.kernel_size = check_sizes("Conv", "kernel_size", kernel_size)
        self.strides = check_sizes("Conv", "strides", strides)
        self.dilation = check_sizes("Conv", "dilation", dilation)
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
        check_positions("Conv", moments)
        windows = self._windows(moments.positions)
        seen, fan_in = seen_through(moments, windows, self._keeps_positions(windows))
        return silenced(self.weights.propagate(seen, fan_in, self.width))

    def build(
        self, shape: Shape, width: int, *, key: PRNGKeyArray
    ) -> tuple[Callable[[Any], Any], Shape]:
        """The finite layer.

        Args:
            shape: Units and positions of one input.
            width: Units if the layer does not say how many it has.
            key: Random key.

        Returns:
            A convolution, and the shape of its output.
        """
        windows = self._windows(shape[1:])
        layer, new = draw_conv(
            self.weights, shape, self.width or width, windows, key=key
        )
        return self.weights.mark(layer), new

    def _windows(self, positions: tuple[int, ...]) -> tuple[Window, ...]:
        return find_windows(
            "Conv",
            positions,
            for_each_axis("Conv", "kernel_size", self.kernel_size, len(positions)),
            self.strides,
            self.dilation,
            self.padding,
        )

    def _keeps_positions(self, windows: tuple[Window, ...]) -> bool:
        return self.padding != "VALID" and all(w.stride == 1 for w in windows)


def seen_through(
    moments: Moments, windows: tuple[Window, ...], keeps_mask: bool
) -> tuple[Moments, int | None]:
    """The moments of what is in the windows, averaged over units and offsets.

    Args:
        moments: Those of the units.
        windows: How windows lie along each axis.
        keeps_mask: Whether a window is masked where its position is, not where all of
            it is.

    Returns:
        The moments for pairs of windows, or for equal ones, and the number of terms of
        the average, if known.
    """
    moments = silenced(moments)
    rank = len(windows)
    size = 1
    for window in windows:
        size = size * window.size

    def mean(moment: Float[Array, "..."], examples: int) -> Float[Array, "..."]:
        starts = (examples, examples + rank) if moments.pairs else (examples,)
        return sum_windows(moment, windows, *starts) / size

    masks = {}
    if moments.mask1 is not None and moments.mask2 is not None and not keeps_mask:
        masks["mask1"] = any_in_windows(moments.mask1, windows)
        masks["mask2"] = any_in_windows(moments.mask2, windows)
    channels = moments.channels
    seen = moments.with_moments(
        mean(moments.nngp, 2),
        mean(moments.ntk, 2),
        mean(moments.own1, 1),
        mean(moments.own2, 1),
        **masks,
    )
    return seen, None if channels is None else channels * size
