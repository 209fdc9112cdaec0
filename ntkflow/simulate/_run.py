"""One simulation under way: solves in turn, records, checkpoints, stop conditions."""

import time as clock
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from .._progress import Progress
from ..flows import OutputState, Packed
from ..problem import Problem
from ..storage import printed
from ._checkpoint import Checkpoint, stack_params, worst
from ._dataset import assemble, describe
from ._dense import DenseOutput
from ._events import AbstractEvent
from ._integrate import Integration, Segment
from ._lanes import take
from ._locate import locate
from ._pace import Pace
from ._plan import PlannedSolve
from ._reading import Reader, Record, Reference, compute_reference, read_record
from ._reason import Reason
from ._request import Request
from ._solve import Solve
from ._tally import Tally
from ._trajectory import Trajectory, final_attrs
from ._work import work

_CHECKPOINT_SECONDS = 1.0
"""A checkpoint costs milliseconds; more often than this it would show."""

_COMPILING = "compiling, once; about 20 s"


@dataclass
class _Stop:
    """Which stop condition ended the run, and when."""

    by: str = ""
    at: float | None = None


@dataclass
class _Lane:
    """What the host keeps of one lane of one solve.

    Attributes:
        problem: The lane's problem.
        reference: What its readings compare with.
        records: One record a save time passed.
        stored: Records that the checkpoint holds, of save times yet to pass too: a run
            that ended while it read a segment need not read those again.
        pending: The last of `records`, which the checkpoint does not hold yet.
    """

    problem: Problem
    reference: Reference
    records: list[Record] = field(default_factory=list)
    stored: list[Record] = field(default_factory=list)
    pending: list[Record] = field(default_factory=list)


