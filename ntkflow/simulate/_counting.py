"""The work of every attempted step, carried from the solver past diffrax.

diffrax rolls the solver's state back when a step is rejected, so a count kept there
would forget rejected work. The controller's state is not rolled back: `Counting` hands
it each attempt's work beside the error estimate. It knows the save times as well, and
where one lies inside a step of an explicit method, the error there counts.
"""

from typing import Any, NamedTuple, cast, final

import diffrax as dfx
import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float

from ..solvers import (
    AbstractCountedSolver,
    Attempt,
    Explicit,
    Work,
    add_unsigned,
    estimate_inside,
    work,
)

_INSIDE = 0.5
"""What an error inside of a step counts against one at its end, which is carried on:
of three tolerances that outputs may be wrong, two are left to it."""


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
    """A solver whose error estimates carry their cost, and what its save times show.

    Explicit Runge–Kutta methods interpolate with a lower order than they step. Where a
    save time lies inside a step its error there is estimated too, with two evaluations.
    The other methods interpolate as well as they step.

    Attributes:
        solver: A counted solver or an explicit Runge–Kutta method.
        times: Save times.
        everywhere: Whether the inside of every step is kept.

    Verified by:
        tests/simulate/test_inside.py::test_save_times_inside_steps_hold_the_tolerance
    """

    solver: dfx.AbstractAdaptiveSolver
    times: Float[Array, " W"]
    everywhere: bool = eqx.field(static=True)

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
        tried = self._attempt(terms, t0, t1, y0, args, solver_state, made_jump)
        error, done = tried.y_error, tried.work
        if isinstance(self.solver, Explicit | dfx.AbstractERK):
            step, info = (terms, t0, t1, args), tried.dense_info
            read = None if self.everywhere else self.times
            inside, more = estimate_inside(self.solver, step, y0, info, read)
            half = jtu.tree_map(lambda leaf: _INSIDE * leaf, inside)
            error = add_unsigned(error, half)
            done = done._replace(evaluations=done.evaluations + more)
        # diffrax looks for NaN in all of an estimate, which integers do not have.
        counts = (count.astype(jnp.float32) for count in done)
        return (
            tried.y1,
            Counted(error, Work(*counts)),
            tried.dense_info,
            tried.state,
            tried.result,
        )

    def _attempt(self, terms, t0, t1, y0, args, solver_state, made_jump) -> Attempt:
        inputs = terms, t0, t1, y0, args, solver_state, made_jump
        if isinstance(self.solver, AbstractCountedSolver):
            return self.solver.attempt(*inputs)
        return Attempt(
            *self.solver.step(*inputs), work(evaluations_per_step(self.solver))
        )

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


def counting(
    solver: dfx.AbstractSolver, times: Float[Array, " W"], everywhere: bool
) -> dfx.AbstractSolver:
    """A solver with its work counted and its save times watched, where that can be.

    Args:
        solver: A diffrax solver.
        times: Save times.
        everywhere: Whether the inside of every step is kept.

    Returns:
        A `Counting`; other solvers than those it takes as they are.
    """
    if isinstance(solver, dfx.AbstractERK):
        # What diffrax does with a method that it sees, for it is not differentiated.
        none = {"is_leaf": lambda leaf: leaf is None}
        method = eqx.tree_at(lambda s: s.scan_kind, solver, "lax", **none)
        return Counting(cast(dfx.AbstractAdaptiveSolver, method), times, everywhere)
    if isinstance(solver, AbstractCountedSolver):
        return Counting(solver, times, everywhere)
    return solver


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
