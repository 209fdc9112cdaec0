"""A run on disk, readable at every moment: description, records, state.

The store holds three kinds of parts. `run` is written once: what the run is.
`records-…` are appended as save times are read. `state-…` is replaced after a segment
whose save times are all read, so that a process killed before that integrates the
segment again, and reads what it had not read.
"""

# Longer than 400 lines: what is written and how it is read change together.

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
import xarray as xr

from ..storage import Store, flatten_arrays, restore_arrays
from ._auto import Log
from ._before_end import BeforeEnd
from ._dataset import assemble
from ._faults import telling_faults
from ._reading import Record
from ._reason import Reason, worst
from ._records import SolveState
from ._stops import Records, Stop, held_at_stops, with_stops
from ._tally import Tally

_TALLY = (
    "saved",
    "steps",
    "rejected",
    "code",
    "event",
    "work",
    "growth",
    "growth_at",
    "reached",
)


FIRST_LEVEL = 1
"""The level of the tolerance asked for; see `_accuracy`."""

_MOST_MEMBERS, _MOST_SOLVES = 100_000, 100
"""A description that speaks of more keeps a reader busy with nothing."""


class Kept(NamedTuple):
    """What is kept of a solve besides its state and tally.

    Attributes:
        stats: Statistics of the run so far; none of a companion.
        kept: Save times kept so far.
        reads: Kernels formed to read the solve.
        previous: The last saved coupled state, if a stop condition may have to be
            located from there.
        stops: Where stop conditions have ended members, by their indices.
        clean: Of a run that was given up, whether that was before its end, and that of
            its companion, had changed a step.
    """

    stats: Mapping[str, Any]
    kept: int
    reads: int = 0
    previous: dict[str, Any] | None = None
    stops: Mapping[int, Stop] = MappingProxyType({})
    clean: bool = False


class Restored(NamedTuple):
    """Where a solve goes on.

    Attributes:
        state: The solve's state.
        tally: Its tally.
        kept: What else is kept of it.
        before_end: Where it stood before its end changed a step, or None.
        times: Save times of the run that left it, of which there may be more now.
    """

    state: SolveState
    tally: Tally
    kept: Kept
    before_end: BeforeEnd | None
    times: int


