"""What a simulation was asked for: checked, completed, and told apart from others."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import numpy as np

from ..flows import AbstractFlow
from ..measures import AbstractMeasure
from ..problem import Problem, SquaredError
from ..solvers import FlowTerm
from ..storage import fingerprint, printed, program
from ._auto import Auto
from ._events import AbstractEvent
from ._frame import digest_of
from ._lanes import Lanes
from ._plan import PlannedSolve
from ._solve import Solve
from ._tally import Tally
from ._work import work


@dataclass(frozen=True)
class Request:
    """What a simulation was asked for, checked and completed.

    Attributes:
        problem: The problem.
        lanes: The model or models.
        times: Save times.
        flows: All flows, in the order in which results list them.
        planned: The solves, the measured one last.
        measures: The measures.
        costly: Costly stop conditions.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        segment_steps: Steps a segment may attempt.
        max_steps: Steps a solve may attempt.
        dense: Whether to keep dense output.
        global_error: Whether the global error is estimated.
    """

    problem: Problem
    lanes: Lanes
    times: np.ndarray
    flows: tuple[AbstractFlow, ...]
    planned: list[PlannedSolve]
    measures: tuple[AbstractMeasure, ...]
    costly: tuple[AbstractEvent, ...]
    rtol: float
    atol: float
    segment_steps: int
    max_steps: int
    dense: bool
    global_error: bool

    @property
    def stops(self) -> bool:
        """Whether there are stop conditions."""
        return bool(self.costly) or any(one.solve.events for one in self.planned)

    def auto(self, planned: PlannedSolve, factor: float) -> Auto | None:
        """How a solve chooses its solver.

        Args:
            planned: The solve.
            factor: Its tolerance over that of the run.

        Returns:
            The rule; None where there is nothing to choose.
        """
        if not planned.choices:
            return None
        return Auto(
            tuple(planned.choices),
            float(self.times[-1]),
            factor * self.rtol,
            isinstance(self.problem.loss, SquaredError),
        )

    @property
    def digest(self) -> str:
        """The fingerprint of everything that determines the numbers, save times apart.

        A checkpoint compares these by themselves, since later ones may be added.
        """
        solves = [(planned.solve, planned.choices) for planned in self.planned]
        settings = (self.rtol, self.atol, self.dense, self.global_error)
        parts = (self.problem, self.lanes, solves, self.measures, self.costly)
        return fingerprint(*parts, settings, self._program())

    def _program(self) -> str:
        """What the flows, the readings and the stop conditions compute."""
        problem = self.lanes.lane(0)
        arrays, rest = eqx.partition(problem, eqx.is_array)

        def computed(arrays: Any) -> Any:
            problem = eqx.combine(arrays, rest)
            params = problem.params
            solves = [self.lanes.member_of(one.solve, 0) for one in self.planned]
            rates = [_rates(solve, problem) for solve in solves]
            events = [one for p in self.planned for one in p.solve.events]
            read = [e.value(problem, params, e.reference(problem)) for e in events]
            inputs = (problem.x, problem.x_test)
            outputs = [problem.outputs(params, x) for x in inputs if x is not None]
            return rates, read, outputs, problem.objective(params)

        return program(computed, arrays)

    def settings(self) -> dict[str, Any]:
        """The settings, as they stand in the dataset's attributes."""
        problem, planned = self.problem, self.planned
        measured = [
            p.solve.coupled.parameter_flows[0].name for p in planned if p.measured
        ]
        decay = problem.decay
        members = range(self.lanes.number or 1)
        scales = [float(self.lanes.lane(i).time_scale) for i in members]
        return {
            "time_scale": scales[0] if len(set(scales)) == 1 else scales,
            "reduction": problem.reduction,
            "loss": printed(problem.loss),
            "decay": "none" if decay is None else printed(decay),
            "model": printed(problem.model),
            "model_digest": digest_of(self.lanes.params, self.lanes.static),
            "dtype": str(problem.dtype),
            "rtol": self.rtol,
            "atol": self.atol,
            "solver": work([(p, Tally.zeros(1)) for p in planned], 0)["solver"],
            "controller": printed(planned[-1].solve.controller),
            "measured_on": measured[0] if measured else "none",
            "measures": ", ".join(map(_called, self.measures)),
        }


def _rates(solve: Solve, problem: Problem) -> Any:
    y = solve.coupled.pack(solve.coupled.init(problem))
    return FlowTerm(solve.coupled, problem).vf(0.0, y, None)


def _called(measure: AbstractMeasure) -> str:
    name = type(measure).__name__
    trace = getattr(measure, "outputs", "full") == "trace"
    return f'{name}("trace")' if trace else name
