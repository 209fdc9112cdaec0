"""Dense output: the state at any time, from the solver's own interpolation."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .._precision import at_full_precision
from ..flows import OutputState
from ._lanes import Lanes, take
from ._solve import Solve


class DenseOutput:
    """Interpolations of all segments of all solves; grows with the run's length.

    Args:
        lanes: The models.
    """

    def __init__(self, lanes: Lanes):
        self._lanes = lanes
        self._solves: list[tuple[Solve, Any, float, list[tuple[np.ndarray, Any]]]] = []

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

    def add_segment(self, ends: np.ndarray, interpolation: Any) -> None:
        """Adds a segment of the last solve.

        Args:
            ends: Time at its end, lane by lane.
            interpolation: diffrax's dense interpolation over it.
        """
        self._solves[-1][3].append((ends, interpolation))

    def evaluate(self, t: float | int) -> dict[str, OutputState]:
        """The outputs of every flow at one time.

        Args:
            t: Training time.

        Returns:
            Outputs by flow name; of an ensemble stacked on a leading axis, NaN for the
            members that ended before.

        Raises:
            ValueError: If `t` is outside the run.
        """
        found: dict[str, OutputState] = {}
        for index, (_, _, start, segments) in enumerate(self._solves):
            last = float(segments[-1][0].max()) if segments else start
            if not segments or not start <= t <= last:
                resumed = ", where it was resumed," if start > 0 else ""
                raise ValueError(
                    f"t = {t:g} is outside the run, {start:g}{resumed} … {last:g}."
                )
            if self._lanes.number is None:
                found |= self._of_member(index, 0, t)
                continue
            members = [self._of_member(index, i, t) for i in range(self._lanes.number)]
            found |= jtu.tree_map(lambda *leaves: jnp.stack(leaves), *members)
        return found

    @at_full_precision
    def _of_member(self, index: int, i: int, t: float | int) -> dict[str, OutputState]:
        """The outputs of one member in one solve; NaN beyond its end."""
        solve, constants, _, segments = self._solves[index]
        ends, interpolation = next(
            (part for part in segments if t <= part[0][i]), segments[-1]
        )
        if self._lanes.number is not None:
            constants, interpolation = take(constants, i), take(interpolation, i)
        problem = self._lanes.lane(i)
        packed = _evaluate(interpolation, jnp.asarray(t, problem.dtype))
        coupled = self._lanes.member_of(solve.coupled, i)
        outputs = coupled.outputs(coupled.unpack(packed, problem), problem, constants)
        if t <= ends[i]:
            return outputs
        return jtu.tree_map(lambda leaf: jnp.full_like(leaf, jnp.nan), outputs)


@eqx.filter_jit
@at_full_precision
def _evaluate(interpolation: Any, t: Any) -> Any:
    return interpolation.evaluate(t)