class Checkpoint:
    """The checkpoint directory of a run.

    Args:
        path: The directory.
    """

    def __init__(self, path: str | Path):
        self._store = Store(path)
        self._times = np.zeros(0)

    @property
    def times(self) -> int:
        """Number of save times of the run."""
        return len(self._times)

    def exists(self) -> bool:
        """Whether the directory holds a run.

        Returns:
            Whether its description is there.
        """
        return "run" in self._store.names()

    def begin(
        self,
        digest: str,
        description: Mapping[str, Any],
        ts: np.ndarray,
        once: Mapping[str, np.ndarray],
        *,
        resume: bool,
    ) -> None:
        """Claims the directory for a run, or for one to a later time.

        Args:
            digest: The run's fingerprint.
            description: From `describe`.
            ts: Save times.
            once: Arrays that do not change over time.
            resume: Whether to go on with what is there.

        Raises:
            ValueError: If the directory holds another run, or this one or its
                beginning and `resume` is off.
        """
        path, self._times = self._store.path, ts
        attrs = {"fingerprint": digest, "description": json.dumps(description)}
        if self.exists():
            arrays, found = self._store.read("run")
            if found.get("fingerprint") != digest:
                raise ValueError(
                    f"{path} holds another run: its model, data or settings differ. "
                    "Choose another directory, or remove this one."
                )
            before = arrays["ts"]
            if not np.array_equal(before, ts[: len(before)]):
                raise ValueError(
                    f"{path} holds another run: its save times, {len(before)} up to "
                    f"t = {before[-1]:g}, do not begin those asked for, {len(ts)} up "
                    f"to t = {ts[-1]:g}. Later ones can be added to a run, no others; "
                    "choose another directory, or remove this one."
                )
            if not resume:
                raise ValueError(
                    f"{path} already holds this run. Pass resume=True (--resume) to go "
                    "on with it, or choose another directory."
                )
            if len(before) < len(ts):
                self._store.write("run", {"ts": ts, "once": dict(once)}, attrs)
            return
        if not self._store.is_vacant() and not self._store.names():
            raise ValueError(
                f"{path} is not empty and holds no run of ntkflow's. Choose another "
                "directory."
            )
        self._store.write("run", {"ts": ts, "once": dict(once)}, attrs)

    def write_records(
        self, solve: int, lane: int, first: int, records: list[Record], level: int
    ) -> None:
        """Appends records of one lane of one solve.

        Args:
            solve: Index of the solve.
            lane: Index of the lane.
            first: Index of the first record's save time.
            records: The records, at least one.
            level: Level of the solve's tolerance.
        """
        arrays = {n: np.stack([record[n] for record in records]) for n in records[0]}
        self._store.write(_records_name(solve, level, lane, first), arrays)

    def write_state(
        self,
        solve: int,
        level: int,
        state: SolveState,
        tally: Tally,
        kept: Kept,
        before_end: BeforeEnd | None,
    ) -> None:
        """Replaces the state a solve goes on from.

        Args:
            solve: Index of the solve.
            level: Level of the solve's tolerance.
            state: Its state.
            tally: Its tally.
            kept: What else is kept of it.
            before_end: Where it stood before its end changed a step, or None.
        """
        arrays = _arrays(state, tally, kept.previous)
        attrs = _attrs(state, tally)
        arrays |= _arrays_of_stops(kept.stops)
        if before_end is not None:
            own = before_end
            arrays["before_end"] = _arrays(own.state, own.tally, own.previous)
            arrays["before_end"]["known"] = own.known
            attrs["before_end"] = _attrs(own.state, own.tally)
            attrs["before_end"]["usable"] = own.usable
        attrs |= {"kept": kept.kept, "stats": dict(kept.stats), "reads": kept.reads}
        attrs |= {"clean": kept.clean, "times": len(self._times)}
        attrs["stops"] = {str(i): [s.by, s.at] for i, s in kept.stops.items()}
        self._store.write(_state_name(solve, level), arrays, attrs)

    def level_of(self, solve: int) -> int:
        """The level of tolerance at which a solve goes on.

        Args:
            solve: Index of the solve.

        Returns:
            The tightest level of which there is a state; the first if there is none.
        """
        prefix = f"state-{solve:02d}-"
        found = [n for n in self._store.names() if n.startswith(prefix)]
        return max((int(n.removeprefix(prefix)) for n in found), default=FIRST_LEVEL)

    def read_state(
        self, solve: int, like_at: Callable[[Log | None], SolveState], level: int
    ) -> Restored | None:
        """Where a solve goes on, if it has begun.

        Args:
            solve: Index of the solve.
            like_at: Takes what `auto` did to a state of the same structure.
            level: Level of the solve's tolerance.

        Returns:
            State, tally and statistics; or None.
        """
        name = _state_name(solve, level)
        if name not in self._store.names():
            return None
        arrays, attrs = self._store.read(name)
        with telling_faults(self._store.path):
            state, tally, previous = _read(arrays, attrs, like_at)
            kept = Kept(
                attrs["stats"],
                attrs["kept"],
                attrs["reads"],
                previous,
                _stops(arrays, attrs, len(tally.code)),
                attrs["clean"],
            )
            before = None
            if "before_end" in attrs:
                own, told = arrays["before_end"], attrs["before_end"]
                stood, passed, previous = _read(own, told, like_at)
                usable = told["usable"]
                known = own["known"]
                before = BeforeEnd(stood, passed, known, usable, previous)
                before.has_previous = None if previous is None else known
            return Restored(state, tally, kept, before, attrs["times"])

    def is_shorter(self, solve: int) -> bool:
        """Whether what a solve goes on from was left by a run to an earlier end.

        Args:
            solve: Index of the solve.

        Returns:
            Whether it was.
        """
        name = _state_name(solve, self.level_of(solve))
        if name not in self._store.names():
            return False
        with telling_faults(self._store.path / name):
            return self._store.read(name)[1]["times"] < len(self._times)

    def was_clean(self, solve: int, level: int) -> bool:
        """Whether a run was given up before its end had changed a step.

        Args:
            solve: Index of the solve.
            level: Level of its tolerance.

        Returns:
            Whether it was; False if nothing of that level is kept.
        """
        name = _state_name(solve, level)
        with telling_faults(self._store.path / name):
            return name in self._store.names() and self._store.read(name)[1]["clean"]

    def end_of(self, times: int) -> float:
        """The end of a run with fewer save times.

        Args:
            times: Their number.

        Returns:
            The last of them.
        """
        return float(self._times[times - 1])

    def trim_records(self, solve: int, lane: int, level: int, count: int) -> None:
        """Removes parts that begin behind some records, which are not valid any more.

        Args:
            solve: Index of the solve.
            lane: Index of the lane.
            level: Level of the solve's tolerance.
            count: Records that are.
        """
        for name, first in self._record_parts(solve, lane, level):
            if first >= count:
                self._store.remove(name)

    def forget(self, solve: int) -> None:
        """Removes all that is kept of a solve, which has to begin anew.

        Args:
            solve: Index of the solve.
        """
        # The state that the solve would go on from goes last: without the others it is
        # known to be of no use.
        for prefix in (f"records-{solve:02d}-", f"state-{solve:02d}-"):
            for name in self._store.names():
                if name.startswith(prefix):
                    self._store.remove(name)

    def read_tally(self, solve: int, level: int) -> Tally | None:
        """What a solve has cost at one level of tolerance.

        Args:
            solve: Index of the solve.
            level: Level of the solve's tolerance.

        Returns:
            Its tally; None if nothing of that level is kept.
        """
        name = _state_name(solve, level)
        if name not in self._store.names():
            return None
        return _tally(*self._store.read(name))

    def read_records(self, solve: int, lane: int, level: int) -> list[Record]:
        """All records of one lane of one solve.

        Args:
            solve: Index of the solve.
            lane: Index of the lane.
            level: Level of the solve's tolerance.

        Returns:
            One record a save time.
        """
        records: list[Record] = []
        for name, first in self._record_parts(solve, lane, level):
            arrays, _ = self._store.read(name)
            with telling_faults(self._store.path / name):
                count = len(next(iter(arrays.values())))
                # A part written again from an earlier state replaces what it overlaps.
                del records[first:]
                records.extend(
                    {key: np.asarray(array[i]) for key, array in arrays.items()}
                    for i in range(count)
                )
        return records

    def _record_parts(self, solve: int, lane: int, level: int) -> list[tuple[str, int]]:
        """The parts with records of one lane, and the first save time of each."""
        prefix = _records_name(solve, level, lane, 0).rsplit("-", 1)[0]
        split = [(name, *name.rpartition("-")[::2]) for name in self._store.names()]
        with telling_faults(self._store.path):
            return [(name, int(last)) for name, head, last in split if head == prefix]

    def load(
        self,
    ) -> tuple[xr.Dataset, Reason, dict[str, Any], dict[str, np.ndarray]]:
        """Everything saved so far, of a finished run or of one under way.

        Returns:
            Dataset, reason, statistics, and the measured parameters by name.

        Raises:
            ValueError: If the description is none that a run writes.
        """
        arrays, attrs = self._store.read("run")
        description = json.loads(attrs["description"])
        lanes, solves = description["lanes"] or 1, description["solves"]
        if not (0 < lanes <= _MOST_MEMBERS and 0 < solves <= _MOST_SOLVES):
            raise ValueError(f"it describes {lanes} members of {solves} solves")
        levels = [self.level_of(solve) for solve in range(solves)]
        records = [
            [self.read_records(i, lane, level) for i, level in enumerate(levels)]
            for lane in range(lanes)
        ]
        reasons, stats, kept = [], {}, 0
        stops: dict[int, Stop] = {}
        for solve in range(solves):
            name = _state_name(solve, levels[solve])
            reason, shorter = Reason.RUNNING, False
            if name in self._store.names():
                state, attrs = self._store.read(name)
                stats, codes = attrs["stats"], state["tally"]["code"]
                stops = _stops(state, attrs, len(codes))
                own = attrs["kept"]
                reason = worst(codes)
                stopped = (codes == Reason.EVENT).all()
                if attrs["times"] < len(arrays["ts"]) and not stopped:
                    # Later times have been added: it goes on from before its end.
                    reason, shorter = Reason.RUNNING, True
                    before = state.get("before_end", state)["tally"]["saved"]
                    own = min(own, int(before.max()))
                # The last solve's count is the run's: events end that one.
                kept = max(kept, own) if solve + 1 < solves else own
            if reason is Reason.RUNNING and not shorter:
                # Save times of the segment under way that are read already.
                kept = max(kept, min(len(lane[solve]) for lane in records))
            reasons.append(reason)
        reason = worst(np.array(reasons))
        every = [stops.get(lane, Stop()) for lane in range(lanes)]
        ensemble = description["lanes"] is not None
        times, records = with_stops(
            arrays["ts"][:kept], records, every, ensemble=ensemble
        )
        return (
            assemble(description, times, arrays["once"], records, every),
            reason,
            stats,
            stack_params(records, len(times), every, ensemble=ensemble),
        )


