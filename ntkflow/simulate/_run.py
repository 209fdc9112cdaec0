"""One simulation under way: solves in turn, records, checkpoints, stop conditions."""
# Longer than 400 lines: integrating, reading and keeping a run on disk all change what
# is known of one member at one save time.

import time as clock
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .._progress import Progress
from ..flows import Linearized, OutputState, Quadrature, kind_of
from ._accuracy import at_level, companion_at, factor_at, is_estimated
from ._auto import Log
from ._checkpoint import FIRST_LEVEL, Checkpoint, Kept, stack_params
from ._compiling import CompileClock
from ._dataset import assemble, describe
from ._dense import DenseOutput
from ._extension import can_extend
from ._integrate import Integration, Segment
from ._judge import Excess, Judge
from ._member import (
    Lane,
    arrays_once,
    constants_of,
    linearized_at,
    memory_before,
)
from ._pace import Pace
from ._plan import PlannedSolve
from ._reading import (
    Reader,
    Record,
    compute_reference,
    has_diverged,
    read_record,
)
from ._reason import Reason, reasons_of_members, worst, worst_reason
from ._request import Request
from ._segment_record import SegmentRecord, objectives, record_segment
from ._stopping import (
    Met,
    begin_search,
    find_costly,
    keep_before_end,
    read_stop,
    stack_previous,
    state_of,
)
from ._stops import Stop, count_kept, tell_stops, with_stops
from ._tally import Tally
from ._tracked import Tracked
from ._trajectory import Trajectory, final_attrs
from ._work import failure, work, work_of_errors

_CHECKPOINT_SECONDS = 1.0
"""A checkpoint costs milliseconds; more often than this it would show."""

_COMPILING = "compiling, once; about 20 s"


