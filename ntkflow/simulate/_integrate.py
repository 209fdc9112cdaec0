"""The host loop: strings the segments of one solve together.

The loop owns everything that must not be traced: which save times come next, when the
run has ended, and what a segment cost. A single run and an ensemble differ only in
whether the compiled functions are wrapped in `vmap`; the host sees lanes either way.
"""

import time as clock
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .._types import Params
from ..problem import Problem
from ..solvers import Work
from ._reason import Reason
from ._segments import clip_floor
from ._solve import Progressed, Solve, SolveState, Span

_WINDOW_BYTES = 64 * 2**20
"""Saved states a segment may hold on the device before it ends."""


class Lanes(NamedTuple):
    """The models a solve integrates: one, or an ensemble stacked on a leading axis.

    Attributes:
        problem: Data, loss and settings; of one lane, its model too.
        params: Trained leaves, stacked if `number` is not None.
        static: The other leaves, likewise.
        number: Number of lanes of an ensemble, or None for a single run.
    """

    problem: Problem
    params: Params
    static: Any
    number: int | None

    def lane(self, i: int) -> Problem:
        """The problem of one lane.

        Args:
            i: Its index.

        Returns:
            A problem with that lane's model.
        """
        if self.number is None:
            return self.problem
        return self.problem.with_parts(take(self.params, i), take(self.static, i))


@dataclass
class Tally:
    """What a solve has cost and where it stands, lane by lane; part of a checkpoint.

    Attributes:
        saved: Save times passed.
        steps: Steps attempted.
        rejected: Steps rejected.
        code: A `Reason`.
        event: Index of the event that ended the lane, −1 if none.
        work: What the attempts cost, one column a field of `Work`.
        seconds: Wall time spent integrating, compilation included.
    """

    saved: np.ndarray
    steps: np.ndarray
    rejected: np.ndarray
    code: np.ndarray
    event: np.ndarray
    work: np.ndarray
    seconds: float = 0.0

    @classmethod
    def zeros(cls, lanes: int) -> "Tally":
        """Nothing done yet.

        Args:
            lanes: Number of lanes.

        Returns:
            A tally.
        """
        start, none = np.zeros(lanes, np.int64), np.full(lanes, -1)
        work = np.zeros((lanes, len(Work._fields)), np.int64)
        return cls(start, start.copy(), start.copy(), start.copy(), none, work)

    @property
    def cost(self) -> dict[str, int]:
        """The work of all lanes, by the fields of `Work`."""
        totals = self.work.sum(axis=0).tolist()
        return dict(zip(Work._fields, totals, strict=True))

    @property
    def running(self) -> np.ndarray:
        """Which lanes have more to do."""
        return self.code == Reason.RUNNING


@dataclass
class Segment:
    """What the host learns from one segment.

    Attributes:
        state: Where all lanes stand.
        times: Training time reached, lane by lane.
        first: Index of the first save time of each lane's newly saved states.
        saved: Newly saved states, lane by lane, one pytree a save time.
        interpolation: Dense output, or None.
    """

    state: SolveState
    times: np.ndarray
    first: np.ndarray
    saved: list[list[dict[str, Any]]]
    interpolation: Any = field(repr=False)


def take(tree: Any, i: int) -> Any:
    """One entry of the leading axis of every array of a pytree.

    Args:
        tree: A pytree; leaves that are not arrays are kept.
        i: The index.

    Returns:
        The pytree without that axis.
    """
    return jtu.tree_map(lambda leaf: leaf[i] if eqx.is_array(leaf) else leaf, tree)


@eqx.filter_jit
def prepare(solve: Solve, problem: Problem) -> dict[str, Any]:
    """The constants of a run: the flows' and the references of cheap events.

    Args:
        solve: The solve.
        problem: The problem.

    Returns:
        Arrays by flow name, and under `"events"`.
    """
    constants = solve.coupled.prepare(problem)
    constants["events"] = [event.reference(problem) for event in solve.events]
    return constants


@eqx.filter_jit
def _start(solve: Solve, problem: Problem, constants: Any, end: jax.Array):
    return solve.start(problem, constants, end)


@eqx.filter_jit
def _advance(solve: Solve, problem: Problem, constants: Any, state: Any, span: Span):
    return solve.advance(problem, constants, state, span)


