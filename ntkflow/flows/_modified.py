"""The flow that descent follows to second order: backward error analysis."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu

from .._types import Params, Scalar
from ..problem import Problem
from ._base import AbstractParameterFlow, Context
from ._descent import Descent
from ._parameters import MovingParams, squared_norm
from ._point import Point


@final
class Modified(AbstractParameterFlow):
    """The modified equation of gradient descent or heavy ball, on the same time axis.

    Descent of step h differs from its limit by O(h) and from this flow by O(h²), so
    that `modified` minus `gradient` is the first-order prediction of the gap.

    Without momentum θ̇ = −c∇L̃ with L̃ = L + (ηc/4)‖∇L‖², the implicit regularization of
    Barrett & Dherin. With momentum, a = −γθ̇ − c∇L being the limit's acceleration and
    h = √η the step, θ̇ = v + (h/2) a and v̇ = a + (h/2)(γa + cHv), with H the Hessian.
    Either takes one product with the Hessian beside the gradient. Descent in batches is
    not covered.

    Attributes:
        descent: The descent, in full batches.
        name: Its name; another one where two of the kind run together.

    Source: Barrett & Dherin (2021), eq. 4; Hairer, Lubich & Wanner (2006), section IX.1
    (the heavy ball is their symplectic Euler method, here with friction).
    Verified by:
        tests/flows/test_modified.py::test_gap_has_slope_one_and_after_correction_two
    """

    descent: Descent
    name: str = eqx.field(static=True, kw_only=True, default="modified")

    def __check_init__(self):
        if self.descent.batches is not None:
            raise ValueError(
                "Modified takes a descent in full batches, such as "
                f"nf.flows.Descent(0.01), got {self.descent!r}."
            )

    @property
    def oscillates(self) -> bool:
        """Whether the descent has momentum."""
        return self.descent.oscillates

    def prepare(self, problem: Problem) -> None:
        """Nothing is constant along it.

        Args:
            problem: The problem.
        """

    def init(self, problem: Problem) -> MovingParams:
        """θ₀, with momentum at rest.

        Args:
            problem: The problem.

        Returns:
            Position, and velocity or None.
        """
        start = self.descent.init(problem)
        return MovingParams(start.params, start.velocity)

    def vector_field(self, state: dict[str, Any], context: Context) -> MovingParams:
        """The corrected right-hand side.

        Args:
            state: The coupled state.
            context: What the flows share.

        Returns:
            The time derivative.
        """
        here = context.points[self.name]
        return self._field(state[self.name], context.problem, here)

    def _field(self, own: MovingParams, problem: Problem, here: Point) -> MovingParams:
        c, half, g = problem.time_scale, self.descent.step / 2, here.gradient

        def times_hessian(v: Params) -> Params:
            return jax.jvp(problem.gradient, (own.params,), (v,))[1]

        if own.velocity is None:
            change = jtu.tree_map(
                lambda g, hg: -c * (g + half * c * hg), g, times_hessian(g)
            )
            return MovingParams(change, None)
        gamma = (1 - self.descent.momentum) / self.descent.step
        v = own.velocity
        a = jtu.tree_map(lambda v, g: -gamma * v - c * g, v, g)
        change = jtu.tree_map(lambda v, a: v + half * a, v, a)
        force = jtu.tree_map(
            lambda a, hv: a + half * (gamma * a + c * hv), a, times_hessian(v)
        )
        return MovingParams(change, force)

    def feedback(self, own: MovingParams, context: Context) -> None:
        """None: the correction does not pass through the outputs alone.

        Args:
            own: Position and velocity.
            context: What the flows share.
        """

    def params(self, own: MovingParams) -> Params:
        """θ.

        Args:
            own: Position and velocity.

        Returns:
            The position.
        """
        return own.params

    def energy(self, own: MovingParams, problem: Problem) -> Scalar:
        """L̃(θ); with momentum L(θ) + ‖v‖²/2c.

        Args:
            own: Position and velocity.
            problem: The problem.

        Returns:
            A scalar.
        """
        c, loss = problem.time_scale, problem.objective(own.params)
        if own.velocity is None:
            gradient = problem.gradient(own.params)
            return loss + self.descent.learning_rate * c / 4 * squared_norm(gradient)
        return loss + squared_norm(own.velocity) / (2 * c)

    def dissipation(self, own: MovingParams, problem: Problem, here: Point) -> Scalar:
        """−dE/dt along the flow.

        Args:
            own: Position and velocity.
            problem: The problem.
            here: The linearization at θ.

        Returns:
            A scalar.
        """
        field = self._field(own, problem, here)
        rate = jax.jvp(lambda at: self.energy(at, problem), (own,), (field,))[1]
        return jnp.negative(rate)