class Run:
    """Carries a request out.

    Args:
        request: The request.
        checkpoint: The checkpoint directory, or None.
        line: Where progress is reported.
        compiling: Measures what compiling takes.
        resume: Whether to go on with what the directory holds.
    """

    def __init__(
        self,
        request: Request,
        checkpoint: str | Path | None,
        line: Progress,
        compiling: CompileClock,
        *,
        resume: bool,
    ):
        self._request = request
        self._on_segment: Callable[[SegmentRecord], object] | None = None
        self._line = line
        self._compiling = compiling
        linear = [flow.name for flow in request.flows if isinstance(flow, Linearized)]
        self._linear = linear[0] if linear else None
        self._lanes = 1 if request.lanes.number is None else request.lanes.number
        self._tallies: dict[int, tuple[PlannedSolve, Tally]] = {}
        self._companions: dict[tuple[int, int], tuple[PlannedSolve, Tally]] = {}
        self._levels: dict[int, int] = {}
        self._reads = [0] * len(request.planned)
        self._kept = len(request.times)
        self._kept_before = 0
        self._began = self._written = clock.perf_counter()
        self._seconds_before = self._compiling_before = 0.0
        self._line.update(_COMPILING)
        self._dense = DenseOutput(request.lanes) if request.dense else None
        self._judge = Judge(request)
        self._solves = [self._open(planned) for planned in request.planned]
        once = arrays_once(request, self._solves[-1][1])
        shown = [f for f in request.flows if not isinstance(f, Quadrature)]
        self._description = describe(
            request.problem, {f.name: kind_of(f) for f in shown}, request.measures,
            request.settings(), request.lanes.number, stops=request.stops,
        )  # fmt: skip
        self._description["solves"] = len(request.planned)
        self._once_arrays = once
        self._store: Checkpoint | None = None
        if checkpoint is not None:
            self._store = Checkpoint(checkpoint)
            self._store.begin(
                request.digest, self._description, request.times, once, resume=resume
            )

    def _open(self, planned: PlannedSolve) -> tuple[Reader, list[Lane]]:
        """The reader of a solve, and its lanes with what they compare with."""
        request = self._request
        measured = planned.measured
        reader = Reader(
            planned.solve.coupled,
            request.measures if measured else (),
            request.costly if measured else (),
            self._linear,
        )
        lanes = []
        for i in range(self._lanes):
            problem = request.lanes.lane(i)
            own = request.lanes.member_of(reader, i)
            lanes.append(Lane(problem, compute_reference(own, problem)))
        return reader, lanes

    def finish(
        self, on_segment: Callable[[SegmentRecord], object] | None
    ) -> Trajectory:
        """Integrates whatever is left to do.

        Args:
            on_segment: Called at the end of every segment of the run, or None.

        Returns:
            The trajectory.
        """
        self._on_segment = on_segment
        for index in range(len(self._request.planned)):
            self._integrate(index)
        records = [
            [lanes[i].records for _, lanes in self._solves] for i in range(self._lanes)
        ]
        ensemble, times = self._ensemble, self._request.times[: self._kept]
        times, records = with_stops(times, records, self._stops, ensemble=ensemble)
        reason = worst_reason(worst(tally.code) for _, tally in self._tallies.values())
        stats = self._stats()
        dataset = assemble(
            self._description, times, self._once_arrays, records, self._stops
        )
        lanes = self._request.lanes
        return Trajectory(
            dataset.assign_attrs(final_attrs(reason, stats)),
            reason,
            stats,
            stack_params(records, len(times), self._stops, ensemble=ensemble),
            (lanes.params, lanes.static),
            self._dense,
        )

    @property
    def _ensemble(self) -> bool:
        return self._request.lanes.number is not None

    @property
    def _stops(self) -> list[Stop]:
        """Where the members were stopped; the measured solve is the last."""
        return [lane.stop for lane in self._solves[-1][1]]

    def _integrate(self, index: int) -> None:
        """Integrates one solve, at ever tighter tolerances until it is accurate."""
        run, companion = self._open_level(index)
        while True:
            level = self._follow(index, run, companion)
            if level is None:
                self._kept_before = max(self._kept_before, self._kept)
                return
            self._line.update(
                f"not accurate enough: repeated at rtol={self._rtol_at(level):.1g}"
            )
            members = self._solves[index][1]
            run.stored = [len(m.records) - len(m.pending) for m in members]
            told = self._request.planned[index], run.integration.tally
            self._companions[index, run.level] = told
            if companion is not None and self._store is not None:
                companion.write(self._store, index)
            run.accompany(companion)
            companion = run
            for member in members:
                member.begin_again()
            if self._dense is not None:
                self._dense.drop_solve()
            run = self._track(index, level)

    def _open_level(self, index: int) -> tuple[Tracked, Tracked | None]:
        """A solve at the level at which it goes on, and its companion."""
        store, level = self._store, FIRST_LEVEL
        if store is None:
            run = self._track(index, level)
            return run, self._accompany(index, run)
        level = store.level_of(index)
        run = self._track(index, level)
        companion = self._accompany(index, run)
        if store.is_shorter(index):
            tracked = [run] if companion is None else [companion, run]
            alike = partial(self._decides_alike, index, run)
            if self._reads_apart(index) or not can_extend(store, index, tracked, alike):
                names = ", ".join(run.integration.solve.coupled.names)
                self._line.say(
                    f"{names}: the run to an earlier end is no beginning of this one, "
                    "which is integrated from the start."
                )
                store.forget(index)
                return self._open_level(index)
        for given_up in range(level - 1):
            told = store.read_tally(index, given_up)
            if told is not None:
                self._companions[index, given_up] = self._request.planned[index], told
        return run, companion

    def _decides_alike(self, index: int, run: Tracked, level: int, log: Log) -> bool:
        """Whether `auto` would do at another level what it did there."""
        planned = self._request.planned[index]
        auto = self._request.auto(planned, factor_at(planned, level))
        return auto is None or auto.decides_alike(log, run.integration.prices)

    def _reads_apart(self, index: int) -> bool:
        """Whether measures of a solve read another one, which may have begun anew."""
        planned = self._request.planned[index]
        apart = self._linear not in {None, *planned.solve.coupled.names}
        return apart and planned.measured and len(self._request.measures) > 0

    def _track(self, index: int, level: int) -> Tracked:
        """One solve at one level of tolerance, not begun."""
        request = self._request
        planned = at_level(request.planned[index], level, request.problem.dtype)
        self._line.update(_COMPILING)
        return self._tracked(index, planned, level, None, max_steps=request.max_steps)

    def _accompany(self, index: int, run: Tracked) -> Tracked | None:
        """The companion that tells the error of a solve; None where there is none."""
        request, level = self._request, run.level - 1
        planned = request.planned[index]
        if not (request.global_error and is_estimated(planned.solve)):
            return None
        planned = companion_at(planned, level, request.problem.dtype)
        constants = run.integration.constants
        # As many steps as the run's save times take: what it tells of a run must not
        # depend on where that is cut.
        companion = self._tracked(index, planned, level, constants, max_steps=None)
        if self._store is not None:
            companion.restore(self._store, index)
        return companion

    def _tracked(
        self,
        index: int,
        planned: PlannedSolve,
        level: int,
        constants: Any,
        *,
        max_steps: int | None,
    ) -> Tracked:
        request = self._request
        factor = factor_at(request.planned[index], level)
        integration = Integration(
            planned.solve,
            request.lanes,
            request.times,
            choices=planned.choices,
            auto=request.auto(planned, factor),
            segment_steps=request.segment_steps,
            max_steps=max_steps,
            compiling=self._compiling,
            constants=constants,
            decides_late=bool(request.costly),
        )
        problems = [member.problem for member in self._solves[index][1]]
        return Tracked(integration, level, problems)

    def _follow(
        self, index: int, run: Tracked, companion: Tracked | None
    ) -> int | None:
        """Integrates and reads one solve at one level.

        Returns:
            The level at which to begin again; None where the solve has ended.
        """
        request = self._request
        planned, lanes = request.planned[index], self._solves[index][1]
        integration = run.integration
        if request.costly:
            begin_search(integration, lanes)
        self._restore(index, run, lanes)
        if self._dense is not None:
            began = float(np.max(np.asarray(integration.state.t)))
            self._dense.add_solve(planned.solve, integration.constants, began)
        level = self._renew_errors(index, run, companion)
        if level is not None:
            return level
        tally = integration.tally
        self._levels[index] = run.level
        self._tallies[index] = planned, tally
        if companion is not None:
            told = planned, companion.integration.tally
            self._companions[index, companion.level] = told
            self._note_shifts(lanes, self._judge.shifts(planned, run, companion))
        self._keep(tally)
        self._written = clock.perf_counter()
        readings, done = len(lanes) * len(request.times), int(tally.saved.sum())
        pace = Pace(float(request.times[-1]), readings, done)
        compiled = True
        for segment in run.segments:
            going = tally.running | ~tally.running.any()
            t = float(tally.reached[going].min())
            pace.advance(t, tally.seconds, compiled=compiled)
            compiled = segment.next_solver is not None
            if companion is not None:
                companion.reach(int(tally.saved.max()))
                shifts = self._judge.shifts(planned, run, companion)
                level = self._judge.level_needed(
                    planned, run, companion, segment, shifts
                )
                if level is not None:
                    return level
                self._note_shifts(lanes, shifts)
            self._read(index, run, companion, segment, pace)
            if request.costly:
                keep_before_end(integration, lanes)
            if self._dense is not None:
                self._dense.add_segment(tally.reached.copy(), segment.interpolation)
            self._report(planned, integration, pace)
            if segment.next_solver is not None:
                self._line.update(f"{segment.next_solver} takes over, {_COMPILING}")
            self._judge.settle(planned, [lane.excess for lane in lanes], tally)
            if self._late() or not tally.running.any():
                self._write(index, run, companion)
            if self._on_segment is not None:
                self._call_back(self._on_segment, index, run, companion)
        return None

    def _call_back(
        self,
        on_segment: Callable[[SegmentRecord], object],
        index: int,
        run: Tracked,
        companion: Tracked | None,
    ) -> None:
        """Tells the caller of a segment; what he raises finds the run on disk."""
        problems = [member.problem for member in self._solves[index][1]]
        try:
            on_segment(record_segment(run.integration, problems))
        except BaseException:
            self._write(index, run, companion)
            raise

    def _rtol_at(self, level: int) -> float:
        return self._request.rtol * factor_at(self._request.planned[0], level)

    def _restore(self, index: int, run: Tracked, lanes: list[Lane]) -> None:
        """Puts a solve where its checkpoint left it."""
        if self._store is None:
            return
        restored = run.restore(self._store, index)
        for i, lane in enumerate(lanes):
            lane.stored = self._store.read_records(index, i, run.level)
            if run.valid is not None:
                del lane.stored[run.valid[i] :]
        if restored is None:
            return
        self._reads[index] = restored.kept.reads
        stats = restored.kept.stats
        self._seconds_before = stats["seconds_total"]
        self._compiling_before = stats["seconds_compiling"]
        state = restored.kept.previous
        for i, lane in enumerate(lanes):
            lane.stop = restored.kept.stops.get(i, Stop())
            lane.records = lane.stored[: int(restored.tally.saved[i])]
            for at, record in enumerate(lane.records):
                self._note_excess(index, lane, record, at)
            if state is not None and lane.records:
                time = float(self._request.times[len(lane.records) - 1])
                lane.previous = time, state_of(self._request.lanes, state, i)

    def _renew_errors(
        self, index: int, run: Tracked, companion: Tracked | None
    ) -> int | None:
        """Estimates errors again where the companion went back further than the run.

        Returns:
            The level at which to begin again, as `_follow`.
        """
        store, planned = self._store, self._request.planned[index]
        if store is None or companion is None or companion.valid is None:
            return None
        largest = 0.0
        for i, lane in enumerate(self._solves[index][1]):
            first = companion.valid[i]
            if first >= len(lane.records):
                continue
            companion.reach(int(run.integration.tally.saved.max()))
            lane.excess = Excess()
            for at, record in enumerate(lane.records):
                if at >= first:
                    record |= self._judge.errors(planned, run, companion, record, i, at)
                    found = self._judge.excess(planned, record)
                    largest = max(largest, 0.0 if np.isnan(found) else found)
                self._note_excess(index, lane, record, at)
            store.write_records(index, i, first, lane.records[first:], run.level)
            store.trim_records(index, i, run.level, first + 1)
        return self._judge.next_level(planned, run, largest)

    def _note_excess(self, index: int, lane: Lane, record: Record, at: int) -> None:
        found = self._judge.excess(self._request.planned[index], record)
        lane.excess.note(found, float(self._request.times[at]))

    def _note_shifts(
        self, lanes: list[Lane], shifts: list[tuple[float, float]]
    ) -> None:
        for lane, (found, at) in zip(lanes, shifts, strict=True):
            if found > 0:
                lane.excess.note(found, at)

    def _read(
        self,
        index: int,
        run: Tracked,
        companion: Tracked | None,
        segment: Segment,
        pace: Pace,
    ) -> None:
        """Reads newly saved states, and members where stop conditions ended them."""
        integration = run.integration
        tally = integration.tally
        for i, lane in enumerate(self._solves[index][1]):
            self._read_member(index, run, companion, segment, pace, i)
            if tally.code[i] == Reason.EVENT and lane.stop.at is None:
                event = integration.solve.events[int(tally.event[i])]
                there = state_of(integration.lanes, integration.state.y, i)
                self._read_stop(index, run, i, (event, float(segment.times[i]), there))
        self._keep(tally)

    def _read_member(
        self,
        index: int,
        run: Tracked,
        companion: Tracked | None,
        segment: Segment,
        pace: Pace,
        i: int,
    ) -> None:
        """Reads newly saved states of a member; a costly condition may end it here."""
        request, times = self._request, self._request.times
        reader, lanes = self._solves[index]
        own, lane = request.lanes.member_of(reader, i), lanes[i]
        constants = constants_of(run.integration, i)
        for at, state in enumerate(segment.saved[i], int(segment.first[i])):
            left = ", compiling first" if pace.compiles else pace.left()
            self._line.update(f"reading save time {at + 1} of {len(times)}{left}")
            stored, began = at < len(lane.stored), clock.perf_counter()
            record = lane.stored[at] if stored else read_record(
                own, lane.problem, constants, lane.reference, times[at], state,
                self._linearized(i, at), memory_before(lane, times, at),
            )  # fmt: skip
            if not stored:
                planned = request.planned[index]
                record |= self._judge.errors(planned, run, companion, record, i, at)
            self._note_excess(index, lane, record, at)
            self._reads[index] += reader.kernels
            time = float(times[at])
            if has_diverged(record, lane.reference):
                run.integration.tally.end(i, Reason.DIVERGED, time, at)
                return
            met = find_costly(request, run.integration, lane, i, record, time)
            if met is not None:
                run.end(i, Reason.EVENT, met[1], at)
                self._read_stop(index, run, i, met)
                return
            lane.records.append(record)
            if stored:
                pace.skip()
            else:
                lane.pending.append(record)
                pace.read(clock.perf_counter() - began)
            lane.previous = time, state
            if self._late():
                self._write_records(index)

    def _read_stop(self, index: int, run: Tracked, i: int, met: Met) -> None:
        """Reads a member in the state at which a stop condition has ended it."""
        request, (reader, lanes) = self._request, self._solves[index]
        own, constants = (
            request.lanes.member_of(reader, i),
            constants_of(run.integration, i),
        )
        linearized = self._linearized(i, None)
        stop = read_stop(request, own, lanes[i], constants, met, linearized)
        lanes[i].stop = stop
        if stop.record is not None:
            # A companion has no state there, so that errors are not known.
            planned, at = request.planned[index], len(lanes[i].records)
            stop.record |= self._judge.errors(planned, run, None, stop.record, i, at)
            self._reads[index] += reader.kernels

    def _keep(self, tally: Tally) -> None:
        """Keeps every save time that a flow has reached, unless an event ended all."""
        self._kept = count_kept(tally.saved, self._stops, ensemble=self._ensemble)
        if not (tally.code == Reason.EVENT).all():
            self._kept = max(self._kept, self._kept_before)

    def _linearized(self, lane: int, at: int | None) -> OutputState | None:
        solves = [lanes[lane] for _, lanes in self._solves]
        return linearized_at(solves, self._linear, at)

    def _late(self) -> bool:
        return clock.perf_counter() - self._written > _CHECKPOINT_SECONDS

    def _write_records(self, index: int) -> None:
        self._written = clock.perf_counter()
        if self._store is None:
            return
        for i, lane in enumerate(self._solves[index][1]):
            if lane.pending:
                first = len(lane.records) - len(lane.pending)
                level = self._levels[index]
                self._store.write_records(index, i, first, lane.pending, level)
                lane.pending = []

    def _write(self, index: int, run: Tracked, companion: Tracked | None) -> None:
        self._write_records(index)
        if self._store is None:
            return
        # The run first: the tightest level on disk is the run's.
        integration, lanes = run.integration, self._solves[index][1]
        costly = self._request.costly
        kept = Kept(
            self._stats(),
            self._kept,
            self._reads[index],
            stack_previous(lanes, ensemble=self._ensemble) if costly else None,
            {i: lane.stop for i, lane in enumerate(lanes) if lane.stop.at is not None},
        )
        self._store.write_state(
            index,
            run.level,
            integration.state,
            integration.tally,
            kept,
            integration.before_end,
        )
        if companion is not None:
            companion.write(self._store, index)

    def _stats(self) -> dict[str, Any]:
        stats = work(list(self._tallies.values()), sum(self._reads))
        found = [lane.excess for _, lanes in self._solves for lane in lanes]
        worst = max(found, key=lambda e: -1.0 if np.isnan(e.largest) else e.largest)
        unknown = np.isnan(worst.largest)
        codes = [tally.code for _, tally in self._tallies.values()]
        reasons = (
            {"member_reasons": reasons_of_members(codes)} if self._ensemble else {}
        )
        return {
            **stats,
            **work_of_errors(list(self._companions.values())),
            "error_over_tolerance": None if unknown else worst.largest,
            "error_over_tolerance_at": None if unknown else worst.at,
            "rtol_used": self._rtol_at(max(self._levels.values(), default=FIRST_LEVEL)),
            "seconds_compiling": self._compiling_before + self._compiling.seconds,
            "seconds_total": self._seconds_before + clock.perf_counter() - self._began,
            "t_reached": min(float(t.reached.min()) for _, t in self._tallies.values()),
            "failure": failure(list(self._tallies.values())),
            **tell_stops(self._stops, ensemble=self._ensemble),
            **reasons,
        }

    def _report(
        self, planned: PlannedSolve, integration: Integration, pace: Pace
    ) -> None:
        if not self._line.enabled:
            return
        loss = ""
        if planned.measured and self._request.lanes.number is None:
            name = planned.solve.coupled.parameter_flows[0].name
            now, first = (
                objectives(planned.solve, self._request.problem, state.y)[name]
                for state in (integration.state, integration.start)
            )
            loss = f" · loss {float(100 * now / first):.3g} % of its start"
        line = pace.line(integration.tally, loss, len(self._request.times))
        self._line.update(line)
