"""The fully connected layer that every network of this room is made of."""

import equinox as eqx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from .._types import Parameterization
from ._checks import (
    check_example,
    check_nonnegative,
    check_positive,
    check_size,
    resolve_dtype,
)
from ._parameterization import Scales, draw_layer, layer_scales


class Dense(eqx.Module):
    """A fully connected layer in standard, NTK or mean-field parameterization.

    Standard: h = W u + b with W ~ N(0, w_std²/fan_in) and b ~ N(0, b_std²). Ntk:
    h = w_std·W u/√fan_in + b_std·b with standard normal W and b. Mean-field: as ntk,
    the readout divided by a further √fan_in.

    Args:
        in_size: Number of inputs, the fan-in.
        out_size: Number of outputs.
        parameterization: `"standard"`, `"ntk"` or `"mean_field"`.
        w_std: Scale of the weights; positive.
        b_std: Scale of the bias. Under `ntk` and `mean_field` it also scales the
            gradient: at 0 the bias has no effect at all.
        use_bias: Whether there is a bias.
        readout: Whether this is the last layer, the one `mean_field` treats apart.
        key: Random key.
        dtype: Dtype of the parameters; `None` for JAX's default float.

    Source: Lee et al. (2019), eq. 1.
    Verified by: tests/models/test_dense.py::test_ntk_layer_matches_the_loop,
        tests/models/test_dense.py::test_initial_weights_have_the_stated_variance
    """

    weight: Float[Array, "out_size in_size"]
    bias: Float[Array, " out_size"] | None
    in_size: int = eqx.field(static=True)
    out_size: int = eqx.field(static=True)
    parameterization: Parameterization = eqx.field(static=True)
    w_std: float = eqx.field(static=True)
    b_std: float = eqx.field(static=True)
    readout: bool = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        out_size: int,
        parameterization: Parameterization = "ntk",
        w_std: float | int = 1.0,
        b_std: float | int = 0.1,
        use_bias: bool = True,
        readout: bool = False,
        *,
        key: PRNGKeyArray,
        dtype: DTypeLike | None = None,
    ):
        check_size("Dense", "in_size", in_size)
        check_size("Dense", "out_size", out_size)
        self.in_size = in_size
        self.out_size = out_size
        self.parameterization = parameterization
        self.w_std = check_positive("Dense", "w_std", w_std)
        self.b_std = check_nonnegative("Dense", "b_std", b_std)
        self.readout = readout
        self.weight, self.bias = draw_layer(
            key,
            self._scales,
            shape=(out_size, in_size),
            use_bias=use_bias,
            dtype=resolve_dtype(dtype),
        )

    @property
    def _scales(self) -> Scales:
        return layer_scales(
            self.parameterization,
            self.in_size,
            self.w_std,
            self.b_std,
            readout=self.readout,
        )

    @property
    def time_scale(self) -> float:
        """The fan-in for a mean-field readout, else 1."""
        mean_field = self.readout and self.parameterization == "mean_field"
        return float(self.in_size) if mean_field else 1.0

    def __call__(self, u: Shaped[Array, "..."]) -> Float[Array, " {self.out_size}"]:
        """Apply the layer to one example.

        Args:
            u: Input of shape `[in_size]`.

        Returns:
            The preactivations h.
        """
        check_example("Dense", u, (self.in_size,))
        scales = self._scales
        # The product is scaled, not the weights: the kernel finds the layer by the
        # product of a trained leaf with the layer's input.
        h = scales.w_scale * (self.weight @ u)
        return h if self.bias is None else h + scales.b_scale * self.bias
