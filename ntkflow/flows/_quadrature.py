"""The dissipated energy as a state of its own."""

from typing import Any, ClassVar, final

import jax.numpy as jnp

from .._types import Scalar
from ..problem import Problem
from ._base import AbstractFlow, AbstractParameterFlow, Context


@final
class Quadrature(AbstractFlow):
    """q = ∫D dt, integrated beside the flow that dissipates the energy.

    Being a state of the same solve it is held to the same tolerance, so that
    E(t) − E(0) + q measures the solver, not a quadrature rule over the save times.

    Attributes:
        flow: The parameter flow it watches.

    Verified by:
        tests/simulate/test_simulate.py::test_energy_identity_holds_along_gradient_flow
    """

    flow: AbstractParameterFlow
    name: ClassVar[str] = "quadrature"
    pushes: ClassVar[bool] = False
    reads_origin: ClassVar[bool] = False

    @property
    def along(self) -> str:
        """The watched flow's name."""
        return self.flow.name

    def prepare(self, problem: Problem) -> None:
        """Nothing is constant along it.

        Args:
            problem: The problem.
        """

    def init(self, problem: Problem) -> Scalar:
        """Zero.

        Args:
            problem: The problem.

        Returns:
            A scalar of the parameters' dtype.
        """
        return jnp.zeros((), problem.dtype)

    def vector_field(self, state: dict[str, Any], context: Context) -> Scalar:
        """The watched flow's dissipation.

        Args:
            state: The coupled state.
            context: What the flows share.

        Returns:
            A scalar, in units of loss per time.
        """
        here = context.points[self.along]
        return self.flow.dissipation(state[self.along], context.problem, here)

    def feedback(self, own: Any, context: Context) -> None:
        """None: nothing depends on q.

        Args:
            own: q.
            context: What the flows share.
        """

    def outputs(self, own: Any, context: Context) -> None:
        """It has none.

        Args:
            own: q.
            context: What the flows share.
        """
