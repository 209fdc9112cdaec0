"""The convolution that `CNN` is made of."""

import equinox as eqx
import jax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from .._types import Parameterization
from ._checks import check_nonnegative, check_positive, check_size, resolve_dtype
from ._parameterization import Scales, draw_layer, layer_scales


class Conv(eqx.Module):
    """A two-dimensional convolution, stride 1, zero padding to the input's size.

    Parameterized as `Dense`, with fan_in = in_channels·kernel_size². An even kernel
    takes its extra row and column of padding at the end.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Height and width of the kernel.
        parameterization: `"standard"`, `"ntk"` or `"mean_field"`; the last is `"ntk"`
            here, as a convolution is never the readout.
        w_std: Scale of the weights; positive.
        b_std: Scale of the bias, one for each output channel.
        use_bias: Whether there is a bias.
        key: Random key.
        dtype: Dtype of the parameters; `None` for JAX's default float.

    Verified by: tests/models/test_cnn.py::test_convolution_matches_the_loop
    """

    weight: Float[Array, "out_channels in_channels kernel_size kernel_size"]
    bias: Float[Array, " out_channels"] | None
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    kernel_size: int = eqx.field(static=True)
    parameterization: Parameterization = eqx.field(static=True)
    w_std: float = eqx.field(static=True)
    b_std: float = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        parameterization: Parameterization = "ntk",
        w_std: float | int = 1.0,
        b_std: float | int = 0.1,
        use_bias: bool = True,
        *,
        key: PRNGKeyArray,
        dtype: DTypeLike | None = None,
    ):
        check_size("Conv", "in_channels", in_channels)
        check_size("Conv", "out_channels", out_channels)
        check_size("Conv", "kernel_size", kernel_size)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.parameterization = parameterization
        self.w_std = check_positive("Conv", "w_std", w_std)
        self.b_std = check_nonnegative("Conv", "b_std", b_std)
        self.weight, self.bias = draw_layer(
            key,
            self._scales,
            shape=(out_channels, in_channels, kernel_size, kernel_size),
            use_bias=use_bias,
            dtype=resolve_dtype(dtype),
        )

    @property
    def _scales(self) -> Scales:
        return layer_scales(
            self.parameterization, self.fan_in, self.w_std, self.b_std, readout=False
        )

    @property
    def fan_in(self) -> int:
        """Number of inputs that each output sums over."""
        return self.in_channels * self.kernel_size**2

    def __call__(
        self, u: Shaped[Array, "{self.in_channels} H W"]
    ) -> Float[Array, "{self.out_channels} H W"]:
        """Apply the layer to one image.

        Args:
            u: The image, channels first.

        Returns:
            The preactivations, of the same height and width.
        """
        scales = self._scales
        h = jax.lax.conv_general_dilated(
            u[None],
            self.weight,
            window_strides=(1, 1),
            padding="SAME",
            dimension_numbers=("NCHW", "OIHW", "NCHW"),
        )[0]
        h = scales.w_scale * h
        if self.bias is None:
            return h
        return h + scales.b_scale * self.bias[:, None, None]
