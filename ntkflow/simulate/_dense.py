"""Dense output: the state at any time, from the solver's own interpolation."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp

from .._precision import at_full_precision
from ..flows import OutputState
from ..problem import Problem
from ._solve import Solve


class DenseOutput:
    """Interpolations of all segments of all solves; grows with the run's length.

    Args:
        problem: The problem.
    """

    def __init__(self, problem: Problem):
        self._problem = problem
        self._solves: list[tuple[Solve, Any, float, list[tuple[float, Any]]]] = []

    def add_solve(self, solve: Solve, constants: Any, start: float) -> None:
        """Begins the record of another solve.

        Args:
            solve: The solve.
            constants: From `Coupled.prepare`.
            start: Training time at which it goes on; no checkpoint keeps what was
                before.
        """
        self._solves.append((solve, constants, start, []))

    def drop_solve(self) -> None:
        """Forgets the last solve, which is integrated again at a tighter tolerance."""
        self._solves.pop()

    def add_segment(self, end: float, interpolation: Any) -> None:
        """Adds a segment of the last solve.

        Args:
            end: Time at its end.
            interpolation: diffrax's dense interpolation over it.
        """
        self._solves[-1][3].append((end, interpolation))

    @at_full_precision
    def evaluate(self, t: float | int) -> dict[str, OutputState]:
        """The outputs of every flow at one time.

        Args:
            t: Training time.

        Returns:
            Outputs by flow name.

        Raises:
            ValueError: If `t` is outside the run.
        """
        found: dict[str, OutputState] = {}
        for solve, constants, start, segments in self._solves:
            last = segments[-1][0] if segments else start
            if not segments or not start <= t <= last:
                resumed = ", where it was resumed," if start > 0 else ""
                raise ValueError(
                    f"t = {t:g} is outside the run, {start:g}{resumed} … {last:g}."
                )
            interpolation = next(part for end, part in segments if t <= end)
            packed = _evaluate(interpolation, jnp.asarray(t, self._problem.dtype))
            state = solve.coupled.unpack(packed, self._problem)
            found |= solve.coupled.outputs(state, self._problem, constants)
        return found


@eqx.filter_jit
@at_full_precision
def _evaluate(interpolation: Any, t: Any) -> Any:
    return interpolation.evaluate(t)
