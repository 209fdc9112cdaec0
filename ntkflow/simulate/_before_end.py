"""Where a run stood before its end changed a step: where a longer run goes on.

A step that would pass the end of a run is cut there. What comes of it, and whatever
follows, belongs to this run alone; one to a later time, which is to be the same as if
it had been asked for at first, goes on from the state before. Members of an ensemble
come to it at different times, and each is kept as it was.
"""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from ._reason import Reason
from ._records import SolveState
from ._segments import cut_at
from ._tally import Tally

State = TypeVar("State")

_ENDED = (
    Reason.EVENT,
    Reason.DIVERGED,
    Reason.STEP_UNDERFLOW,
    Reason.SPECTRUM,
    Reason.FACTORIZATION,
)
"""Why a run ends before its end, and a longer one where it does."""

_FAILED = (Reason.SPECTRUM, Reason.FACTORIZATION)
"""Failures of a solver, after which `auto` takes another one."""


@dataclass
class BeforeEnd:
    """The last state of every member that the end of the run has not touched.

    Attributes:
        state: The states.
        tally: Their tallies; `log` is what `auto` had done at the first of them.
        known: Which members have come so far.
        usable: Whether the members belong together: `auto`, which decides for all of
            them, has not decided between the first and the last.
        previous: The last coupled state saved before, if a stop condition may have to
            be located from there.
        has_previous: Which members have it.
    """

    state: SolveState
    tally: Tally
    known: np.ndarray
    usable: bool = True
    previous: Any = None
    has_previous: np.ndarray | None = None


def note_end(
    before: BeforeEnd | None, state: SolveState, tally: Tally
) -> BeforeEnd | None:
    """Keeps members whose next step the end has cut for the first time.

    Args:
        before: What is kept already.
        state: Where the members stand, at the end of a segment.
        tally: Their tally, before `auto` decides.

    Returns:
        What is to be kept; None while no step has been cut.
    """
    cut = ~np.atleast_1d(np.asarray(state.controller.whole))
    known = np.zeros_like(cut) if before is None else before.known
    new = cut & ~known & (tally.steps > 0)
    failed = np.isin(tally.code, _FAILED)
    new &= failed | ~np.isin(tally.code, _ENDED)
    if not new.any():
        return before
    own = tally.copy()
    own.code = np.where(new, Reason.RUNNING, own.code)
    # A solver that has failed is not gone on with, and what takes over saw the end.
    if before is None:
        return BeforeEnd(state, own, new, usable=not (new & failed).any())
    if (new & failed).any() or _decisions(own) != _decisions(before.tally):
        return replace(before, known=known | new, usable=False)
    return replace(
        before,
        state=select(new, state, before.state),
        tally=own.where(new, before.tally),
        known=known | new,
    )


def keep_previous(before: BeforeEnd, previous: Any) -> None:
    """Keeps the last saved states of members that have come to the end since.

    Args:
        before: What is kept of them.
        previous: The last coupled states that are saved.
    """
    if before.has_previous is None:
        before.previous = previous
    else:
        new = before.known & ~before.has_previous
        before.previous = select(new, previous, before.previous)
    before.has_previous = before.known


def select(members: np.ndarray, new: State, old: State) -> State:
    """The states of some members, and other states of the others.

    Args:
        members: Which members.
        new: Their states.
        old: The states of the others, of the same structure.

    Returns:
        The states.
    """
    if members.all():
        return new
    if not members.any():
        return old

    def keep(a: Any, b: Any) -> Any:
        if not eqx.is_array(a):
            return a
        return jnp.where(members.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jtu.tree_map(keep, new, old)


def go_on(
    before: BeforeEnd | None,
    state: SolveState,
    tally: Tally,
    end: tuple[Any, Any],
) -> tuple[SolveState, Tally, np.ndarray] | None:
    """Where a run to a later end goes on.

    Args:
        before: What was kept.
        state: Where the shorter run has ended, or stands.
        tally: Its tally.
        end: The later end, and the time past which a step is taken to it.

    Returns:
        State, tally, and which members go back; None where one has to begin anew.
    """
    known = np.zeros_like(tally.running) if before is None else before.known
    saved = tally.saved if before is None else before.tally.saved
    # What ended a member before the end was in sight ends the longer run as well.
    stays = np.isin(tally.code, _ENDED) & (~known | (tally.saved < saved))
    back = known & ~stays
    whole = np.atleast_1d(np.asarray(state.controller.whole))
    lost = ~stays & ~back & (~whole | (tally.code == Reason.COMPLETED))
    if lost.any():
        return None
    if before is None or not back.any():
        return _cut(state, tally, end), tally, back
    mixed = not back.all() and _decisions(tally) != _decisions(before.tally)
    if mixed or not before.usable:
        return None
    tally = before.tally.copy().where(back, tally)
    state = before.state if back.all() else select(back, before.state, state)
    return _cut(state, tally, end), tally, back


def _cut(state: SolveState, tally: Tally, end: tuple[Any, Any]) -> SolveState:
    ended = np.isin(tally.code, _ENDED)
    cut = state._replace(controller=cut_at(state.controller, state.t, *end))
    if len(ended) == 1 and np.ndim(state.t) == 0:
        return state if ended.all() else cut
    return select(~ended, cut, state)


def _decisions(tally: Tally) -> int:
    return 0 if tally.log is None else len(tally.log.decisions)
