"""Vector fields v(t, z) for whatever is continuous in depth."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from .._types import Parameterization
from ._activations import default_w_std, resolve_activation
from ._checks import check_size
from ._conv import Conv
from ._mlp import MLP


@final
class MLPField(eqx.Module):
    """A multilayer perceptron as a vector field on states [d].

    Args:
        size: Numbers d in the state, augmentation included.
        width: Units in each hidden layer.
        depth: Number of hidden layers.
        activation: As for `MLP`.
        concat_time: Whether t is a further input.
        parameterization: `"standard"` or `"ntk"`, or `"mean_field"`.
        w_std: As for `MLP`; the gain of the field.
        b_std: As for `MLP`.
        use_bias: As for `MLP`.
        key: Random key.
        dtype: As for `MLP`.

    Raises:
        ValueError: As for `MLP`.

    Source: Chen, Rubanova, Bettencourt and Duvenaud (2018), section 3 (t as an input).
    Verified by: tests/models/test_fields.py::test_time_is_the_last_input_of_the_mlp
    """

    mlp: MLP
    concat_time: bool = eqx.field(static=True)

    def __init__(
        self,
        size: int,
        width: int,
        depth: int = 1,
        activation: str | Callable = "tanh",
        concat_time: bool = False,
        parameterization: Parameterization = "ntk",
        w_std: float | int | None = None,
        b_std: float | int = 0.1,
        use_bias: bool = True,
        *,
        key: PRNGKeyArray,
        dtype: DTypeLike | None = None,
    ):
        check_size("MLPField", "size", size)
        self.mlp = MLP(
            size + concat_time,
            size,
            width,
            depth,
            activation,
            parameterization,
            w_std,
            b_std,
            use_bias,
            key=key,
            dtype=dtype,
        )
        self.concat_time = concat_time

    def __call__(self, t: Float[Array, ""], z: Float[Array, " d"]) -> Float[Array, "_"]:
        """The velocity of a state.

        Args:
            t: The depth.
            z: The state.

        Returns:
            v(t, z).
        """
        if self.concat_time:
            z = jnp.concatenate([z, t[None].astype(z.dtype)])
        return self.mlp(z)


@final
class ConvField(eqx.Module):
    """Two convolutions with an activation between, as a field on images [C, H, W].

    Args:
        channels: Channels C of the state, augmentation included.
        width: Channels between the convolutions.
        kernel_size: Height and width of the kernels.
        activation: As for `CNN`.
        concat_time: Whether t is a further, constant channel of the input.
        parameterization: As for `CNN`.
        w_std: As for `CNN`.
        b_std: As for `CNN`.
        use_bias: As for `CNN`.
        key: Random key.
        dtype: As for `CNN`.

    Raises:
        ValueError: As for `CNN`.

    Source: Dupont, Doucet and Teh (2019), appendix (the field of their image models).
    Verified by: tests/models/test_fields.py::test_convolutional_field_is_its_layers
    """

    first: Conv
    last: Conv
    activation: Callable
    concat_time: bool = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        width: int,
        kernel_size: int = 3,
        activation: str | Callable = "tanh",
        concat_time: bool = False,
        parameterization: Parameterization = "ntk",
        w_std: float | int | None = None,
        b_std: float | int = 0.1,
        use_bias: bool = True,
        *,
        key: PRNGKeyArray,
        dtype: DTypeLike | None = None,
    ):
        check_size("ConvField", "channels", channels)
        check_size("ConvField", "width", width)

        def conv(fan_in: int, fan_out: int, layer_key: PRNGKeyArray) -> Conv:
            return Conv(
                fan_in,
                fan_out,
                kernel_size,
                parameterization,
                default_w_std(activation) if w_std is None else w_std,
                b_std,
                use_bias,
                key=layer_key,
                dtype=dtype,
            )

        first_key, last_key = jax.random.split(key)
        self.first = conv(channels + concat_time, width, first_key)
        self.last = conv(width, channels, last_key)
        self.activation = resolve_activation(activation)
        self.concat_time = concat_time

    def __call__(
        self, t: Float[Array, ""], z: Float[Array, "C H W"]
    ) -> Float[Array, "C H W"]:
        """The velocity of a state.

        Args:
            t: The depth.
            z: The state, channels first.

        Returns:
            v(t, z).
        """
        if self.concat_time:
            clock = jnp.broadcast_to(t.astype(z.dtype), (1, *z.shape[1:]))
            z = jnp.concatenate([z, clock])
        return self.last(self.activation(self.first(z)))
