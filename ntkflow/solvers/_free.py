"""How a flow moves when its outputs do not drive it: it decays, or oscillates."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import Scalar


class Free(NamedTuple):
    """The part N of a flow's stiff Jacobian A = N − UW, on all parameters alike.

    Without inertia it is N = −σ. With inertia, on a position and a velocity, it is
    N(q, v) = (v, −σq − dv); a packed state is first all of q and then all of v.

    Attributes:
        shift: σ, in units of 1/time; with inertia of 1/time².
        damping: d, in units of 1/time; None without inertia.
    """

    shift: float | int
    damping: float | int | None

    def determinant(self, tau: Scalar) -> Scalar:
        """That of I − τN, for one parameter.

        Args:
            tau: τ, in units of time.

        Returns:
            1 + τσ, or with inertia 1 + τd + τ²σ.
        """
        if self.damping is None:
            return 1 + self.shift * tau
        return 1 + self.damping * tau + self.shift * tau**2

    def adjugate(self, tau: Scalar, v: Float[Array, " n"]) -> Float[Array, " n"]:
        """(I − τN)⁻¹ v, times the determinant.

        Args:
            tau: τ, in units of time.
            v: A tangent of the packed state.

        Returns:
            A tangent.
        """
        if self.damping is None:
            return v
        position, velocity = jnp.split(v, 2)
        return jnp.concatenate([
            (1 + self.damping * tau) * position + tau * velocity,
            velocity - self.shift * tau * position,
        ])

    def delay(self, tau: Scalar) -> Scalar:
        """How far what drives the flow has moved what is read: W adj(I − τN) U / WU.

        Args:
            tau: τ, in units of time.

        Returns:
            One, or with inertia τ, where W reads U as if it drove positions.
        """
        return jnp.ones_like(tau) if self.damping is None else tau
