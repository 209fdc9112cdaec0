"""Work done by a run, counted the same way for every solver, and said in one line."""

import time as clock
from collections.abc import Sequence
from typing import Any

import diffrax as dfx
import numpy as np

from .._progress import duration
from ._integrate import Tally
from ._plan import PlannedSolve


def evaluations_per_step(solver: dfx.AbstractSolver) -> int:
    """Evaluations of the vector field an attempted step costs.

    Args:
        solver: A diffrax solver.

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


def work(
    solves: Sequence[tuple[PlannedSolve, Tally]], kernel_builds: int
) -> dict[str, Any]:
    """Statistics of a run so far.

    Args:
        solves: The solves begun, with their tallies.
        kernel_builds: Kernels formed for measures and stop conditions.

    Returns:
        JSON-able numbers by name, summed over lanes.
    """
    totals = dict.fromkeys(("steps", "rejected", "evaluations", "gradients"), 0)
    for planned, tally in solves:
        steps = int(tally.steps.sum())
        evaluations = steps * evaluations_per_step(planned.solve.solver)
        totals["steps"] += steps
        totals["rejected"] += int(tally.rejected.sum())
        totals["evaluations"] += evaluations
        moving = len(planned.solve.coupled.parameter_flows)
        totals["gradients"] += evaluations * moving
    return {
        **totals,
        "hvps": 0,
        "jacobians": 0,
        "kernel_builds": kernel_builds,
        "factorizations": 0,
        "seconds": float(sum(tally.seconds for _, tally in solves)),
        "solver": "; ".join(
            f"{', '.join(p.solve.coupled.names)}: {p.solver}" for p, _ in solves
        ),
    }


class Pace:
    """How far and how fast a solve goes, for the line of progress.

    Args:
        end: End of the run.
    """

    def __init__(self, end: float):
        self._end = end
        self._before = (0.0, clock.perf_counter())

    def line(self, names: str, t: float, tally: Tally, loss: str, saves: int) -> str:
        """The line at the end of a segment.

        Args:
            names: The flows of the solve.
            t: Training time reached.
            tally: The solve's tally.
            loss: The loss, in words; empty if unknown.
            saves: Number of save times.

        Returns:
            Time, loss, steps, save times, and the time left at the pace of the last
            segment.
        """
        now = clock.perf_counter()
        before, then = self._before
        self._before = (t, now)
        left = ""
        if before < t < self._end:
            seconds = (self._end - t) / (t - before) * (now - then)
            left = f" · at most {duration(seconds)} left"
        return (
            f"{names} · t = {t:.3g} of {self._end:.3g}{loss} · "
            f"{int(np.max(tally.steps))} steps ({int(np.max(tally.rejected))} rejected)"
            f" · {int(np.min(tally.saved))} of {saves} saved{left}"
        )
