"""Work done by a run, counted the same way for every solver."""

from collections.abc import Sequence
from typing import Any

import diffrax as dfx

from ..flows import Quadrature
from ..solvers import EqualSteps, Work
from ._plan import PlannedSolve
from ._reason import Reason, Stepping, worst_reason
from ._tally import Tally


def work(
    solves: Sequence[tuple[PlannedSolve, Tally]], kernel_builds: int
) -> dict[str, Any]:
    """Statistics of a run so far.

    Args:
        solves: The solves begun, with their tallies.
        kernel_builds: Kernels formed for measures and stop conditions.

    Returns:
        JSON-able numbers by name, summed over lanes; of the growth of errors the
        largest, and when it was seen.
    """
    totals = dict.fromkeys(("steps", "rejected", "gradients", *Work._fields), 0)
    for planned, tally in solves:
        cost = tally.cost
        totals["steps"] += int(tally.steps.sum())
        totals["rejected"] += int(tally.rejected.sum())
        for name, count in cost.items():
            totals[name] += count
        moving = len(planned.solve.coupled.parameter_flows)
        totals["gradients"] += cost["evaluations"] * moving
    totals["kernel_builds"] += kernel_builds
    grown = [
        pair for _, t in solves for pair in zip(t.growth, t.growth_at, strict=True)
    ]
    growth, at = max(grown, default=(1.0, 0.0))
    return {
        **totals,
        "error_growth": float(growth),
        "error_growth_at": float(at),
        "seconds": float(sum(tally.seconds for _, tally in solves)),
        "solver": "; ".join(
            f"{', '.join(p.solve.coupled.names)}: {_solver(p, t)}" for p, t in solves
        ),
    }


def work_of_errors(solves: Sequence[tuple[PlannedSolve, Tally]]) -> dict[str, Any]:
    """What it has cost to know the error, and to repeat what was not accurate enough.

    Args:
        solves: Companions and runs that were given up, with their tallies.

    Returns:
        Gradients and seconds of integrating, JSON-able.
    """
    gradients = sum(
        tally.cost["evaluations"] * len(planned.solve.coupled.parameter_flows)
        for planned, tally in solves
    )
    seconds = float(sum(tally.seconds for _, tally in solves))
    return {"error_gradients": gradients, "error_seconds": seconds}


def failure(solves: Sequence[tuple[PlannedSolve, Tally]]) -> str:
    """Which flows failed, why, and what to do about it.

    Args:
        solves: The solves begun, with their tallies.

    Returns:
        One explanation for all solves that failed in the same way; empty if none did.
    """
    said: dict[str, list[str]] = {}
    for planned, tally in solves:
        reason = worst_reason(Reason(int(code)) for code in tally.code)
        if reason.failed:
            flows = planned.solve.coupled.flows
            own = [flow.name for flow in flows if not isinstance(flow, Quadrature)]
            said.setdefault(reason.explain(_stepping(planned)), []).extend(own)
    return " ".join(f"{', '.join(flows)}: {text}" for text, flows in said.items())


def _stepping(planned: PlannedSolve) -> Stepping:
    controller = planned.solve.controller
    if isinstance(controller, EqualSteps):
        return Stepping.UPDATES
    fixed = isinstance(controller, dfx.ConstantStepSize)
    return Stepping.FIXED if fixed else Stepping.ADAPTIVE


def _solver(planned: PlannedSolve, tally: Tally) -> str:
    if tally.log is None or not tally.steps.any():
        return planned.solver
    return tally.log.sentence(int(tally.steps.max()))