class Run:
    """Carries a request out.

    Args:
        request: The request.
        checkpoint: The checkpoint directory, or None.
        line: Where progress is reported.
        resume: Whether to go on with what the directory holds.
    """

    def __init__(
        self,
        request: Request,
        checkpoint: str | Path | None,
        line: Progress,
        *,
        resume: bool,
    ):
        self._request = request
        self._line = line
        self._lanes = 1 if request.lanes.number is None else request.lanes.number
        self._stop = _Stop()
        self._tallies: list[tuple[PlannedSolve, Tally]] = []
        self._reads = 0
        self._t_reached = 0.0
        self._kept = len(request.times)
        self._began = self._written = clock.perf_counter()
        self._seconds_before = 0.0
        self._line.update(_COMPILING)
        self._dense = DenseOutput(request.problem) if request.dense else None
        self._solves = [self._open(planned) for planned in request.planned]
        once = self._once()
        names = [n for p in request.planned for n in _with_outputs(p)]
        self._description = describe(
            request.problem, names, request.measures, request.settings(),
            request.lanes.number,
        )  # fmt: skip
        self._description["solves"] = len(request.planned)
        self._once_arrays = once
        self._store: Checkpoint | None = None
        if checkpoint is not None:
            self._store = Checkpoint(checkpoint)
            self._store.begin(
                request.digest, self._description, request.times, once, resume=resume
            )

    def _open(self, planned: PlannedSolve) -> tuple[Reader, list[_Lane]]:
        """The reader of a solve, and its lanes with what they compare with."""
        request = self._request
        measured = planned.measured
        reader = Reader(
            planned.solve.coupled,
            request.measures if measured else (),
            request.costly if measured else (),
        )
        lanes = []
        for i in range(self._lanes):
            problem = request.lanes.lane(i)
            lanes.append(_Lane(problem, compute_reference(reader, problem)))
        return reader, lanes

    def _once(self) -> dict[str, np.ndarray]:
        problem = self._request.problem
        once = {"y_train": np.asarray(problem.y)}
        if problem.y_test is not None:
            once["y_test"] = np.asarray(problem.y_test)
        lanes = self._solves[-1][1]
        for name in lanes[0].reference.once:
            arrays = [np.asarray(lane.reference.once[name]) for lane in lanes]
            ensemble = self._request.lanes.number is not None
            once[name] = np.stack(arrays) if ensemble else arrays[0]
        return once

    def finish(self) -> Trajectory:
        """Integrates whatever is left to do.

        Returns:
            The trajectory.
        """
        for index in range(len(self._request.planned)):
            self._integrate(index)
        records = [
            [lanes[i].records for _, lanes in self._solves] for i in range(self._lanes)
        ]
        times = self._request.times[: self._kept]
        ensemble = self._request.lanes.number is not None
        reason = max(worst(tally.code) for _, tally in self._tallies)
        stats = self._stats()
        dataset = assemble(self._description, times, self._once_arrays, records)
        lanes = self._request.lanes
        return Trajectory(
            dataset.assign_attrs(final_attrs(reason, stats)),
            reason,
            stats,
            stack_params(records, self._kept, ensemble=ensemble),
            (lanes.params, lanes.static),
            self._dense,
        )

    def _integrate(self, index: int) -> None:
        """Integrates one solve over its save times."""
        request = self._request
        planned, lanes = request.planned[index], self._solves[index][1]
        self._line.update(_COMPILING)
        integration = Integration(
            planned.solve,
            request.lanes,
            request.times,
            choices=planned.choices,
            auto=request.auto(planned),
            segment_steps=request.segment_steps,
            max_steps=request.max_steps,
        )
        if self._dense is not None:
            self._dense.add_solve(planned.solve, integration.constants)
        previous = (0.0, integration.state.y)
        previous = self._restore(index, integration, lanes, previous)
        self._t_reached = float(np.min(np.asarray(integration.state.t)))
        tally = integration.tally
        self._tallies.append((planned, tally))
        self._kept = int(tally.saved.max())
        self._written = clock.perf_counter()
        readings, done = len(lanes) * len(request.times), int(tally.saved.sum())
        pace = Pace(float(request.times[-1]), readings, done)
        compiled = True
        for segment in integration.segments():
            self._t_reached = float(segment.times.min())
            pace.advance(self._t_reached, tally.seconds, compiled=compiled)
            compiled = segment.next_solver is not None
            previous = self._read(index, integration, segment, previous, pace)
            if self._dense is not None:
                self._dense.add_segment(self._t_reached, segment.interpolation)
            self._report(planned, integration, pace)
            if segment.next_solver is not None:
                self._line.update(f"{segment.next_solver} takes over, {_COMPILING}")
            if self._late() or not tally.running.any():
                self._write(index, integration, previous)

    def _restore(
        self, index: int, integration: Integration, lanes: list[_Lane], previous: Any
    ) -> tuple[float, Any]:
        """Puts a solve where its checkpoint left it."""
        if self._store is None:
            return previous
        for i, lane in enumerate(lanes):
            lane.stored = self._store.read_records(index, i)
        restored = self._store.read_state(index, integration.like)
        if restored is None:
            return previous
        integration.resume(restored.state, restored.tally)
        self._reads = restored.stats["kernel_builds"]
        self._seconds_before = restored.stats["seconds_total"]
        stopped = restored.stats
        self._stop = _Stop(stopped["stopped_by"], stopped["stopped_at"])
        for i, lane in enumerate(lanes):
            lane.records = lane.stored[: int(restored.tally.saved[i])]
        if restored.previous is None or not lanes[0].records:
            return previous
        return self._request.times[len(lanes[0].records) - 1], restored.previous

    def _read(
        self,
        index: int,
        integration: Integration,
        segment: Segment,
        previous: tuple[float, Any],
        pace: Pace,
    ) -> tuple[float, Any]:
        """Reads newly saved states; a costly condition may end the run here."""
        times = self._request.times
        reader, lanes = self._solves[index]
        for i, lane in enumerate(lanes):
            constants = _lane_constants(integration, i)
            for j, state in enumerate(segment.saved[i]):
                at = int(segment.first[i]) + j
                left = ", compiling first" if pace.compiles else pace.left()
                self._line.update(f"reading save time {at + 1} of {len(times)}{left}")
                stored, began = at < len(lane.stored), clock.perf_counter()
                record = lane.stored[at] if stored else read_record(
                    reader, lane.problem, constants, lane.reference, times[at], state,
                    self._linearized(i, at),
                )  # fmt: skip
                self._reads += bool(reader.needs & {"kernel", "velocity"})
                for e, event in enumerate(self._request.costly):
                    if reader.events and record[f"event/{e}"] <= 0:
                        stop = locate(
                            integration.solve,
                            lane.problem,
                            constants,
                            previous,
                            float(times[at]),
                            event,
                            lane.reference.events[e],
                            self._request.rtol,
                        )
                        self._end(integration.tally, event, stop, at)
                        return previous
                lane.records.append(record)
                if stored:
                    pace.skip()
                else:
                    lane.pending.append(record)
                    pace.read(clock.perf_counter() - began)
                previous = (float(times[at]), state)
                if self._late():
                    self._write_records(index)
        tally = integration.tally
        self._kept = int(tally.saved.max())
        if (tally.code == Reason.EVENT).any():
            event = integration.solve.events[int(tally.event[0])]
            self._stop = _Stop(printed(event), float(segment.times[0]))
        return previous

    def _end(self, tally: Tally, event: AbstractEvent, stop: float, saved: int) -> None:
        tally.code[:] = Reason.EVENT
        tally.saved[:] = saved
        self._kept = saved
        self._stop = _Stop(printed(event), stop)

    def _linearized(self, lane: int, at: int) -> OutputState | None:
        """Outputs of a linearized flow that was solved before, at one save time."""
        for _, lanes in self._solves:
            records = lanes[lane].records
            if len(records) > at and "f_train/linearized" in records[at]:
                record = records[at]
                test = record.get("f_test/linearized")
                train = jnp.asarray(record["f_train/linearized"])
                return OutputState(train, None if test is None else jnp.asarray(test))
        return None

    def _late(self) -> bool:
        return clock.perf_counter() - self._written > _CHECKPOINT_SECONDS

    def _write_records(self, index: int) -> None:
        self._written = clock.perf_counter()
        if self._store is None:
            return
        for i, lane in enumerate(self._solves[index][1]):
            if lane.pending:
                first = len(lane.records) - len(lane.pending)
                self._store.write_records(index, i, first, lane.pending)
                lane.pending = []

    def _write(
        self, index: int, integration: Integration, previous: tuple[float, Any]
    ) -> None:
        self._write_records(index)
        if self._store is None:
            return
        self._store.write_state(
            index,
            integration.state,
            integration.tally,
            self._stats(),
            self._kept,
            previous[1] if self._request.costly else None,
        )

    def _stats(self) -> dict[str, Any]:
        stats = work(self._tallies, self._reads)
        return {
            **stats,
            "seconds_total": self._seconds_before + clock.perf_counter() - self._began,
            "t_reached": self._t_reached,
            "stopped_by": self._stop.by,
            "stopped_at": self._stop.at,
        }

    def _report(
        self, planned: PlannedSolve, integration: Integration, pace: Pace
    ) -> None:
        if not self._line.enabled:
            return
        loss = ""
        if planned.measured and self._request.lanes.number is None:
            now, first = _losses(
                planned.solve, self._request.problem, integration.state.y
            )
            loss = f" · loss {float(100 * now / first):.3g} % of its start"
        line = pace.line(integration.tally, loss, len(self._request.times))
        self._line.update(line)


def _with_outputs(planned: PlannedSolve) -> list[str]:
    return [name for name in planned.solve.coupled.names if name != "quadrature"]


def _lane_constants(integration: Integration, lane: int) -> Any:
    if integration.lanes.number is None:
        return integration.constants
    return take(integration.constants, lane)


@eqx.filter_jit
def _losses(solve: Solve, problem: Problem, y: Packed) -> tuple[Any, Any]:
    flow = solve.coupled.parameter_flows[0]
    params = flow.params(solve.coupled.unpack(y, problem)[flow.name])
    return problem.objective(params), problem.objective(problem.params)
