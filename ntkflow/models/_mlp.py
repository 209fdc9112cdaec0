"""The multilayer perceptron."""

from collections.abc import Callable

import equinox as eqx
import jax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from .._types import Parameterization
from ._activations import default_w_std, resolve_activation
from ._checks import check_example, check_size
from ._dense import Dense


class MLP(eqx.Module):
    """A fully connected network, callable on ONE example.

    The same key gives the same initial function (up to round-off) under `standard` and
    `ntk`, and that function divided by √width under `mean_field`; what differs is how
    they train.

    Args:
        in_size: Number of inputs.
        out_size: Number of outputs K.
        width: Units in each hidden layer.
        depth: Number of hidden layers; 0 is a linear map, for which `width` is unused.
        activation: Name in `ACTIVATIONS`, or an elementwise callable.
        parameterization: `"standard"`, `"ntk"` or `"mean_field"`.
        w_std: Scale of the weights; `None` for √2 with ReLU-like activations, else 1.
        b_std: Scale of the biases.
        use_bias: Whether the layers have biases.
        key: Random key.
        dtype: Dtype of the parameters; `None` for JAX's default float.

    Raises:
        ValueError: If a size, scale, dtype or name is not valid.

    Source: Lee et al. (2019), eq. 1.
    Verified by: tests/models/test_mlp.py::test_mlp_matches_the_loop,
        tests/models/test_mlp.py::test_output_variance_is_the_infinite_width_one
    """

    layers: tuple[Dense, ...]
    activation: Callable
    in_size: int = eqx.field(static=True)
    out_size: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    depth: int = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        out_size: int,
        width: int,
        depth: int,
        activation: str | Callable = "tanh",
        parameterization: Parameterization = "ntk",
        w_std: float | int | None = None,
        b_std: float | int = 0.1,
        use_bias: bool = True,
        *,
        key: PRNGKeyArray,
        dtype: DTypeLike | None = None,
    ):
        check_size("MLP", "in_size", in_size)
        check_size("MLP", "out_size", out_size)
        check_size("MLP", "width", width)
        check_size("MLP", "depth", depth, minimum=0)
        sizes = [in_size, *[width] * depth, out_size]
        self.layers = tuple(
            Dense(
                fan_in,
                fan_out,
                parameterization,
                default_w_std(activation) if w_std is None else w_std,
                b_std,
                use_bias,
                readout=i == depth,
                key=layer_key,
                dtype=dtype,
            )
            for i, (fan_in, fan_out, layer_key) in enumerate(
                zip(
                    sizes[:-1], sizes[1:], jax.random.split(key, depth + 1), strict=True
                )
            )
        )
        self.activation = resolve_activation(activation)
        self.in_size = in_size
        self.out_size = out_size
        self.width = width
        self.depth = depth

    @property
    def time_scale(self) -> float:
        """The width (the readout's fan-in) under `mean_field`, else 1."""
        return self.layers[-1].time_scale

    def __call__(self, x: Shaped[Array, "..."]) -> Float[Array, " {self.out_size}"]:
        """Evaluate the network on one example.

        Args:
            x: Input of shape `[in_size]`.

        Returns:
            The outputs f(x).
        """
        check_example("MLP", x, (self.in_size,))
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)
