"""Work done by a run, counted the same way for every solver."""

from collections.abc import Sequence
from typing import Any

import diffrax as dfx

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
