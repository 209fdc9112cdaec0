"""Where a layer keeps its scale: in the initial values, or in the forward pass.

A layer of any parameterization computes

    h = w_scale · (W u) + b_scale · b,    W ~ N(0, w_init²),    b ~ N(0, b_init²).

`standard` keeps the scales in the initial values, `ntk` in the forward pass, and
`mean_field` divides the whole readout of `ntk` by a further √fan_in. So a mean-field
network is its `ntk` twin divided by √fan_in, and with c = fan_in the kernel that
drives its outputs, c J Jᵀ, is the twin's own.
"""

import functools
import math
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._errors import unknown_name
from .._types import Parameterization

PARAMETERIZATIONS = ("standard", "ntk", "mean_field")


class Scales(NamedTuple):
    """The four scales of a layer; see the formula at the top of this file.

    Attributes:
        w_init: Standard deviation of the initial weights.
        w_scale: Factor on the product of weights and input.
        b_init: Standard deviation of the initial bias.
        b_scale: Factor on the bias.
    """

    w_init: float
    w_scale: float
    b_init: float
    b_scale: float


def layer_scales(
    parameterization: Parameterization,
    fan_in: int,
    w_std: float,
    b_std: float,
    *,
    readout: bool,
) -> Scales:
    """The scales of one layer.

    Args:
        parameterization: `"standard"`, `"ntk"` or `"mean_field"`.
        fan_in: Number of inputs that each output sums over.
        w_std: Scale of the weights, before the division by the fan-in.
        b_std: Scale of the bias.
        readout: Whether this is the last layer, the one `mean_field` treats apart.

    Returns:
        The scales of the initial values and of the forward pass.

    Raises:
        ValueError: If the parameterization is unknown.

    Source: Lee et al. (2019), eq. 1 (`ntk`); Sohl-Dickstein et al. (2020)
        (`standard`); Mei, Montanari and Nguyen (2018), eq. 1 (`mean_field`, its
        readout divided by fan_in; the bias beside it is divided by √fan_in so that its
        share of c J Jᵀ does not grow with the width).
    Verified by: tests/models/test_mlp.py::test_same_key_gives_the_same_function,
        tests/models/test_mlp.py::test_mean_field_time_scale_restores_the_ntk_kernel
    """  # ruff: ignore[docstring-missing-exception, docstring-extraneous-exception]
    if parameterization == "standard":
        return Scales(w_std / math.sqrt(fan_in), 1.0, b_std, 1.0)
    w_scale = w_std / math.sqrt(fan_in)
    if parameterization == "ntk" or (parameterization == "mean_field" and not readout):
        return Scales(1.0, w_scale, 1.0, b_std)
    if parameterization == "mean_field":
        return Scales(1.0, w_std / fan_in, 1.0, b_std / math.sqrt(fan_in))
    raise unknown_name("parameterization", parameterization, PARAMETERIZATIONS)


@functools.partial(jax.jit, static_argnames=("shape", "use_bias", "dtype"))
def draw_layer(
    key: PRNGKeyArray,
    scales: Scales,
    *,
    shape: tuple[int, ...],
    use_bias: bool,
    dtype: np.dtype,
) -> tuple[Float[Array, "out_size ..."], Float[Array, " out_size"] | None]:
    """The initial weights and bias of one layer.

    Both come from one flat draw: compiling the generator for a new shape is what takes
    the time when a network is built, and several axes take longer than one.

    Args:
        key: Random key.
        scales: The scales of the initial values.
        shape: Shape of the weights, outputs first.
        use_bias: Whether there is a bias.
        dtype: Dtype of the parameters.

    Returns:
        The weights, and the bias or `None`.

    Verified by:
        tests/models/test_dense.py::test_initial_weights_have_the_stated_variance
    """
    weights = math.prod(shape)
    draw = jax.random.normal(key, (weights + shape[0] * use_bias,), dtype)
    weight = scales.w_init * draw[:weights].reshape(shape)
    return weight, scales.b_init * draw[weights:] if use_bias else None
