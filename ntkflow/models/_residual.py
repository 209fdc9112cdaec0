"""The residual network: blocks that add to what they read."""

import math
from collections.abc import Callable

import equinox as eqx
import jax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from .._types import Parameterization
from ._activations import default_w_std, resolve_activation
from ._checks import check_example, check_positive, check_size
from ._dense import Dense


class ResidualMLP(eqx.Module):
    """A fully connected residual network, callable on ONE example.

        h₀ = E x,    h_{l+1} = h_l + a·B_l φ(h_l),    f = R h_depth

    with `Dense` layers E (embedding), B_l (branches) and R (readout). Each branch ends
    in a linear layer of its own, so at infinite width it adds a² times its kernel. With
    the default a = 1/√depth the signal stays of order one at any depth: the
    infinite-width kernels are Euler steps of an ordinary differential equation over one
    unit of depth.

    Args:
        in_size: Number of inputs.
        out_size: Number of outputs K.
        width: Units in the residual stream.
        depth: Number of residual blocks; 0 is a linear map through `width` units.
        activation: Name in `ACTIVATIONS`, or an elementwise callable.
        parameterization: `"standard"`, `"ntk"` or `"mean_field"`.
        branch_scale: The factor a of every branch; `None` for 1/√depth.
        w_std: Scale of the weights; `None` for √2 with ReLU-like activations, else 1.
        b_std: Scale of the biases.
        use_bias: Whether the layers have biases.
        key: Random key.
        dtype: Dtype of the parameters; `None` for JAX's default float.

    Raises:
        ValueError: If a size, scale, dtype or name is not valid.

    Source: Hayou et al. (2021), section 2 (branches scaled by 1/√depth).
    Verified by: tests/models/test_residual.py::test_residual_mlp_matches_the_loop,
        tests/models/test_residual.py::test_output_variance_grows_as_euler_steps
    """

    embedding: Dense
    branches: tuple[Dense, ...]
    readout: Dense
    activation: Callable
    in_size: int = eqx.field(static=True)
    out_size: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    depth: int = eqx.field(static=True)
    branch_scale: float = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        out_size: int,
        width: int,
        depth: int,
        activation: str | Callable = "tanh",
        parameterization: Parameterization = "ntk",
        branch_scale: float | int | None = None,
        w_std: float | int | None = None,
        b_std: float | int = 0.1,
        use_bias: bool = True,
        *,
        key: PRNGKeyArray,
        dtype: DTypeLike | None = None,
    ):
        check_size("ResidualMLP", "in_size", in_size)
        check_size("ResidualMLP", "out_size", out_size)
        check_size("ResidualMLP", "width", width)
        check_size("ResidualMLP", "depth", depth, minimum=0)
        w_std = default_w_std(activation) if w_std is None else w_std

        def dense(
            fan_in: int, fan_out: int, layer_key: PRNGKeyArray, readout: bool = False
        ) -> Dense:
            return Dense(
                fan_in,
                fan_out,
                parameterization,
                w_std,
                b_std,
                use_bias,
                readout,
                key=layer_key,
                dtype=dtype,
            )

        first_key, *branch_keys, last_key = jax.random.split(key, depth + 2)
        self.embedding = dense(in_size, width, first_key)
        self.branches = tuple(dense(width, width, k) for k in branch_keys)
        self.readout = dense(width, out_size, last_key, readout=True)
        self.activation = resolve_activation(activation)
        self.in_size = in_size
        self.out_size = out_size
        self.width = width
        self.depth = depth
        self.branch_scale = (
            1.0 / math.sqrt(max(depth, 1))
            if branch_scale is None
            else check_positive("ResidualMLP", "branch_scale", branch_scale)
        )

    @property
    def time_scale(self) -> float:
        """The width under `mean_field`, else 1."""
        return self.readout.time_scale

    def __call__(self, x: Shaped[Array, "..."]) -> Float[Array, " {self.out_size}"]:
        """Evaluate the network on one example.

        Args:
            x: Input of shape `[in_size]`.

        Returns:
            The outputs f(x).
        """
        check_example("ResidualMLP", x, (self.in_size,))
        h = self.embedding(x)
        for branch in self.branches:
            h = h + self.branch_scale * branch(self.activation(h))
        return self.readout(h)