def _arrays(
    state: SolveState, tally: Tally, previous: dict[str, Any] | None
) -> dict[str, Any]:
    arrays = {
        "state": flatten_arrays(state),
        "tally": {name: getattr(tally, name) for name in _TALLY},
    }
    return arrays | ({} if previous is None else {"previous": flatten_arrays(previous)})


def _attrs(state: SolveState, tally: Tally) -> dict[str, Any]:
    log = None if tally.log is None else asdict(tally.log)
    jumps = eqx.is_array(state.made_jump)
    return {"seconds": tally.seconds, "jumps": jumps, "auto": log}


def _read(
    arrays: Mapping[str, Any],
    attrs: Mapping[str, Any],
    like_at: Callable[[Log | None], SolveState],
) -> tuple[SolveState, Tally, dict[str, Any] | None]:
    """State, tally and last saved state, from what `_arrays` and `_attrs` gave."""
    like = like_at(_log(attrs))
    if attrs["jumps"]:
        like = like._replace(made_jump=np.zeros(np.shape(like.t), bool))
    state = restore_arrays(like, arrays["state"])
    previous = None
    if "previous" in arrays:
        previous = restore_arrays(like.y, arrays["previous"])
    return state, _tally(arrays, attrs), previous


def _arrays_of_stops(stops: Mapping[int, Stop]) -> dict[str, Any]:
    read = {str(i): dict(s.record) for i, s in stops.items() if s.record is not None}
    return {"stops": read} if read else {}


