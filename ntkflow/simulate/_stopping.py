"""Finding where a member meets a stop condition, and reading it there."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import jax.tree_util as jtu

from ..flows import OutputState, Packed
from ..storage import printed
from ._before_end import keep_previous
from ._events import AbstractEvent
from ._integrate import Integration
from ._lanes import Lanes, take
from ._locate import locate
from ._member import Lane, constants_of, memory_before
from ._reading import Reader, Record, read_record
from ._request import Request
from ._stops import Stop

Met = tuple[AbstractEvent, float, Packed]
"""A stop condition, training time at which it is met, and the coupled state there."""


def state_of(lanes: Lanes, tree: Any, i: int) -> Any:
    """What one member has of a tree of arrays that all members share.

    Args:
        lanes: The models.
        tree: Arrays, of an ensemble with an axis of members in front.
        i: Index of the member.

    Returns:
        The tree of that member.
    """
    return tree if lanes.number is None else take(tree, i)


def begin_search(integration: Integration, lanes: Sequence[Lane]) -> None:
    """Takes the start as the last state at which no costly condition is met.

    Args:
        integration: The solve.
        lanes: Its members.
    """
    for i, lane in enumerate(lanes):
        lane.previous = 0.0, state_of(integration.lanes, integration.start.y, i)


def find_costly(
    request: Request,
    integration: Integration,
    lane: Lane,
    i: int,
    record: Record,
    time: float,
) -> Met | None:
    """Where a member has met a costly condition before a save time.

    Args:
        request: The request.
        integration: The solve.
        lane: The member.
        i: Its index.
        record: What was read at the save time.
        time: The save time.

    Returns:
        The first condition that is met; None if none is.
    """
    met = []
    for e, event in enumerate(request.costly):
        if f"event/{e}" in record and record[f"event/{e}"] <= 0:
            stop, there = locate(
                integration.lanes.member_of(integration.solve, i),
                lane.problem,
                constants_of(integration, i),
                lane.previous,
                time,
                event,
                lane.reference.events[e],
                request.rtol,
            )
            met.append((event, stop, there))
    return min(met, key=lambda found: found[1], default=None)


def read_stop(
    request: Request,
    reader: Reader,
    lane: Lane,
    constants: Any,
    met: Met,
    linearized: OutputState | None,
) -> Stop:
    """Reads a member where a stop condition has ended it.

    Args:
        request: The request.
        reader: What reads the member.
        lane: The member.
        constants: What its flows prepared.
        met: The condition.
        linearized: Outputs of a linearized flow of another solve.

    Returns:
        The stop, without a record where that is a save time.
    """
    event, stop, state = met
    times, at = request.times, len(lane.records)
    if at > 0 and times[at - 1] == stop:
        return Stop(printed(event), stop)
    memory = memory_before(lane, times, at)
    record = read_record(
        reader, lane.problem, constants, lane.reference, stop, state, linearized, memory
    )
    return Stop(printed(event), stop, record)


def stack_previous(lanes: Sequence[Lane], *, ensemble: bool) -> Any:
    """The last saved states of all members, from which costly conditions are located.

    Args:
        lanes: The members.
        ensemble: Whether they are those of an ensemble.

    Returns:
        The coupled state, of an ensemble with an axis of members in front.
    """
    states = [lane.previous[1] for lane in lanes]
    return jtu.tree_map(lambda *s: jnp.stack(s), *states) if ensemble else states[0]


def keep_before_end(integration: Integration, lanes: Sequence[Lane]) -> None:
    """Keeps the last saved states beside those in which the end is first seen.

    Args:
        integration: The solve.
        lanes: Its members.
    """
    before = integration.before_end
    if before is not None:
        ensemble = integration.lanes.number is not None
        keep_previous(before, stack_previous(lanes, ensemble=ensemble))