class Integration:
    """One solve over its save times.

    Args:
        solve: What to integrate, and how.
        lanes: The model or models.
        ts: Save times.
        segment_steps: Steps a segment may attempt.
        max_steps: Steps the whole run may attempt.
    """

    def __init__(
        self,
        solve: Solve,
        lanes: Lanes,
        ts: np.ndarray,
        *,
        segment_steps: int,
        max_steps: int,
    ):
        self.solve = solve
        self.lanes = lanes
        self.count = 1 if lanes.number is None else lanes.number
        self.segment_steps = segment_steps
        self.max_steps = max_steps
        self._ts = ts.astype(lanes.problem.dtype)
        self._end = self._ts[-1]
        self._floor = clip_floor(self._end)
        self.constants = self._over_lanes(prepare, solve)
        self.state: SolveState = self._over_lanes(
            _start, solve, constants=self.constants, extra=(jnp.asarray(self._end),)
        )
        self.tally = Tally.zeros(self.count)
        self._width = self._window_width()

    def _over_lanes(self, function, solve, constants=None, extra=()) -> Any:
        """Calls `function(solve, problem, [constants], *extra)` on every lane."""
        lanes = self.lanes
        if lanes.number is None:
            given = () if constants is None else (constants,)
            return function(solve, lanes.problem, *given, *extra)

        def one(params, static, constants):
            problem = lanes.problem.with_parts(params, static)
            given = () if constants is None else (constants,)
            return function(solve, problem, *given, *extra)

        return eqx.filter_vmap(one)(lanes.params, lanes.static, constants)

    def _window_width(self) -> int:
        leaves = jtu.tree_leaves(eqx.filter(self.state.y, eqx.is_array))
        size = sum(leaf.nbytes for leaf in leaves)
        return int(np.clip(_WINDOW_BYTES // max(size, 1), 1, len(self._ts)))

    def _span(self) -> Span:
        tally = self.tally
        index = tally.saved[:, None] + np.arange(self._width)[None, :]
        window = self._ts[np.minimum(index, len(self._ts) - 1)]
        # The first segment compiles: it is one step, so that the second tells the pace.
        steps = np.where(tally.steps == 0, 1, self.segment_steps)
        budget = np.minimum(steps, self.max_steps - tally.steps)
        # A lane that has ended is given no save time but the last and no step at all.
        budget = np.where(tally.running, budget, 0).astype(np.int32)
        if self.lanes.number is None:
            window, budget = window[0], budget[0]
        return Span(
            jnp.asarray(window),
            jnp.asarray(budget),
            jnp.asarray(self._end),
            jnp.asarray(self._floor),
        )

    def _advance(self) -> Progressed:
        lanes, span = self.lanes, self._span()
        if lanes.number is None:
            return _advance(self.solve, lanes.problem, self.constants, self.state, span)
        return _advance_many(
            self.solve,
            lanes.problem,
            (lanes.params, lanes.static, self.constants, self.state),
            span,
        )

    def allow_more_steps(self) -> None:
        """Lets lanes go on that an earlier, smaller `max_steps` had ended."""
        tally = self.tally
        ended = np.isin(tally.code, (Reason.MAX_STEPS, Reason.STAGES))
        short = ended & (tally.steps < self.max_steps)
        tally.code = np.where(short, Reason.RUNNING, tally.code)

    def segments(self) -> Iterator[Segment]:
        """Integrates until every lane has ended.

        Yields:
            One segment after another; the tally is up to date at each.
        """
        tally = self.tally
        while tally.running.any():
            began = clock.perf_counter()
            ran = tally.running
            out = self._advance()
            n_saved, code, steps, rejected, event, times = (
                np.atleast_1d(np.asarray(value))
                for value in (
                    out.n_saved,
                    out.code,
                    out.steps,
                    out.rejected,
                    out.event,
                    out.state.t,
                )
            )
            tally.seconds += clock.perf_counter() - began
            first = tally.saved.copy()
            new = np.where(ran, np.minimum(n_saved, len(self._ts) - first), 0)
            tally.saved = first + new
            tally.steps = tally.steps + np.where(ran, steps, 0)
            tally.rejected = tally.rejected + np.where(ran, rejected, 0)
            cost = np.stack([np.atleast_1d(np.asarray(w)) for w in out.work], axis=-1)
            tally.work = tally.work + np.where(ran[:, None], cost, 0)
            out_of_steps = (code == Reason.RUNNING) & (tally.steps >= self.max_steps)
            code = np.where(out_of_steps, self._out_of_steps(), code)
            tally.code = np.where(ran, code, tally.code)
            tally.event = np.where(ran, event, tally.event)
            self.state = out.state
            saved = [self._saved(out, i, int(new[i])) for i in range(self.count)]
            yield Segment(out.state, times, first, saved, out.interpolation)

    def _out_of_steps(self) -> np.ndarray:
        """Why so many steps: mostly refused ones, or just many."""
        refused = self.tally.work[:, Work._fields.index("refused")]
        mostly = 2 * refused >= self.tally.steps
        return np.where(mostly, Reason.STAGES, Reason.MAX_STEPS)

    def _saved(self, out: Progressed, lane: int, count: int) -> list[dict[str, Any]]:
        tree = out.saved if self.lanes.number is None else take(out.saved, lane)
        return [take(tree, i) for i in range(count)]


@eqx.filter_jit
def _advance_many(solve: Solve, problem: Problem, stacked: Any, span: Span):
    def one(stacked, window, budget):
        params, static, constants, state = stacked
        lane = problem.with_parts(params, static)
        lane_span = Span(window, budget, span.end, span.end_floor)
        return solve.advance(lane, constants, state, lane_span)

    return eqx.filter_vmap(one)(stacked, span.window, span.max_steps)
