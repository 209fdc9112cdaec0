"""Networks that are linear in their input but not in their parameters.

Their gradient flows have closed forms, so they serve as exact test cases of feature
learning.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from .._types import Parameterization
from ._checks import check_example, check_positive, check_size, resolve_dtype
from ._dense import Dense


class DeepLinear(eqx.Module):
    """A bias-free product of matrices f = W_{depth+1} ⋯ W₁ x, callable on ONE example.

    Args:
        in_size: Number of inputs.
        out_size: Number of outputs K.
        width: Units in each hidden layer.
        depth: Number of hidden layers; 1 is the two-layer network, 0 a linear map.
        parameterization: `"standard"` (the weights as they are), `"ntk"` or
            `"mean_field"`.
        w_std: Scale of the weights; small values give stepwise learning of the modes.
        key: Random key.
        dtype: Dtype of the parameters; `None` for JAX's default float.

    Raises:
        ValueError: If a size, scale, dtype or name is not valid.

    Source: Saxe, McClelland and Ganguli (2014), section 1.
    Verified by: tests/models/test_linear.py::test_deep_linear_is_its_matrix_product
    """

    layers: tuple[Dense, ...]
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
        parameterization: Parameterization = "standard",
        w_std: float | int = 1.0,
        *,
        key: PRNGKeyArray,
        dtype: DTypeLike | None = None,
    ):
        check_size("DeepLinear", "in_size", in_size)
        check_size("DeepLinear", "out_size", out_size)
        check_size("DeepLinear", "width", width)
        check_size("DeepLinear", "depth", depth, minimum=0)
        sizes = [in_size, *[width] * depth, out_size]
        self.layers = tuple(
            Dense(
                fan_in,
                fan_out,
                parameterization,
                w_std,
                use_bias=False,
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
        check_example("DeepLinear", x, (self.in_size,))
        for layer in self.layers:
            x = layer(x)
        return x


class DiagonalLinear(eqx.Module):
    """The diagonal linear network f = [β·x], β = u² − v², callable on ONE example.

    It starts at u = v = alpha·1, hence at f = 0. Small `alpha` leads gradient flow to
    the interpolator of least ℓ₁ norm, large `alpha` to that of least ℓ₂ norm. This
    `alpha` is an initialization scale, unlike the output scale of `Scaled`.

    Args:
        in_size: Number of inputs.
        alpha: Initial value of every u and v; positive.
        dtype: Dtype of the parameters; `None` for JAX's default float.

    Raises:
        ValueError: If the size or `alpha` is not positive, or the dtype not valid.

    Source: Woodworth et al. (2020), section 4.
    Verified by: tests/models/test_linear.py::test_diagonal_kernel_is_the_closed_form,
        tests/models/test_linear.py::test_diagonal_network_is_its_difference_of_squares
    """

    u: Float[Array, " in_size"]
    v: Float[Array, " in_size"]
    in_size: int = eqx.field(static=True)
    alpha: float = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        alpha: float | int = 1.0,
        *,
        dtype: DTypeLike | None = None,
    ):
        check_size("DiagonalLinear", "in_size", in_size)
        self.in_size = in_size
        self.alpha = check_positive("DiagonalLinear", "alpha", alpha)
        dtype = resolve_dtype(dtype)
        self.u = jnp.full(in_size, self.alpha, dtype)
        self.v = jnp.full(in_size, self.alpha, dtype)

    @property
    def beta(self) -> Float[Array, " {self.in_size}"]:
        """The linear map u² − v² that the network computes."""
        return self.u**2 - self.v**2

    def __call__(self, x: Shaped[Array, "..."]) -> Float[Array, "1"]:
        """Evaluate the network on one example.

        Args:
            x: Input of shape `[in_size]`.

        Returns:
            The single output β·x.
        """
        check_example("DiagonalLinear", x, (self.in_size,))
        return (self.beta @ x)[None]
