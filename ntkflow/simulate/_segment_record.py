"""What a callback is told at the end of every segment."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from .._precision import at_full_precision
from .._types import Scalar
from ..flows import Packed
from ..problem import Problem
from ..solvers import Work
from ._integrate import Integration
from ._lanes import take
from ._solve import Solve


class SegmentRecord(NamedTuple):
    """Where a solve stands after a segment; what `on_segment` of `simulate` is given.

    Of an ensemble all numbers but `seconds` are arrays, one entry a member. A solve
    that is repeated at a tighter tolerance begins again at t = 0. Where a stop
    condition has ended it, `t` and `loss` are those of the stop; of a condition that is
    read at the save times alone, those of the end of the segment that met it.

    Attributes:
        flows: Names of the flows that are solved together.
        t: Training time reached.
        steps: Steps attempted so far.
        rejected: Steps rejected so far.
        gradients: Gradients taken so far.
        seconds: Wall time spent integrating so far, without compiling.
        loss: The training loss of every flow of the parameters, by its name.
    """

    flows: tuple[str, ...]
    t: float | np.ndarray
    steps: int | np.ndarray
    rejected: int | np.ndarray
    gradients: int | np.ndarray
    seconds: float
    loss: dict[str, float | np.ndarray]


def record_segment(
    integration: Integration, problems: Sequence[Problem]
) -> SegmentRecord:
    """Tells where a solve stands.

    Args:
        integration: The solve.
        problems: The problem of every ensemble member.

    Returns:
        The record.
    """
    tally, state = integration.tally, integration.state
    flows = integration.solve.coupled.parameter_flows
    single = integration.lanes.number is None
    losses = [
        objectives(integration.solve, problem, state.y if single else take(state.y, i))
        for i, problem in enumerate(problems)
    ]
    loss = {f.name: [float(member[f.name]) for member in losses] for f in flows}
    evaluations = tally.work[:, Work._fields.index("evaluations")]

    def told(values: Any) -> Any:
        return np.asarray(values)[0].item() if single else np.array(values)

    return SegmentRecord(
        tuple(integration.solve.coupled.names),
        told(np.atleast_1d(np.asarray(state.t, np.float64))),
        told(tally.steps),
        told(tally.rejected),
        told(len(flows) * evaluations),
        tally.seconds,
        {name: told(values) for name, values in loss.items()},
    )


@eqx.filter_jit
@at_full_precision
def objectives(solve: Solve, problem: Problem, y: Packed) -> dict[str, Scalar]:
    """The training loss of every flow of the parameters.

    Args:
        solve: The solve.
        problem: The problem.
        y: The coupled state.

    Returns:
        Losses by flow name.
    """
    coupled = solve.coupled
    state = coupled.unpack(y, problem)
    return {
        flow.name: problem.objective(flow.params(state[flow.name]))
        for flow in coupled.parameter_flows
    }
