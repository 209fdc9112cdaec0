"""The host loop: strings the segments of one solve together.

The loop owns everything that must not be traced: which save times come next, when the
run has ended, and what a segment cost. A single run and an ensemble differ only in
whether the compiled functions are wrapped in `vmap`; the host sees lanes either way.
"""

# Longer than 400 lines: whatever stands between two segments changes one state and one
# tally.

import time as clock
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .._precision import at_full_precision
from ..problem import Problem
from ..solvers import AbstractCountedSolver, EqualSteps, Work
from ._auto import Auto, Log, Seen
from ._before_end import BeforeEnd, note_end, select
from ._compiling import CompileClock
from ._forecast import Prices, price
from ._lanes import Lanes, split_numbers, take
from ._reason import Reason
from ._records import Progressed, SolveState, Span
from ._segments import clip_floor
from ._solve import Solve
from ._tally import Tally

_UNBOUNDED = np.iinfo(np.int64).max

_WINDOW = 32
"""Save times of a segment are a multiple of this many, the last one repeated, so that
most runs share a program and a longer one rounds alike."""

_WINDOW_BYTES = 64 * 2**20
"""Saved states a segment may hold on the device before it ends."""


@dataclass
class Segment:
    """What the host learns from one segment.

    Attributes:
        state: Where all lanes stand.
        times: Training time reached, lane by lane.
        first: Index of the first save time of each lane's newly saved states.
        saved: Newly saved states, lane by lane, one pytree a save time.
        interpolation: Dense output, or None.
        next_solver: The solver that takes over after it, or None.
    """

    state: SolveState
    times: np.ndarray
    first: np.ndarray
    saved: list[list[dict[str, Any]]]
    interpolation: Any = field(repr=False)
    next_solver: str | None


@eqx.filter_jit
@at_full_precision
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
@at_full_precision
def _start(solve: Solve, problem: Problem, constants: Any, end: jax.Array):
    return solve.start(problem, constants, end)


@at_full_precision
def _taking_over(
    solve: Solve, problem: Problem, constants: Any, state: SolveState, end: jax.Array
):
    return solve.take_over(problem, constants, state, end)


_take_over = eqx.filter_jit(_taking_over)


@eqx.filter_jit
@at_full_precision
def _advance(solve: Solve, problem: Problem, constants: Any, state: Any, span: Span):
    return solve.advance(problem, constants, state, span)


