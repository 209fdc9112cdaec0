"""The convolutional network."""

import math
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from .._errors import unknown_name
from .._types import Parameterization, Pooling
from ._activations import default_w_std, resolve_activation
from ._checks import check_example, check_size
from ._conv import Conv
from ._dense import Dense

_POOLINGS = ("average", "flatten")


class CNN(eqx.Module):
    """Convolutions at full resolution, then pooling and a dense readout.

    Args:
        in_shape: Shape `(C, H, W)` of one image, channels first.
        out_size: Number of outputs K.
        channels: Channels of each hidden layer.
        depth: Number of convolutions; 0 pools the image itself, a linear map.
        kernel_size: Height and width of the kernels.
        activation: Name in `ACTIVATIONS`, or an elementwise callable.
        parameterization: `"standard"`, `"ntk"` or `"mean_field"`.
        pooling: `"average"` over all positions, or `"flatten"`: every position has
            readout weights of its own.
        w_std: Scale of the weights; `None` for √2 with ReLU-like activations, else 1.
        b_std: Scale of the biases.
        use_bias: Whether the layers have biases.
        key: Random key.
        dtype: Dtype of the parameters; `None` for JAX's default float.

    Raises:
        ValueError: If a size, scale, dtype or name is not valid.

    Source: Arora et al. (2019), section 4 (`"flatten"` and global average pooling).
    Verified by: tests/models/test_cnn.py::test_cnn_matches_the_loop,
        tests/models/test_cnn.py::test_mean_field_time_scale_undoes_its_division
    """

    layers: tuple[Conv, ...]
    readout: Dense
    activation: Callable
    in_shape: tuple[int, int, int] = eqx.field(static=True)
    out_size: int = eqx.field(static=True)
    channels: int = eqx.field(static=True)
    depth: int = eqx.field(static=True)
    pooling: Pooling = eqx.field(static=True)

    def __init__(
        self,
        in_shape: Sequence[int],
        out_size: int,
        channels: int,
        depth: int,
        kernel_size: int = 3,
        activation: str | Callable = "relu",
        parameterization: Parameterization = "ntk",
        pooling: Pooling = "average",
        w_std: float | int | None = None,
        b_std: float | int = 0.1,
        use_bias: bool = True,
        *,
        key: PRNGKeyArray,
        dtype: DTypeLike | None = None,
    ):
        if len(in_shape) != 3:
            raise ValueError(
                "CNN: `in_shape` must be (channels, height, width), got "
                f"{tuple(in_shape)}; a gray image has one channel, (1, H, W)."
            )
        for size in in_shape:
            check_size("CNN", "in_shape", size)
        check_size("CNN", "out_size", out_size)
        check_size("CNN", "channels", channels)
        check_size("CNN", "depth", depth, minimum=0)
        check_size("CNN", "kernel_size", kernel_size)
        if pooling not in _POOLINGS:
            raise unknown_name("pooling", pooling, _POOLINGS)
        w_std = default_w_std(activation) if w_std is None else w_std
        *layer_keys, readout_key = jax.random.split(key, depth + 1)
        counts = [in_shape[0], *[channels] * depth]
        self.layers = tuple(
            Conv(
                fan_in,
                channels,
                kernel_size,
                parameterization,
                w_std,
                b_std,
                use_bias,
                key=layer_key,
                dtype=dtype,
            )
            for fan_in, layer_key in zip(counts[:-1], layer_keys, strict=True)
        )
        features = counts[-1]
        if pooling == "flatten":
            features *= math.prod(in_shape[1:])
        self.readout = Dense(
            features,
            out_size,
            parameterization,
            w_std,
            b_std,
            use_bias,
            readout=True,
            key=readout_key,
            dtype=dtype,
        )
        self.activation = resolve_activation(activation)
        self.in_shape = in_shape[0], in_shape[1], in_shape[2]
        self.out_size = out_size
        self.channels = channels
        self.depth = depth
        self.pooling = pooling

    @property
    def time_scale(self) -> float:
        """The readout's fan-in under `mean_field` (`channels` if averaged), else 1."""
        return self.readout.time_scale

    def __call__(self, x: Shaped[Array, "..."]) -> Float[Array, " {self.out_size}"]:
        """Evaluate the network on one image.

        Args:
            x: Image of shape `[C, H, W]`.

        Returns:
            The outputs f(x).
        """
        check_example("CNN", x, self.in_shape)
        for layer in self.layers:
            x = self.activation(layer(x))
        pooled = x.ravel() if self.pooling == "flatten" else jnp.mean(x, axis=(1, 2))
        return self.readout(pooled)
