"""The work of every attempted step, carried from the solver past diffrax.

diffrax rolls the solver's state back when a step is rejected, so a count kept there
would forget rejected work. The controller's state is not rolled back: `Counting` hands
it each attempt's work beside the error estimate.
"""

from typing import Any, NamedTuple, final

import diffrax as dfx
import jax.numpy as jnp

from ..solvers import AbstractCountedSolver, Work, work


class Counted(NamedTuple):
    """An error estimate, and what the attempt cost.

    Attributes:
        error: The solver's own error estimate.
        work: The cost.
    """

    error: Any
    work: Work


@final
class Counting(dfx.AbstractAdaptiveSolver):
    """A counted solver whose error estimates carry their cost.

    Attributes:
        solver: The solver.
    """

    solver: AbstractCountedSolver

    @property
    def term_structure(self):
        """That of the solver."""
        return self.solver.term_structure

    @property
    def interpolation_cls(self):  # pyright: ignore[reportIncompatibleMethodOverride]
        """That of the solver."""
        return self.solver.interpolation_cls

    def order(self, terms):
        """That of the solver.

        Args:
            terms: The vector field.

        Returns:
            The order.
        """
        return self.solver.order(terms)

    def error_order(self, terms):
        """That of the solver.

        Args:
            terms: The vector field.

        Returns:
            The exponent of the step in the error estimate.
        """
        return self.solver.error_order(terms)

    def init(self, terms, t0, t1, y0, args):
        """The solver's state.

        Args:
            terms: The vector field.
            t0: Start.
            t1: End of the first step.
            y0: The state.
            args: Arguments of the vector field.

        Returns:
            The state.
        """
        return self.solver.init(terms, t0, t1, y0, args)

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        """The solver's step.

        Args:
            terms: The vector field.
            t0: Start of the step.
            t1: End of the step.
            y0: The state at its start.
            args: Arguments of the vector field.
            solver_state: The solver's state.
            made_jump: Whether the vector field jumped at t0.

        Returns:
            As `diffrax.AbstractSolver.step`, its error a `Counted`.
        """
        tried = self.solver.attempt(terms, t0, t1, y0, args, solver_state, made_jump)
        # diffrax looks for NaN in all of an estimate, which integers do not have.
        counts = (count.astype(jnp.float32) for count in tried.work)
        error = Counted(tried.y_error, Work(*counts))
        return tried.y1, error, tried.dense_info, tried.state, tried.result

    def func(self, terms, t0, y0, args):
        """The vector field.

        Args:
            terms: The vector field.
            t0: Time.
            y0: State.
            args: Its arguments.

        Returns:
            The time derivative.
        """
        return self.solver.func(terms, t0, y0, args)


def evaluations_per_step(solver: dfx.AbstractSolver) -> int:
    """Evaluations of the vector field an attempted step costs.

    Args:
        solver: A diffrax solver that does not count.

    Returns:
        The number of stages, less the one that a method with the first-same-as-last
        property takes over; one for solvers that are no Runge–Kutta methods. Iterations
        of implicit stages are not counted.
    """
    if isinstance(solver, dfx.AbstractRungeKutta):
        tableau = solver.tableau
        if isinstance(tableau, dfx.MultiButcherTableau):
            tableau = tableau.tableaus[0]
        return tableau.num_stages - (1 if tableau.fsal else 0)
    return 1


def split_error(y_error: Any, evaluations: int) -> tuple[Any, Work]:
    """Takes an error estimate and its cost apart.

    Args:
        y_error: What the solver returned.
        evaluations: What a solver that does not count costs.

    Returns:
        The error estimate and the cost.
    """
    if isinstance(y_error, Counted):
        counts = (count.astype(jnp.int32) for count in y_error.work)
        return y_error.error, Work(*counts)
    return y_error, work(evaluations)
