"""A run on disk, readable at every moment: description, records, state.

The store holds three kinds of parts. `run` is written once: what the run is.
`records-…` are appended as save times are read. `state-…` is replaced after a segment
whose save times are all read, so that a process killed before that integrates the
segment again, and reads what it had not read.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
import xarray as xr

from ..storage import Store, flatten_arrays, restore_arrays
from ._auto import Log
from ._dataset import assemble
from ._faults import telling_faults
from ._reading import Record
from ._reason import Reason, worst_reason
from ._records import SolveState
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


class Restored(NamedTuple):
    """Where a solve goes on.

    Attributes:
        state: The solve's state.
        tally: Its tally.
        stats: Statistics of the run so far.
        previous: The last saved coupled state, or None.
    """

    state: SolveState
    tally: Tally
    stats: dict[str, Any]
    previous: dict[str, Any] | None


class Checkpoint:
    """The checkpoint directory of a run.

    Args:
        path: The directory.
    """

    def __init__(self, path: str | Path):
        self._store = Store(path)

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
        """Claims the directory for a run.

        Args:
            digest: The run's fingerprint.
            description: From `describe`.
            ts: Save times.
            once: Arrays that do not change over time.
            resume: Whether to go on with what is there.

        Raises:
            ValueError: If the directory holds another run, or this one and `resume` is
                off.
        """
        path = self._store.path
        if self.exists():
            _, attrs = self._store.read("run")
            if attrs.get("fingerprint") != digest:
                raise ValueError(
                    f"{path} holds another run: its model, data, times or settings "
                    "differ. Choose another directory, or remove this one."
                )
            if not resume:
                raise ValueError(
                    f"{path} already holds this run. Pass resume=True (--resume) to go "
                    "on with it, or choose another directory."
                )
            return
        if path.is_dir() and any(path.iterdir()) and not self._store.names():
            raise ValueError(
                f"{path} is not empty and holds no run of ntkflow's. Choose another "
                "directory."
            )
        attrs = {"fingerprint": digest, "description": json.dumps(description)}
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
        state: SolveState,
        tally: Tally,
        stats: Mapping[str, Any],
        kept: int,
        previous: dict[str, Any] | None,
        level: int,
    ) -> None:
        """Replaces the state a solve goes on from.

        Args:
            solve: Index of the solve.
            state: Its state.
            tally: Its tally.
            stats: Statistics of the run so far.
            kept: Save times kept so far.
            previous: The last saved coupled state, if a stop condition may have to be
                located from there.
            level: Level of the solve's tolerance.
        """
        arrays = {
            "state": flatten_arrays(state),
            "tally": {name: getattr(tally, name) for name in _TALLY},
        }
        if previous is not None:
            arrays["previous"] = flatten_arrays(previous)
        jumps = eqx.is_array(state.made_jump)
        attrs = {"seconds": tally.seconds, "jumps": jumps, "kept": kept}
        attrs["stats"] = dict(stats)
        attrs["auto"] = None if tally.log is None else asdict(tally.log)
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
            tally, stored, jumps = (
                _tally(arrays, attrs),
                arrays["state"],
                attrs["jumps"],
            )
        like = like_at(tally.log)
        if jumps:
            like = like._replace(made_jump=np.zeros(np.shape(like.t), bool))
        state = restore_arrays(like, stored)
        previous = None
        if "previous" in arrays:
            previous = restore_arrays(like.y, arrays["previous"])
        return Restored(state, tally, attrs["stats"], previous)

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
        prefix = _records_name(solve, level, lane, 0).rsplit("-", 1)[0]
        records: list[Record] = []
        for name in self._store.names():
            if name.rsplit("-", 1)[0] != prefix:
                continue
            arrays, _ = self._store.read(name)
            with telling_faults(self._store.path / name):
                first = int(name.rsplit("-", 1)[1])
                count = len(next(iter(arrays.values())))
                # A part written again from an earlier state replaces what it overlaps.
                del records[first:]
                records.extend(
                    {key: np.asarray(array[i]) for key, array in arrays.items()}
                    for i in range(count)
                )
        return records

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
        for solve in range(solves):
            name = _state_name(solve, levels[solve])
            reason = Reason.RUNNING
            if name in self._store.names():
                state, attrs = self._store.read(name)
                stats = attrs["stats"]
                codes = state["tally"]["code"]
                reason = worst(codes)
                # The last solve's count is the run's: events end that one.
                kept = max(kept, attrs["kept"]) if solve + 1 < solves else attrs["kept"]
            if reason is Reason.RUNNING:
                # Save times of the segment under way that are read already.
                kept = max(kept, min(len(lane[solve]) for lane in records))
            reasons.append(reason)
        return (
            assemble(description, arrays["ts"][:kept], arrays["once"], records),
            worst(np.array(reasons)),
            stats,
            stack_params(records, kept, ensemble=description["lanes"] is not None),
        )


def _log(attrs: Mapping[str, Any]) -> Log | None:
    return None if attrs["auto"] is None else Log(**attrs["auto"])


def _tally(arrays: Mapping[str, Any], attrs: Mapping[str, Any]) -> Tally:
    counts = (arrays["tally"][key] for key in _TALLY)
    return Tally(*counts, seconds=attrs["seconds"], log=_log(attrs))


def worst(codes: np.ndarray) -> Reason:
    """The reason of several lanes together: a failure if there is one.

    Args:
        codes: Codes of `Reason`, lane by lane.

    Returns:
        RUNNING while one lane runs, else that of `worst_reason`.
    """
    if (codes == Reason.RUNNING).any():
        return Reason.RUNNING
    return worst_reason(Reason(int(code)) for code in codes)


def stack_params(
    records: list[list[list[Record]]], kept: int, *, ensemble: bool
) -> dict[str, np.ndarray]:
    """The measured parameters over time.

    Args:
        records: For every lane, for every solve, one record a save time.
        kept: Save times to keep.
        ensemble: Whether to keep the axis of lanes.

    Returns:
        Arrays by leaf name, time first (of an ensemble: seed, then time); only what all
        lanes reached.
    """
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