def _stops(
    arrays: Mapping[str, Any], attrs: Mapping[str, Any], members: int
) -> dict[int, Stop]:
    """Where members have stopped, from what `write_state` gave."""
    read, told = arrays.get("stops", {}), attrs["stops"]
    found = {i: told[str(i)] for i in range(members) if str(i) in told}
    return {
        i: Stop(str(by), float(at), read.get(str(i))) for i, (by, at) in found.items()
    }


def _log(attrs: Mapping[str, Any]) -> Log | None:
    return None if attrs["auto"] is None else Log(**attrs["auto"])


def _tally(arrays: Mapping[str, Any], attrs: Mapping[str, Any]) -> Tally:
    counts = (arrays["tally"][key] for key in _TALLY)
    return Tally(*counts, seconds=attrs["seconds"], log=_log(attrs))


def stack_params(
    records: Records, kept: int, stops: Sequence[Stop], *, ensemble: bool
) -> dict[str, np.ndarray]:
    """The measured parameters over time.

    Args:
        records: For every lane, for every solve, one record a save time.
        kept: Save times to keep.
        stops: Where each lane was stopped; from there on it is kept as it was there.
        ensemble: Whether to keep the axis of lanes.

    Returns:
        Arrays by leaf name, time first (of an ensemble: seed, then time); only what all
        lanes reached.
    """
    if ensemble:
        records = held_at_stops(records, stops, kept)
    measured = [
        # The measured solve is the last; others may move parameters of their own.
        next(
            (s for s in lane[-1:] if s and any(n.startswith("params/") for n in s[0])),
            [],
        )
        for lane in records
    ]
    kept = min(kept, *(len(solve) for solve in measured))
    if kept == 0:
        return {}
    names = [name for name in measured[0][0] if name.startswith("params/")]
    stacked = {
        name.removeprefix("params/"): np.stack([
            np.stack([r[name] for r in solve[:kept]]) for solve in measured
        ])
        for name in names
    }
    return stacked if ensemble else {n: array[0] for n, array in stacked.items()}


def _state_name(solve: int, level: int) -> str:
    return f"state-{solve:02d}-{level}"


def _records_name(solve: int, level: int, lane: int, first: int) -> str:
    return f"records-{solve:02d}-{level}-{lane:04d}-{first:08d}"
