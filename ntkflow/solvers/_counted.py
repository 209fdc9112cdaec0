"""Solvers that count the work of every attempt, whether the step is kept or not."""

import abc
from typing import Any, NamedTuple

import diffrax as dfx
import jax.numpy as jnp

from .._types import BoolScalar, IntScalar, Scalar


class Work(NamedTuple):
    """What an attempted step or a start cost, in units that compare between solvers.

    Attributes:
        evaluations: Evaluations of the vector field: a gradient each for every flow of
            parameters.
        hvps: Products of the vector field's Jacobian with a vector.
        jacobians: Products Jv or Jᵀg at a frozen θ.
        kernel_builds: Kernels formed.
        factorizations: Decompositions of an N·K by N·K matrix.
        refused: Attempts given up at once, for want of stages.
    """

    evaluations: IntScalar
    hvps: IntScalar
    jacobians: IntScalar
    kernel_builds: IntScalar
    factorizations: IntScalar
    refused: IntScalar


def work(
    evaluations: Any = 0,
    hvps: Any = 0,
    jacobians: Any = 0,
    kernel_builds: Any = 0,
    factorizations: Any = 0,
    refused: Any = 0,
) -> Work:
    """Counts of work as arrays.

    Args:
        evaluations: See `Work`.
        hvps: See `Work`.
        jacobians: See `Work`.
        kernel_builds: See `Work`.
        factorizations: See `Work`.
        refused: See `Work`.

    Returns:
        The counts.
    """
    counts = (evaluations, hvps, jacobians, kernel_builds, factorizations, refused)
    return Work(*(jnp.asarray(count, jnp.int32) for count in counts))


class Attempt(NamedTuple):
    """An attempted step.

    Attributes:
        y1: The state at its end.
        y_error: Estimate of the local error.
        dense_info: What the solver's interpolation is made of.
        state: The solver's state, if the step is kept.
        result: diffrax's verdict.
        work: What it cost.
    """

    y1: Any
    y_error: Any
    dense_info: dict[str, Any]
    state: Any
    result: dfx.RESULTS
    work: Work


class AbstractCountedSolver(dfx.AbstractAdaptiveSolver):
    """A diffrax solver whose steps say what they cost.

    diffrax rolls a solver's state back when it rejects a step, and with it any count
    kept there. `attempt` hands the count out instead; `step` is the same step as
    diffrax knows it.
    """

    @abc.abstractmethod
    def attempt(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: Any,
        args: Any,
        solver_state: Any,
        made_jump: Any,
    ) -> Attempt:
        """One step, with its cost.

        Args:
            terms: The vector field.
            t0: Start of the step.
            t1: End of the step.
            y0: The state at its start.
            args: Arguments of the vector field.
            solver_state: The solver's state.
            made_jump: Whether the vector field jumped at t0.

        Returns:
            The attempt.
        """

    @abc.abstractmethod
    def begun(self, state: Any) -> Work:
        """What had to be done before the first step, in `init` or for want of it.

        Args:
            state: The solver's state, from `init`.

        Returns:
            The cost, in no attempt's.
        """

    @abc.abstractmethod
    def code(self, state: Any) -> IntScalar:
        """What went wrong, if diffrax found the solve to have failed.

        Args:
            state: The solver's state.

        Returns:
            A `Code`.
        """

    @abc.abstractmethod
    def radius(self, state: Any) -> Scalar:
        """What the solver knows of the stiffness.

        Args:
            state: The solver's state.

        Returns:
            The spectral radius of the Jacobian as last measured, in units of 1/time;
            NaN from a solver that does not measure it.
        """

    def step(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: Any,
        args: Any,
        solver_state: Any,
        made_jump: Any,
    ) -> tuple[Any, Any, dict[str, Any], Any, dfx.RESULTS]:
        """One step.

        Args:
            terms: The vector field.
            t0: Start of the step.
            t1: End of the step.
            y0: The state at its start.
            args: Arguments of the vector field.
            solver_state: The solver's state.
            made_jump: Whether the vector field jumped at t0.

        Returns:
            As `diffrax.AbstractSolver.step`.
        """
        return self.attempt(terms, t0, t1, y0, args, solver_state, made_jump)[:-1]

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        """The vector field.

        Args:
            terms: The vector field.
            t0: Time.
            y0: State.
            args: Its arguments.

        Returns:
            The time derivative.
        """
        return terms.vf(t0, y0, args)


def was_cut(h: Scalar, last: Scalar) -> BoolScalar:
    """Whether the controller has made a step shorter than the last accepted one.

    diffrax rolls a solver's state back when it rejects a step, so this is the only sign
    of a rejection that reaches the next attempt. The last step of a run, which its end
    cuts short, looks the same.

    Args:
        h: Length of the step attempted.
        last: Length of the last step kept; zero before the first.

    Returns:
        A boolean scalar.
    """
    return h < _CUT * last


_CUT = 0.95
"""A step this much below the last was cut on purpose, not by rounding."""
