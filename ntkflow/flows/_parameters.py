"""Flows of the parameters: gradient flow and the heavy ball."""

from typing import Any, NamedTuple, final

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .._tracing import is_traced
from .._types import Number, Numbers, Params, Scalar
from ..problem import Problem
from ._base import AbstractParameterFlow, Context, Feedback
from ._point import Point


def squared_norm(tree: Params) -> Scalar:
    """‖θ‖² over all leaves.

    Args:
        tree: A pytree of arrays.

    Returns:
        A scalar.
    """
    return jnp.asarray(sum(jnp.sum(leaf**2) for leaf in jtu.tree_leaves(tree)))


def as_number(value: Any) -> Number | Numbers:
    """A setting of a flow: a Python number, or one a member of an ensemble.

    Args:
        value: A number, or several of them.

    Returns:
        A number, or an array of one axis.

    Raises:
        ValueError: If it has more axes.
    """
    if is_traced(value):
        return value
    found = np.asarray(value, dtype=float)
    if found.ndim > 1:
        raise ValueError(
            "A learning rate, momentum or damping is one number, or one a member of an "
            f"ensemble; got an array of shape {found.shape}."
        )
    return float(found) if found.ndim == 0 else jnp.asarray(found)


def decay_rate(problem: Problem) -> Number:
    """The rate cλ at which decay pulls the parameters.

    Args:
        problem: The problem.

    Returns:
        A number in units of 1/time; zero without decay.
    """
    return 0 if problem.decay is None else problem.time_scale * problem.decay.strength


@final
class Gradient(AbstractParameterFlow):
    """Gradient flow of the network's parameters, θ̇ = −c∇L(θ).

    Attributes:
        name: Its name; another one where two of the kind run together.

    Source: Jacot, Gabriel & Hongler (2018), section 4.
    Verified by:
        tests/simulate/test_simulate.py::test_energy_identity_holds_along_gradient_flow
    """

    name: str = eqx.field(static=True, kw_only=True, default="gradient")

    @property
    def oscillates(self) -> bool:
        """No: it is a descent, and its Jacobian symmetric."""
        return False

    def prepare(self, problem: Problem) -> None:
        """Nothing is constant along it.

        Args:
            problem: The problem.
        """

    def init(self, problem: Problem) -> Params:
        """θ₀.

        Args:
            problem: The problem.

        Returns:
            The trained leaves of the model.
        """
        return problem.params

    def vector_field(self, state: dict[str, Any], context: Context) -> Params:
        """−c∇L(θ).

        Args:
            state: The coupled state.
            context: What the flows share.

        Returns:
            One array a trained leaf.
        """
        c = context.problem.time_scale
        return jtu.tree_map(lambda g: -c * g, context.points[self.name].gradient)

    def feedback(self, own: Params, context: Context) -> Feedback:
        """Read by J and driven by Jᵀ.

        Args:
            own: θ.
            context: What the flows share.

        Returns:
            The loop through the kernel at θ.
        """
        del own
        here = context.points[self.name]
        shift = context.decay_rate
        return Feedback(self.name, here, here.f, here.push_train, here.pull, shift)

    def params(self, own: Params) -> Params:
        """θ itself.

        Args:
            own: θ.

        Returns:
            θ.
        """
        return own

    def energy(self, own: Params, problem: Problem) -> Scalar:
        """L(θ).

        Args:
            own: θ.
            problem: The problem.

        Returns:
            A scalar.
        """
        return problem.objective(own)

    def dissipation(self, own: Params, problem: Problem, here: Point) -> Scalar:
        """c‖∇L‖².

        Args:
            own: θ.
            problem: The problem.
            here: The linearization at θ.

        Returns:
            A scalar.
        """
        return problem.time_scale * squared_norm(here.gradient)


class MovingParams(NamedTuple):
    """The state of the heavy ball.

    Attributes:
        params: θ.
        velocity: θ̇, or None for what has no inertia.
    """

    params: Params
    velocity: Params | None


@final
class Momentum(AbstractParameterFlow):
    """The heavy ball from rest, θ̈ + γθ̇ = −c∇L(θ).

    The limit of gradient descent with momentum β at step η, with γ = (1 − β)/√η and
    time t = k√η. Its energy is L + ‖θ̇‖²/2c and falls at γ‖θ̇‖²/c.

    Attributes:
        damping: γ > 0, in units of 1/time; or one a member of an ensemble.
        name: Its name; another one where two of the kind run together.

    Source: Polyak (1964), section 3; Qian (1999), eq. 7.
    Verified by:
        tests/flows/test_momentum.py::test_heavy_ball_of_a_linear_model_matches_damped_oscillators
    """

    damping: Number | Numbers = eqx.field(converter=as_number, default=1.0)
    name: str = eqx.field(static=True, kw_only=True, default="momentum")

    def __check_init__(self):
        if not (is_traced(self.damping) or np.all(np.asarray(self.damping) > 0)):
            raise ValueError(f"damping must be positive, got {self.damping}.")

    @property
    def oscillates(self) -> bool:
        """Yes, along whatever is stiffer than γ²/4."""
        return True

    def prepare(self, problem: Problem) -> None:
        """Nothing is constant along it.

        Args:
            problem: The problem.
        """

    def init(self, problem: Problem) -> MovingParams:
        """θ₀, at rest.

        Args:
            problem: The problem.

        Returns:
            Position and velocity.
        """
        return MovingParams(
            problem.params, jtu.tree_map(jnp.zeros_like, problem.params)
        )

    def vector_field(self, state: dict[str, Any], context: Context) -> MovingParams:
        """(θ̇, −γθ̇ − c∇L).

        Args:
            state: The coupled state.
            context: What the flows share.

        Returns:
            Velocity and acceleration.
        """
        velocity = state[self.name].velocity
        c = context.problem.time_scale
        force = jtu.tree_map(
            lambda v, g: -self.damping * v - c * g,
            velocity,
            context.points[self.name].gradient,
        )
        return MovingParams(velocity, force)

    def feedback(self, own: MovingParams, context: Context) -> Feedback:
        """Read off the position by J; Jᵀ drives the velocity.

        Args:
            own: Position and velocity.
            context: What the flows share.

        Returns:
            The loop through the kernel at θ, with inertia.
        """
        here, shift = context.points[self.name], context.decay_rate
        still = jtu.tree_map(jnp.zeros_like, own.params)
        return Feedback(
            self.name,
            here,
            here.f,
            lambda v: here.push_train(v.params),
            lambda g: MovingParams(still, here.pull(g)),
            shift,
            self.damping,
        )

    def params(self, own: MovingParams) -> Params:
        """θ.

        Args:
            own: Position and velocity.

        Returns:
            The position.
        """
        return own.params

    def energy(self, own: MovingParams, problem: Problem) -> Scalar:
        """L(θ) + ‖θ̇‖²/2c.

        Args:
            own: Position and velocity.
            problem: The problem.

        Returns:
            A scalar.
        """
        kinetic = squared_norm(own.velocity) / (2 * problem.time_scale)
        return problem.objective(own.params) + kinetic

    def dissipation(self, own: MovingParams, problem: Problem, here: Point) -> Scalar:
        """γ‖θ̇‖²/c.

        Args:
            own: Position and velocity.
            problem: The problem.
            here: The linearization at θ.

        Returns:
            A scalar.
        """
        return self.damping * squared_norm(own.velocity) / problem.time_scale