class Integration:
    """One solve over its save times.

    Args:
        solve: What to integrate, and how.
        lanes: The model or models.
        ts: Save times.
        choices: By name, the same solve with every solver that `auto` may take.
        auto: How it takes one; None to stay with `solve`.
        segment_steps: Steps a segment may attempt.
        max_steps: Steps the whole run may attempt; None for as many as it takes.
        compiling: Measures what compiling takes.
        constants: From `prepare`, of the same flows; computed here if None.
        decides_late: Whether `auto` decides when a segment has been read, which may end
            members, and not before: it decides for those that go on.
    """

    def __init__(
        self,
        solve: Solve,
        lanes: Lanes,
        ts: np.ndarray,
        *,
        choices: Mapping[str, Solve],
        auto: Auto | None,
        segment_steps: int,
        max_steps: int | None,
        compiling: CompileClock,
        constants: Any = None,
        decides_late: bool = False,
    ):
        self.solve = solve
        self.lanes = lanes
        self.count = 1 if lanes.number is None else lanes.number
        self.segment_steps = segment_steps
        self.max_steps = _UNBOUNDED if max_steps is None else max_steps
        self._choices, self._auto = choices, auto
        self._decides_late = decides_late
        self._compiling = compiling
        self._prices: Prices | None = None
        self._ts = ts.astype(lanes.problem.dtype)
        self._end = self._ts[-1]
        self._floor = clip_floor(self._end)
        self.constants = constants
        if constants is None:
            self.constants = self._over_lanes(prepare, solve)
        self._first = solve
        self.start: SolveState = self._over_lanes(
            _start, solve, self.constants, extra=(jnp.asarray(self._end),)
        )
        self.state = self.start
        self.before_end: BeforeEnd | None = None
        self.tally = Tally.zeros(self.count)
        self.tally.work += self._begun()
        if auto is not None:
            self.tally.log = Log()
        self._width = self._window_width()

    def _over_lanes(self, function, solve, *per_lane, extra=()) -> Any:
        """Calls `function(solve, problem, *per_lane, *extra)` on every lane."""
        lanes = self.lanes
        if lanes.number is None:
            return function(solve, lanes.problem, *per_lane, *extra)

        own, shared = split_numbers(solve)

        def one(own, params, static, per_lane):
            problem = lanes.problem.with_parts(params, static)
            return function(eqx.combine(own, shared), problem, *per_lane, *extra)

        return eqx.filter_vmap(one)(own, lanes.params, lanes.static, per_lane)

    def like(self, log: Log | None) -> SolveState:
        """What the state of a solve looks like when `auto` stands as it says.

        Args:
            log: The log, or None.

        Returns:
            A state of the structure that the solver in use has.
        """
        if log is None:
            return self.state
        return eqx.filter_eval_shape(self._taken_over, log.name, _taking_over)

    @property
    def end(self) -> tuple[Any, Any]:
        """The end of the run, and the time past which a step is taken to it."""
        end, floor = jnp.asarray(self._end), jnp.asarray(self._floor)
        return end, self.solve.ends(end, floor)[1]

    def resume(
        self, state: SolveState, tally: Tally, before_end: BeforeEnd | None
    ) -> None:
        """Goes on from an earlier state, beyond `max_steps` if that is larger now.

        Args:
            state: The state.
            tally: Its tally.
            before_end: Where it stood before its end changed a step, or None.
        """
        self.state, self.tally, self.before_end = state, tally, before_end
        if tally.log is not None:
            self.solve = self._choices[tally.log.name]
        self._continue_spent()

    def unbind(self) -> None:
        """Takes the bound on the steps away."""
        self.max_steps = _UNBOUNDED
        self._continue_spent()

    def _continue_spent(self) -> None:
        tally = self.tally
        ended = np.isin(tally.code, (Reason.MAX_STEPS, Reason.STAGES))
        short = ended & (tally.steps < self.max_steps)
        tally.code = np.where(short, Reason.RUNNING, tally.code)

    def _window_width(self) -> int:
        leaves = jtu.tree_leaves(eqx.filter(self.state.y, eqx.is_array))
        size = sum(leaf.nbytes for leaf in leaves)
        wanted = -(-len(self._ts) // _WINDOW) * _WINDOW
        least = self._most_in_a_step() + 1
        return int(np.clip(_WINDOW_BYTES // max(size, 1), least, max(wanted, least)))

    def _most_in_a_step(self) -> int:
        """Save times in a step of fixed length at most; 0 where steps can be cut."""
        controller = self.solve.controller
        if isinstance(controller, EqualSteps):
            length = np.max(np.asarray(controller.length))
        elif isinstance(controller, dfx.ConstantStepSize):
            length = np.asarray(self.solve.dt0)
        else:
            return 0
        behind = np.searchsorted(self._ts, self._ts + length, side="right")
        return int((behind - np.arange(len(self._ts))).max())

    def _span(self) -> tuple[Span, np.ndarray]:
        """What the next segment is asked for, and which lanes move in it."""
        tally, log = self.tally, self.tally.log
        index = tally.saved[:, None] + np.arange(self._width)[None, :]
        window = self._ts[np.minimum(index, len(self._ts) - 1)]
        behind = np.append(self._ts, self._ts.dtype.type(np.inf))
        limit = behind[np.minimum(tally.saved + self._width, len(self._ts))]
        # What compiles is one step, so that the next segment tells the pace.
        begun = 0 if log is None else log.since
        steps = np.where(tally.steps == begun, 1, self.segment_steps)
        budget = np.minimum(steps, self.max_steps - tally.steps)
        if log is not None:
            budget = np.minimum(budget, log.due - tally.steps)
        # A lane that has ended, or waits for a decision, is given no save time but the
        # last and no step at all: it may stand beyond the save times it counts.
        budget = np.where(tally.running, budget, 0).astype(np.int32)
        moves = budget > 0
        window = np.where(moves[:, None], window, self._end)
        window = _from(window, np.atleast_1d(np.asarray(self.state.t))[:, None])
        if self.lanes.number is None:
            window, limit, budget = window[0], limit[0], budget[0]
        span = Span(
            jnp.asarray(window),
            jnp.asarray(limit),
            jnp.asarray(budget),
            jnp.asarray(self._end),
            jnp.asarray(self._floor),
        )
        return span, moves

    def _advance(self, span: Span, moves: np.ndarray) -> Progressed:
        lanes = self.lanes
        if lanes.number is None:
            return _advance(self.solve, lanes.problem, self.constants, self.state, span)
        own, shared = split_numbers(self.solve)
        out = _advance_many(
            shared,
            lanes.problem,
            (own, lanes.params, lanes.static, self.constants, self.state),
            span,
        )
        if not self.solve.events:
            return out
        for i in np.flatnonzero(moves & (np.asarray(out.event) >= 0)):
            out = jtu.tree_map(
                partial(_with_row, int(i)), out, self._alone(int(i), span)
            )
        return out

    def _alone(self, i: int, span: Span) -> Progressed:
        """A segment of one member, to where it meets a stop condition."""
        lanes, whole = self.lanes, (span.end, span.end_floor)
        return _advance(
            lanes.member_of(self.solve, i),
            lanes.lane(i),
            take(self.constants, i),
            take(self.state, i),
            Span(span.window[i], span.limit[i], span.max_steps[i], *whole),
        )

    def segments(self) -> Iterator[Segment]:
        """Integrates until every lane has ended.

        Yields:
            One segment after another; the tally is up to date at each.
        """
        tally = self.tally
        while tally.running.any():
            began, compiled = clock.perf_counter(), self._compiling.seconds
            span, ran = self._span()
            if not ran.any():
                # All wait for a decision. A segment would move a single run.
                self._decide()
                span, ran = self._span()
            out = self._advance(span, ran)
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
            compiled = self._compiling.seconds - compiled
            tally.seconds += max(clock.perf_counter() - began - compiled, 0.0)
            times = np.where(ran, times, np.atleast_1d(np.asarray(self.state.t)))
            tally.reached = np.where(ran, times, tally.reached)
            first = tally.saved.copy()
            new = np.where(ran, np.minimum(n_saved, len(self._ts) - first), 0)
            tally.saved = first + new
            tally.steps = tally.steps + np.where(ran, steps, 0)
            tally.rejected = tally.rejected + np.where(ran, rejected, 0)
            cost = np.stack([np.atleast_1d(np.asarray(w)) for w in out.work], axis=-1)
            tally.work = tally.work + np.where(ran[:, None], cost, 0)
            tally.code = np.where(ran, code, tally.code)
            self._end_spent()
            tally.event = np.where(ran, event, tally.event)
            self.state = self._moved(out.state, ran)
            growth = self.state.controller.growth
            tally.growth = np.atleast_1d(np.asarray(growth.largest, np.float64))
            tally.growth_at = np.atleast_1d(np.asarray(growth.at, np.float64))
            self.before_end = note_end(self.before_end, self.state, tally)
            saved = [self._saved(out, i, int(new[i])) for i in range(self.count)]
            # What is read at save times may end members before the next segment begins.
            late = self._decides_late and not self._failed.any()
            name = None if late else self._decide()
            yield Segment(self.state, times, first, saved, out.interpolation, name)

    @property
    def _failed(self) -> np.ndarray:
        return np.isin(self.tally.code, (Reason.SPECTRUM, Reason.FACTORIZATION))

    def _moved(self, state: SolveState, ran: np.ndarray) -> SolveState:
        """The state after a segment; of lanes that did not move, that before it."""
        return select(ran, state, self.state)

    def _decide(self) -> str | None:
        """Lets `auto` decide where it is due; the solver that takes over, or None."""
        auto, tally = self._auto, self.tally
        log = tally.log
        if auto is None or log is None:
            return None
        failed = self._failed
        # A run that is cut here by `max_steps` decides as it does where it goes on: one
        # resumed with a decision due would be given no step to make.
        cut = np.isin(tally.code, (Reason.MAX_STEPS, Reason.STAGES))
        running = tally.running | cut
        if failed.any():
            tally.code = np.where(failed, Reason.RUNNING, tally.code)
            name = self._hand_over(log, auto.after_failure(log), self._seen(failed))
            self._end_spent()
            return name
        if not running.any() or (tally.steps < log.due)[running].any():
            return None
        seen = self._seen(running)
        auto.note(log, seen)
        name = log.name
        if not auto.stays_explicit(log):
            kept = log.keep_decision(seen)
            name = kept["chosen"] = auto.choose(log, seen, self.prices)
        if name == log.name:
            log.turn(seen)
            return None
        return self._hand_over(log, name, seen)

    @property
    def prices(self) -> Prices:
        """What things cost, which is found out once."""
        if self._prices is None:
            one = self.constants, self.state.y
            if self.lanes.number is not None:
                one = take(one, 0)
            solve = self.lanes.member_of(self.solve, 0)
            self._prices = price(solve, self.lanes.lane(0), *one)
        return self._prices

    def would_repeat(self, shorter: float, log: Log | None) -> bool:
        """Whether a run to an earlier end began, and has decided, as this one does.

        Args:
            shorter: The earlier end.
            log: What `auto` did in it.

        Returns:
            Whether it did; False also where the earlier end has cut the first step.
        """
        end = jnp.asarray(shorter, self._end.dtype)
        begun = self._over_lanes(
            _start, self._first, self.constants, extra=(end,)
        ).controller
        begins = self.start.controller
        same = eqx.tree_equal(
            (begun.inner, begun.proposed), (begins.inner, begins.proposed)
        )
        if not (same and bool(jnp.all(begun.whole))):
            return False
        if self._auto is None or log is None:
            return True
        return self._auto.decides_alike(log, self.prices)

    def _hand_over(self, log: Log, name: str, seen: Seen) -> str:
        self.state = self._taken_over(name, _take_over)
        self.solve = self._choices[name]
        begun = self._begun()
        self.tally.work += begun
        log.hand_over(name, seen)
        # What it takes to begin says nothing about the pace after it.
        log.turn(seen._replace(work=tuple(seen.work + begun.mean(axis=0))))
        return name

    def _begun(self) -> np.ndarray:
        """What starting the solver in use has cost, as `Tally.work`."""
        solver = self.solve.solver
        if not isinstance(solver, AbstractCountedSolver):
            return np.zeros_like(self.tally.work)
        begun = solver.begun
        if self.lanes.number is not None:
            begun = eqx.filter_vmap(begun)
        counts = begun(self.state.solver)
        return np.stack([np.atleast_1d(np.asarray(c)) for c in counts], axis=-1)

    def _taken_over(self, name: str, function: Callable) -> SolveState:
        return self._over_lanes(
            function,
            self._choices[name],
            self.constants,
            self.state,
            extra=(jnp.asarray(self._end),),
        )

    def _seen(self, lanes: np.ndarray) -> Seen:
        """What `auto` sees of some lanes: the slowest, and the stiffest."""
        tally = self.tally
        solver = cast(AbstractCountedSolver, self.solve.solver)
        radius = solver.radius
        if self.lanes.number is not None:
            radius = eqx.filter_vmap(radius)
        rho = np.atleast_1d(np.asarray(radius(self.state.solver)))[lanes]
        return Seen(
            float(np.atleast_1d(np.asarray(self.state.t))[lanes].min()),
            int(tally.steps[lanes].max()),
            int((tally.steps - tally.rejected)[lanes].min()),
            float(np.max(rho)),
            tuple(tally.work[lanes].mean(axis=0).tolist()),
        )

    def _end_spent(self) -> None:
        """Ends lanes that have no steps left: mostly refused ones, or just many."""
        tally = self.tally
        mostly = 2 * tally.work[:, Work._fields.index("refused")] >= tally.steps
        reason = np.where(mostly, Reason.STAGES, Reason.MAX_STEPS)
        spent = tally.running & (tally.steps >= self.max_steps)
        tally.code = np.where(spent, reason, tally.code)

    def _saved(self, out: Progressed, lane: int, count: int) -> list[dict[str, Any]]:
        tree = out.saved if self.lanes.number is None else take(out.saved, lane)
        return [take(tree, i) for i in range(count)]


def _with_row(i: int, rows: Any, row: Any) -> Any:
    return rows.at[i].set(row) if eqx.is_array(rows) else rows


def _from(window: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Save times, none of which is an ulp or two before the time reached."""
    # A step that ends at a jump ends before it, and the next begins behind it.
    near = (window < t) & (window >= t * (1 - 4 * np.finfo(t.dtype).eps))
    return np.where(near, t, window)


@eqx.filter_jit
@at_full_precision
def _advance_many(shared: Solve, problem: Problem, stacked: Any, span: Span):
    def one(stacked, window, limit, budget):
        own, params, static, constants, state = stacked
        solve = eqx.combine(own, shared)
        lane = problem.with_parts(params, static)
        lane_span = Span(window, limit, budget, span.end, span.end_floor)
        # Where one member meets a stop condition, diffrax replaces the states of all by
        # interpolated ones.
        return solve.advance(lane, constants, state, lane_span, locates=False)

    return eqx.filter_vmap(one)(stacked, span.window, span.limit, span.max_steps)
