"""The Neural ODE: a network whose depth is a differential equation."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from ._checks import check_size
from ._depth import Depth


@final
class NeuralODE(eqx.Module):
    """f(x) = R(z(t1)) with dz/dt = v(t, z; θ) and z(0) = E(x), on ONE example.

    The state has any shape; augmentation appends zeros along its first axis, so that
    an image gets further channels. All parameters of encoder, field and readout are
    trained; the derivative is that of the discrete solve, step sizes held.

    Attributes:
        field: The vector field v, any module called as `field(t, z)`; such as
            `MLPField`, `ConvField` or `BasisField`.
        encoder: E, any callable on one example; None for the example itself.
        readout: R, any callable on a state; None for the state itself.
        augment: How many zeros, or channels of zeros, are appended to E(x).
        depth: The solve: t1, solver, tolerances or controller, adjoint, max_steps.

    Raises:
        ValueError: If `augment` is no whole number, or a state without axes is to be
            augmented; when called, if the field's output is not of the state's shape,
            or the state is not real.

    Source: Chen, Rubanova, Bettencourt and Duvenaud (2018), section 2; Dupont, Doucet
        and Teh (2019), section 5 (augmentation).
    Verified by: tests/models/test_neural_ode.py::test_neural_ode_is_its_parts_in_order,
        tests/models/test_depth_oracles.py::test_kernel_is_the_closed_form
    """

    field: Callable[..., Any]
    encoder: Callable[..., Any] | None = None
    readout: Callable[..., Any] | None = None
    augment: int = eqx.field(static=True, default=0)
    depth: Depth = eqx.field(default_factory=Depth)

    def __check_init__(self):
        check_size("NeuralODE", "augment", self.augment, minimum=0)

    def encode(self, x: Shaped[Array, "..."]) -> Float[Array, "..."]:
        """The state at the beginning of depth.

        Args:
            x: One example.

        Returns:
            z(0), augmented.

        Raises:
            ValueError: If there is no real floating state, or none to be augmented.
        """
        z = x if self.encoder is None else self.encoder(x)
        if not jnp.issubdtype(z.dtype, jnp.floating):
            raise ValueError(
                f"NeuralODE: the state must be real, got {z.dtype} of shape "
                f"{list(z.shape)}. Cast the examples, or give an `encoder`."
            )
        if not self.augment:
            return z
        if z.ndim == 0:
            raise ValueError(
                f"NeuralODE: augment={self.augment} appends along the state's first "
                "axis, and this state has none. Let the encoder return shape [1]."
            )
        zeros = jnp.zeros((self.augment, *z.shape[1:]), z.dtype)
        return jnp.concatenate([z, zeros])

    def decode(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        """The outputs of a state.

        Args:
            z: A state.

        Returns:
            R(z).
        """
        return z if self.readout is None else self.readout(z)

    def __call__(self, x: Shaped[Array, "..."]) -> Float[Array, "..."]:
        """Evaluate the network on one example.

        Args:
            x: One example, whatever the encoder takes.

        Returns:
            The outputs f(x).
        """
        return self.decode(self.depth(self.field, self.encode(x)))

    def states(
        self, x: Shaped[Array, "..."], ts: Float[Array | np.ndarray, " T"]
    ) -> Float[Array, "T ..."]:
        """The states of one example along depth, none of them interpolated.

        Args:
            x: One example.
            ts: Increasing depths in (0, t1].

        Returns:
            z at every depth.
        """
        return self.depth.along(self.field, self.encode(x), ts)
