"""Where stop conditions have ended a run or members of an ensemble, in its results.

A single run has its stop as its last time. Members of an ensemble share an axis of save
times and end between them, each at a time of its own: there the stop is told apart, in
`stop_time` and in what was read at it, `loss_train_at_stop` and so on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ._reading import Record

AT_STOP = "_at_stop"
"""How variables end that hold what was read at the stop of each member."""

Records = list[list[list[Record]]]
"""For every member, for every solve, one record a save time reached."""


@dataclass
class Stop:
    """Which stop condition ended a run or a member, when, and what was read there.

    Attributes:
        by: The condition, printed; empty if none did.
        at: Training time; None if none did.
        record: What was read; None at a save time, which has a record of its own.
    """

    by: str = ""
    at: float | None = None
    record: Record | None = None


def count_kept(saved: np.ndarray, stops: Sequence[Stop], *, ensemble: bool) -> int:
    """Save times that results have.

    Args:
        saved: Save times that each member has passed.
        stops: Where each has stopped.
        ensemble: Whether the run is an ensemble, whose members are kept at the first
            save time after their stop as they were at it.

    Returns:
        Their number.
    """
    between = [ensemble and stop.record is not None for stop in stops]
    return int((saved + np.asarray(between, int)).max())


def with_stops(
    times: np.ndarray,
    records: Sequence[Sequence[Sequence[Record]]],
    stops: Sequence[Stop],
    *,
    ensemble: bool,
) -> tuple[np.ndarray, Records]:
    """Save times and records as results have them: nothing behind a stop.

    A single run has the stop behind its save times. Flows of other solves, whose states
    are known at the save times alone, have no record of it.

    Args:
        times: Save times to keep.
        records: For every member, for every solve, one record a save time reached; the
            solve that was stopped is the last.
        stops: Where each member was stopped.
        ensemble: Whether the run is an ensemble.

    Returns:
        Times, and records of them.
    """
    kept = [[list(solve[: len(times)]) for solve in member] for member in records]
    if ensemble:
        return times, [
            member if stop.at is None else _cut(member)
            for member, stop in zip(kept, stops, strict=True)
        ]
    at, record = stops[0].at, stops[0].record
    if at is None or record is None:
        return times, kept
    kept[0][-1].append(record)
    return np.append(times, at), kept


def _cut(member: list[list[Record]]) -> list[list[Record]]:
    """The records of a member up to its stop, of the flows of other solves as well."""
    return [solve[: len(member[-1])] for solve in member]


def held_at_stops(records: Records, stops: Sequence[Stop], count: int) -> Records:
    """The records with that of a member's stop in place of those it has not come to.

    Args:
        records: From `with_stops`.
        stops: Where each member was stopped.
        count: Number of save times.

    Returns:
        Records of the solve that was stopped, the last.
    """
    held = []
    for member, stop in zip(records, stops, strict=True):
        own = member[-1]
        ends = own[-1:] if stop.record is None else [stop.record]
        missing = 0 if stop.at is None else count - len(own)
        held.append([[*own, *ends * missing]])
    return held


def at_stops(records: Records, stops: Sequence[Stop]) -> Records:
    """What was read at the stops, as records of one save time.

    Args:
        records: From `with_stops`.
        stops: Where each member was stopped.

    Returns:
        One record of each solve that was read there; none of members that did not stop.
    """
    found = []
    for member, stop in zip(records, stops, strict=True):
        if stop.record is not None:
            found.append([*([] for _ in member[:-1]), [stop.record]])
        else:
            found.append([[] if stop.at is None else s[-1:] for s in member])
    return found


def stopped_coords(
    stops: Sequence[Stop], times: np.ndarray, *, ensemble: bool
) -> dict[str, Any]:
    """Coordinates that tell where a run has been stopped.

    Args:
        stops: Where each member was stopped.
        times: Times of the dataset.
        ensemble: Whether the run is an ensemble.

    Returns:
        Of an ensemble `stop_time` and `stopped_by`, one value a member; of a single run
        that was stopped `stopped`, true at the last time.
    """
    if ensemble:
        when = [np.nan if stop.at is None else stop.at for stop in stops]
        told = {"long_name": "where a stop condition ended the member", "units": "time"}
        said = {"long_name": "the stop condition that ended the member"}
        return {
            "stop_time": ("seed", np.array(when), told),
            "stopped_by": ("seed", np.array([stop.by for stop in stops]), said),
        }
    if stops[0].at is None:
        return {}
    flags = np.arange(len(times)) == len(times) - 1
    attrs = {"long_name": "where a stop condition ended the run"}
    return {"stopped": ("time", flags, attrs)}


def beside_stops(
    data: Mapping[str, Any], at_stop: Mapping[str, Any]
) -> dict[str, xr.Variable]:
    """Variables that hold what was read at the stop of each member.

    Args:
        data: Variables by name, each `(dims, values, attrs)`.
        at_stop: Those of them that were read at a stop, over one time.

    Returns:
        One for each variable over time, without that axis; NaN for members that did
        not stop. Estimated errors are not known at a stop.
    """
    found = {}
    for name, (dims, values, attrs) in data.items():
        if "time" not in dims or name.endswith("_error"):
            continue
        axis = dims.index("time")
        read = np.full(values.shape[:axis] + values.shape[axis + 1 :], np.nan)
        if name in at_stop:
            read = np.take(at_stop[name][1], 0, axis)
        told = attrs | {"long_name": f"{attrs['long_name']}, at the member's stop"}
        rest = tuple(dim for dim in dims if dim != "time")
        found[name + AT_STOP] = xr.Variable(rest, read.astype(values.dtype), told)
    return found


def tell_stops(stops: Sequence[Stop], *, ensemble: bool) -> dict[str, Any]:
    """Where a run has been stopped, for its statistics.

    Args:
        stops: Where each member was stopped.
        ensemble: Whether the run is an ensemble.

    Returns:
        `stopped_by` and `stopped_at`; of an ensemble lists, one entry a member.
    """
    if ensemble:
        by, at = [stop.by for stop in stops], [stop.at for stop in stops]
        return {"stopped_by": by, "stopped_at": at}
    return {"stopped_by": stops[0].by, "stopped_at": stops[0].at}
