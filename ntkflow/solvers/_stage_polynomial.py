"""What a step made of stages is inside: a polynomial with arrays for coefficients."""

from typing import Any, final

import diffrax as dfx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PyTree


@final
class StagePolynomial(dfx.AbstractLocalInterpolation):
    """The state inside a step, a polynomial of the time since its start.

    Attributes:
        t0: Start of the step.
        t1: Its end.
        y0: State at the start.
        powers: Coefficients of θ, θ², …, with θ = (t − t₀)/(t₁ − t₀).
    """

    t0: Any
    t1: Any
    y0: PyTree[Array]
    powers: tuple[PyTree[Array], ...]

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True) -> PyTree[Array]:
        """The state, or its change between two times.

        Args:
            t0: Time.
            t1: A second time, or None.
            left: Of no effect: the polynomial is continuous.

        Returns:
            The state at t0, or that at t1 minus that at t0.
        """
        if t1 is not None:
            return jtu.tree_map(
                jnp.subtract, self.evaluate(t1, left=left), self.evaluate(t0, left=left)
            )
        length = self.t1 - self.t0
        theta = (t0 - self.t0) / jnp.where(length == 0, jnp.ones_like(length), length)

        def horner(y0: Array, *powers: Array) -> Array:
            x = theta.astype(y0.dtype)
            total = jnp.zeros_like(y0)
            for power in reversed(powers):
                total = x * (power + total)
            return y0 + total

        return jtu.tree_map(horner, self.y0, *self.powers)
