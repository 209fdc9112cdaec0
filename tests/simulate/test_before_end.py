"""What is kept for a longer run, of members that come to the end at different times."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.simulate._auto import Log
from ntkflow.simulate._before_end import go_on, keep_previous, note_end
from ntkflow.simulate._reason import Reason
from ntkflow.simulate._records import SolveState
from ntkflow.simulate._segments import SegmentedState
from ntkflow.simulate._tally import Tally

END, FLOOR = 4.0, 3.9


def stand(t, proposed, *, kept=(True, True), end=END, floor=FLOOR):
    """Two members at t, whose next steps are cut at the end."""
    t, proposed, kept = jnp.asarray(t), jnp.asarray(proposed), jnp.asarray(kept)
    clipped = jnp.where(kept, end, t + 0.5 * (end - t))
    tnext = jnp.where(proposed > floor, clipped, proposed)
    nothing: Any = None
    controller = SegmentedState(
        nothing, tnext, proposed, kept, nothing, nothing, nothing, nothing
    )
    return SolveState(t, {"gradient": 10 * t}, nothing, controller, made_jump=False)


def count(steps, saved, code=(Reason.RUNNING, Reason.RUNNING), log=None):
    tally = Tally.zeros(2)
    tally.steps, tally.saved = np.asarray(steps), np.asarray(saved)
    tally.code, tally.log = np.asarray(code), log
    return tally


def passed(log=None):
    """The first member comes to the end, then the second."""
    before = note_end(None, stand([3.0, 1.0], [5.0, 2.0]), count([7, 7], [3, 1]))
    code = [Reason.COMPLETED, Reason.RUNNING]
    state = stand([4.0, 2.0], [9.0, 3.0])
    before = note_end(before, state, count([8, 8], [4, 2], code, log))
    state = stand([4.0, 3.0], [9.0, 6.0], kept=(True, False))
    return note_end(before, state, count([8, 9], [4, 3], code, log))


def test_nothing_is_kept_while_the_end_is_out_of_sight():
    assert note_end(None, stand([1.0, 2.0], [2.0, 3.0]), count([3, 3], [0, 0])) is None


def test_every_member_goes_on_from_before_its_own_end():
    before = passed()
    final = stand([4.0, 4.0], [9.0, 8.0])
    code = [Reason.COMPLETED, Reason.COMPLETED]
    end = jnp.asarray(5.5), jnp.asarray(5.4)
    state, tally, back = go_on(before, final, count([8, 11], [4, 4], code), end)
    assert back.all()
    np.testing.assert_array_equal(state.t, [3.0, 3.0])
    np.testing.assert_array_equal(state.y["gradient"], [30.0, 30.0])
    # The one kept its step, the other was to halve what is left.
    np.testing.assert_array_equal(state.controller.tnext, [5.0, 3.0 + 2.5 / 2])
    np.testing.assert_array_equal(tally.steps, [7, 9])
    np.testing.assert_array_equal(tally.saved, [3, 3])
    assert tally.running.all()


@pytest.mark.parametrize("reason", [Reason.EVENT, Reason.DIVERGED])
def test_what_ended_a_member_before_the_end_was_in_sight_ends_it_again(reason):
    before = passed()
    final, end = stand([4.0, 4.0], [9.0, 8.0]), (jnp.asarray(9.0), jnp.asarray(8.9))
    for saved, goes_back in ((2, False), (3, True)):
        code = [Reason.COMPLETED, reason]
        found = go_on(before, final, count([8, 11], [4, saved], code), end)
        assert found is not None
        _, tally, back = found
        assert back.tolist() == [True, goes_back]
        assert tally.code[1] == (Reason.RUNNING if goes_back else reason)
        assert tally.saved.tolist() == [3, 3 if goes_back else 2]


def test_members_that_cannot_go_back_begin_anew():
    final, end = stand([4.0, 4.0], [9.0, 8.0]), (jnp.asarray(9.0), jnp.asarray(8.9))
    ended = count([1, 1], [4, 4], [Reason.COMPLETED, Reason.COMPLETED])
    assert go_on(None, final, ended, end) is None
    # `auto` has decided for both between the end of one and that of the other.
    log = Log()
    log.decisions.append({})
    assert not passed(log).usable
    assert go_on(passed(log), final, ended, end) is None
    # A solver that fails in sight of the end gives way to one that has seen it.
    code = [Reason.RUNNING, Reason.SPECTRUM]
    before = note_end(None, stand([3.0, 3.0], [5.0, 5.0]), count([7, 7], [3, 3], code))
    assert before is not None
    assert go_on(before, final, ended, end) is None


def test_the_last_saved_states_of_members_are_kept_when_each_comes_to_the_end():
    """A costly condition is located from there, member by member."""
    before = note_end(None, stand([3.0, 1.0], [5.0, 2.0]), count([7, 7], [3, 1]))
    assert before is not None
    keep_previous(before, {"y": jnp.array([10.0, 20.0])})
    keep_previous(before, {"y": jnp.array([11.0, 21.0])})
    assert before.previous["y"].tolist() == [10.0, 20.0]
    later = note_end(before, stand([5.0, 3.0], [5.0, 5.0]), count([8, 8], [4, 2]))
    assert later is not None
    keep_previous(later, {"y": jnp.array([12.0, 22.0])})
    assert later.previous["y"].tolist() == [10.0, 22.0]
