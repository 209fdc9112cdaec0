"""What a flow is: a right-hand side, its initial state, and its outputs.

A flow owns one entry of the coupled state, under its name. Its vector field sees the
whole state through a `Context`, which holds what flows share: the linearization at each
parameter flow's θ(t), the linearization at θ₀, and the constants prepared once a run.
"""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
from equinox import AbstractClassVar, AbstractVar
from jaxtyping import Array, Inexact

from .._types import Number, Params, Scalar
from ..problem import Problem
from ._point import Point


class Context(NamedTuple):
    """What the flows of one coupled system share at one moment.

    Attributes:
        problem: The problem.
        points: The linearization at each parameter flow's θ(t), by flow name.
        origin: The linearization at θ₀.
        constants: What each flow prepared once, by flow name.
        decay_rate: The rate cλ at which decay pulls the parameters, in units of 1/time;
            zero without decay. One object, by which solvers tell that flows share it.
    """

    problem: Problem
    points: dict[str, Point]
    origin: Point
    constants: dict[str, Any]
    decay_rate: Number


class OutputState(NamedTuple):
    """Outputs as an ODE state.

    Attributes:
        train: Training outputs, [N, K].
        test: Test outputs, [Nt, K], or None without a test set.
    """

    train: Inexact[Array, "N K"]
    test: Inexact[Array, "Nt K"] | None


class Feedback(NamedTuple):
    """A flow as a loop through the outputs: ẏ = −c drive(∇_f ℓ(f)) + slow terms.

    Its stiff part is linear in the outputs' curvature B = ∂²ℓ/∂f²: a change v of the
    state changes ẏ by −c drive(B read(v)) − shift v, and read(drive(g)) = Θg with the
    kernel of `point`. Solvers that work in function space need no more of a flow.

    With inertia the state is a position and a velocity, in this order and of equal
    shapes. Outputs are read off positions and drive velocities, of which the rest of
    the change, without outputs, is (v, −shift q − damping v) for one of (q, v); and it
    is the position of drive(g) as a velocity that read takes to Θg.

    Attributes:
        kernel: Name of the point whose kernel this is; flows of one name share it.
        point: The linearization the kernel belongs to.
        f: Outputs at which the loss is taken.
        read: Tangent of the flow's state to tangent of its training outputs.
        drive: Cotangent of the training outputs to tangent of the state.
        shift: Rate of the decay, in units of 1/time; with inertia of 1/time².
        damping: Rate at which velocities decay, in units of 1/time; None without
            inertia.
    """

    kernel: str
    point: Point
    f: Inexact[Array, "N K"]
    read: Callable[[Any], Inexact[Array, "N K"]]
    drive: Callable[[Inexact[Array, "N K"]], Any]
    shift: Number
    damping: Number | None = None


ORIGIN = "origin"
"""Name of the kernel at θ₀."""


RESERVED_NAMES = (ORIGIN, "events", "quadrature")
"""Names under which the coupled system keeps something else than a flow."""


class AbstractFlow(eqx.Module):
    """A right-hand side of the coupled system.

    Attributes:
        name: The flow's name: its entry in the state and in the results.
        along: The name of the parameter flow whose θ(t) it reads, or None.
        pushes: Whether it needs Jv there, not only Jᵀg.
        reads_origin: Whether it needs the linearization at θ₀.
    """

    name: AbstractVar[str]
    along: AbstractVar[str | None]
    pushes: AbstractClassVar[bool]
    reads_origin: AbstractVar[bool]

    @abc.abstractmethod
    def prepare(self, problem: Problem) -> Any:
        """Arrays that stay constant over the whole run.

        Args:
            problem: The problem.

        Returns:
            A pytree of arrays, found again in `Context.constants`; or None.
        """

    @abc.abstractmethod
    def init(self, problem: Problem) -> Any:
        """The state at t = 0.

        Args:
            problem: The problem.

        Returns:
            A pytree of arrays.
        """

    @abc.abstractmethod
    def vector_field(self, state: dict[str, Any], context: Context) -> Any:
        """The time derivative of this flow's entry of the state.

        Args:
            state: The coupled state, by flow name.
            context: What the flows share.

        Returns:
            A pytree of the structure of `state[self.name]`.
        """

    @abc.abstractmethod
    def feedback(self, own: Any, context: Context) -> Feedback | None:
        """The loop through the outputs that makes the flow stiff.

        Args:
            own: This flow's entry of the state.
            context: What the flows share, with points that push.

        Returns:
            The loop; None for a flow that has none.
        """

    @abc.abstractmethod
    def outputs(self, own: Any, context: Context) -> OutputState | None:
        """The outputs of a saved state.

        Args:
            own: This flow's entry of a saved state.
            context: Origin and constants; its points are empty.

        Returns:
            Training and test outputs; None for a flow that has none.
        """


class AbstractParameterFlow(AbstractFlow):
    """A flow of the parameters of the network itself.

    Its energy falls at the rate of its dissipation, dE/dt = −D, which is the identity
    that the energy defect checks.
    """

    along: ClassVar[None] = None
    pushes: ClassVar[bool] = False
    reads_origin: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def oscillates(self) -> bool:
        """Whether it has inertia, so that its Jacobian's spectrum is complex."""

    @abc.abstractmethod
    def params(self, own: Any) -> Params:
        """θ in this flow's entry of the state.

        Args:
            own: This flow's entry of the state.

        Returns:
            The trained leaves.
        """

    @abc.abstractmethod
    def energy(self, own: Any, problem: Problem) -> Scalar:
        """E, in units of the loss.

        Args:
            own: This flow's entry of the state.
            problem: The problem.

        Returns:
            A scalar.
        """

    @abc.abstractmethod
    def dissipation(self, own: Any, problem: Problem, here: Point) -> Scalar:
        """D = −dE/dt.

        Args:
            own: This flow's entry of the state.
            problem: The problem.
            here: The linearization at its θ.

        Returns:
            A scalar, in units of loss per time.
        """

    def outputs(self, own: Any, context: Context) -> OutputState:
        """The network's outputs at a saved θ.

        Args:
            own: This flow's entry of a saved state.
            context: What the flows share.

        Returns:
            Training and test outputs.
        """
        problem, params = context.problem, self.params(own)
        x_test = problem.x_test
        test = None if x_test is None else problem.outputs(params, x_test)
        return OutputState(problem.outputs(params, problem.x), test)
