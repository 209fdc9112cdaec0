"""How a flow moves when its outputs do not drive it: it decays, or oscillates."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import Number, Scalar


class Free(NamedTuple):
    """The part N of a flow's stiff Jacobian A = N − UW, on all parameters alike.

    Without inertia it is N = −σ. With inertia, on a position and a velocity, it is
    N(q, v) = (v, −σq − dv); a packed state is first all of q and then all of v.

    Attributes:
        shift: σ, in units of 1/time; with inertia of 1/time².
        damping: d, in units of 1/time; None without inertia.
    """

    shift: Number
    damping: Number | None

    @property
    def components(self) -> int:
        """How many numbers a parameter has in the state: one, or two with inertia."""
        return 1 if self.damping is None else 2

    def times(self, v: Float[Array, "c n"]) -> Float[Array, "c n"]:
        """N v.

        Args:
            v: Components of parameters, or of modes.

        Returns:
            The same.
        """
        if self.damping is None:
            return -self.shift * v
        return jnp.stack([v[1], -self.shift * v[0] - self.damping * v[1]])

    def driven(self, v: Float[Array, "c n"]) -> Float[Array, "c n"]:
        """What a unit of λ takes from N v: the first component, as the last.

        Args:
            v: Components of parameters, or of modes.

        Returns:
            The same.
        """
        if self.damping is None:
            return v
        return jnp.stack([jnp.zeros_like(v[0]), v[0]])

    def spread(self, v: Float[Array, " n"]) -> list[Float[Array, " n"]]:
        """Every component in the place that outputs are read off.

        Args:
            v: A tangent of the packed state.

        Returns:
            One such tangent a component.
        """
        if self.damping is None:
            return [v]
        position, velocity = jnp.split(v, 2)
        still = jnp.zeros_like(position)
        return [jnp.concatenate([own, still]) for own in (position, velocity)]

    def joined(self, driven: list[Float[Array, " n"]]) -> Float[Array, " n"]:
        """Undoes `spread`, for components in the place that outputs drive.

        Args:
            driven: One tangent of the packed state a component.

        Returns:
            A tangent.
        """
        if self.damping is None:
            return driven[0]
        return jnp.concatenate([jnp.split(own, 2)[1] for own in driven])

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
