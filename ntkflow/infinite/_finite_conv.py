"""Finite convolutions, of which those of infinite width are the limit."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ntkflow.infinite._layer import Shape
from ntkflow.infinite._weights import Weights
from ntkflow.infinite._windows import Window, count_windows, pad, patches
from ntkflow.models._checks import resolve_dtype
from ntkflow.models._parameterization import Scales, draw_layer, layer_scales


class SharedConv(eqx.Module):
    """A convolution, or a transposed one: the same weights for every window.

    Attributes:
        weight: The weights, outputs first.
        bias: One number for each output channel.
        scales: Factors of the forward pass.
        windows: How windows lie along each axis.
    """

    weight: Float[Array, "D C *K"]
    bias: Float[Array, " D"] | None
    scales: Scales = eqx.field(static=True)
    windows: tuple[Window, ...] = eqx.field(static=True)

    def __call__(self, x: Float[Array, "C *S"]) -> Float[Array, "D *T"]:
        """Apply it to one example.

        Args:
            x: Units, then positions.

        Returns:
            The new units in every window.
        """
        for axis, window in enumerate(self.windows, start=1):
            x = pad(x, window, (axis,))
        h = jax.lax.conv_general_dilated(
            x[None],
            self.weight,
            window_strides=[window.stride for window in self.windows],
            padding="VALID",
            rhs_dilation=[window.dilation for window in self.windows],
        )[0]
        h = self.scales.w_scale * h
        if self.bias is None:
            return h
        ones = (1,) * len(self.windows)
        return h + self.scales.b_scale * self.bias.reshape(-1, *ones)


class LocalConv(eqx.Module):
    """A convolution with weights and a bias of its own in every window.

    Attributes:
        weight: The weights: outputs, windows, what is in a window.
        bias: One number for each output and window.
        scales: Factors of the forward pass.
        windows: How windows lie along each axis.
    """

    weight: Float[Array, "D P F"]
    bias: Float[Array, "D P"] | None
    scales: Scales = eqx.field(static=True)
    windows: tuple[Window, ...] = eqx.field(static=True)

    def __call__(self, x: Float[Array, "C *S"]) -> Float[Array, "D *T"]:
        """Apply it to one example.

        Args:
            x: Units, then positions.

        Returns:
            The new units in every window.
        """
        seen = patches(x, self.windows)
        flat = seen.reshape(seen.shape[0], -1)
        h = self.scales.w_scale * jnp.einsum("dpf,fp->dp", self.weight, flat)
        if self.bias is not None:
            h = h + self.scales.b_scale * self.bias
        return h.reshape(-1, *seen.shape[1:])


def draw_conv(
    weights: Weights,
    shape: Shape,
    units: int,
    windows: tuple[Window, ...],
    *,
    local: bool = False,
    key: PRNGKeyArray,
) -> tuple[SharedConv | LocalConv, Shape]:
    """A finite convolution at its initial weights.

    Args:
        weights: What is known of them.
        shape: Units and positions of one input.
        units: Units of the output.
        windows: How windows lie along each axis.
        local: Whether every window has weights of its own.
        key: Random key.

    Returns:
        The convolution, and units and positions of what it returns.
    """
    size = tuple(window.size for window in windows)
    positions = count_windows(windows, shape[1:])
    fan_in = shape[0] * math.prod(size)
    scales = layer_scales(
        weights.parameterization,
        fan_in,
        float(weights.w_std),
        float(weights.b_std),
        readout=weights.parameterization == "mean_field",
    )
    dtype = resolve_dtype(None)
    new = (units, *positions)
    if not local:
        drawn = (units, shape[0], *size)
        weight, bias = draw_layer(
            key, scales, shape=drawn, use_bias=weights.use_bias, dtype=dtype
        )
        return SharedConv(weight, bias, scales, windows), new
    count = math.prod(positions)
    weight, bias = draw_layer(
        key,
        scales,
        shape=(units * count, fan_in),
        use_bias=weights.use_bias,
        dtype=dtype,
    )
    weight = weight.reshape(units, count, fan_in)
    bias = None if bias is None else bias.reshape(units, count)
    return LocalConv(weight, bias, scales, windows), new
