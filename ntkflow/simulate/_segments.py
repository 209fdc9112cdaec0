"""A controller that cuts a solve into segments without changing a single step.

A run is integrated in segments so that it can report, be saved and be killed. Results
must not depend on where the cuts fall, so a segment ends after a whole step, never at a
save time, and the next one begins with exactly the step the controller had proposed.
diffrax's `Solution` does not return that proposal; this wrapper remembers it.
"""

from typing import Any, NamedTuple, final

import diffrax as dfx
import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Bool, Float

from .._types import BoolScalar, IntScalar, Scalar
from ..solvers import Work, all_finite, work
from ._counting import split_error
from ._growth import Growth, GrowthMeter
from ._reason import Reason

_END_ULPS = 100
"""diffrax takes a step that would end this close to the end to the end itself."""


def clip_floor(end: np.floating) -> np.floating:
    """The time past which a step is taken to the end itself.

    Args:
        end: End of the run, in the dtype of time.

    Returns:
        The time 100 units in the last place before it.
    """
    floor = end
    for _ in range(_END_ULPS):
        floor = np.nextafter(floor, end.dtype.type(0))
    return floor


class SegmentedState(NamedTuple):
    """State of the wrapped controller, and of the segment.

    Attributes:
        inner: State of the wrapped controller.
        tnext: End of the step proposed next.
        proposed: What it would be in a run that has no end.
        kept: Whether the step before it was kept.
        steps: Steps attempted in this segment.
        code: A `Reason`.
        work: What they cost.
        growth: How much errors have grown, in all segments so far.
    """

    inner: Any
    tnext: Scalar
    proposed: Scalar
    kept: BoolScalar
    steps: IntScalar
    code: IntScalar
    work: Work
    growth: Growth

    @classmethod
    def begin(
        cls, inner: Any, tnext: Scalar, proposed: Scalar, growth: Growth
    ) -> "SegmentedState":
        """Nothing attempted yet.

        Args:
            inner: State of the wrapped controller.
            tnext: End of the step proposed next.
            proposed: What it would be in a run that has no end.
            growth: How much errors have grown so far.

        Returns:
            The state a solve begins with.
        """
        running = jnp.asarray(Reason.RUNNING, jnp.int32)
        none, kept = jnp.zeros((), jnp.int32), jnp.asarray(True)
        return cls(inner, tnext, proposed, kept, none, running, work(), growth)

    def go_on(self) -> "SegmentedState":
        """The same, nothing attempted yet.

        Returns:
            The state a segment begins with.
        """
        fresh = SegmentedState.begin(self.inner, self.tnext, self.proposed, self.growth)
        return fresh._replace(kept=self.kept)

    @property
    def whole(self) -> Bool[Array, "..."]:
        """Whether the end of the run leaves the step proposed next as it is.

        Of an ensemble's states member by member.
        """
        return self.tnext == self.proposed


@final
class Segmented(dfx.AbstractStepSizeController[SegmentedState, Any]):
    """Runs `controller` until a number of steps is made, or a time is passed.

    Also ends a segment where the end of the run first changes a step, which is where a
    run to a later time goes on; and the solve, with its cause in the state, when the
    state stops being finite or the step falls below the resolution of time.

    Attributes:
        controller: The controller that chooses the steps.
        tnext: Where the first step of this segment ends.
        max_steps: Steps this segment may attempt.
        pause_after: The segment ends with the step that passes this time.
        limit: It ends before a step that would pass this time, and its first step ends
            there at the latest.
        whole: Whether the end of the run leaves the first step as it is.
        end: End of the whole run.
        end_floor: `clip_floor(end)`.
        evaluations: What an attempt of a solver that does not count itself costs.
        meter: Measures how much errors grow.
    """

    controller: dfx.AbstractStepSizeController
    tnext: Scalar
    max_steps: IntScalar
    pause_after: Scalar
    limit: Scalar
    whole: BoolScalar
    end: Scalar
    end_floor: Scalar
    evaluations: int = eqx.field(static=True)
    meter: GrowthMeter

    def wrap(self, direction):
        """Wraps the inner controller.

        Args:
            direction: +1: training time runs forwards.

        Returns:
            The wrapped controller.
        """
        return eqx.tree_at(
            lambda s: s.controller, self, self.controller.wrap(direction)
        )

    def init(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, terms, t0, t1, y0, dt0, args, func, error_order
    ):
        """The step this segment begins with; the state is passed in by the caller.

        Args:
            terms: The vector field.
            t0: Start of the segment.
            t1: End of the run.
            y0: The state at t0.
            dt0: None.
            args: Arguments of the vector field.
            func: The solver's evaluation of the vector field.
            error_order: Order of the error estimate.

        Returns:
            The end of the first step, and None in place of a state.
        """
        return jnp.minimum(self.tnext, self.limit), None

    def adapt_step_size(
        self, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state
    ):
        """The inner controller's decision, remembered; ends the segment when due.

        Args:
            t0: Start of the step just made.
            t1: End of the step just made.
            y0: State at its start.
            y1_candidate: State at its end.
            args: Arguments of the vector field.
            y_error: Estimate of the local error.
            error_order: Its order.
            controller_state: The state.

        Returns:
            As `diffrax.AbstractStepSizeController.adapt_step_size`.
        """
        y_error, cost = split_error(y_error, self.evaluations)
        keep, next_t0, next_t1, made_jump, inner, result = (
            self.controller.adapt_step_size(
                t0,
                t1,
                y0,
                y1_candidate,
                args,
                y_error,
                error_order,
                controller_state.inner,
            )
        )
        keep = jnp.asarray(keep)
        finite = all_finite(y1_candidate)
        # diffrax clips the last step after asking its controller; doing the same here
        # lets the clipped proposal be remembered.
        halved = next_t0 + 0.5 * (self.end - next_t0)
        clipped = jnp.where(keep, self.end, halved)
        proposed = jnp.asarray(next_t1)
        next_t1 = jnp.where(proposed > self.end_floor, clipped, proposed)
        # What is clipped above is not what is kept below, where the state diverges.
        accepted = keep
        # An adaptive controller rejects a state that is not finite and shrinks the
        # step; one that would keep it has diverged.
        diverged = keep & ~finite
        keep = keep & finite
        # diffrax never proposes less than a step that moves time by an ulp or two.
        resolution = 4 * jnp.finfo(self.end.dtype).eps * jnp.abs(next_t0)
        underflow = ~keep & (next_t1 - next_t0 <= resolution) & (next_t0 < self.end)
        underflow = underflow | (result == dfx.RESULTS.dt_min_reached)
        code = jnp.where(underflow, Reason.STEP_UNDERFLOW, Reason.RUNNING)
        code = jnp.where(diverged, Reason.DIVERGED, code).astype(jnp.int32)
        steps = controller_state.steps + 1
        # A save time behind the window would be lost in a step that passes it.
        passed = (keep & (next_t0 >= self.pause_after)) | (next_t1 > self.limit)
        cut = self.whole & (next_t1 != proposed)
        pause = (steps >= self.max_steps) | passed | cut | (code != Reason.RUNNING)
        result = dfx.RESULTS.where(
            pause & (result == dfx.RESULTS.successful),
            dfx.RESULTS.event_occurred,
            result,
        )
        done = jtu.tree_map(jnp.add, controller_state.work, cost)
        before = controller_state.growth
        growth = jtu.tree_map(
            lambda new, old: jnp.where(keep, new, old),
            self.meter.advance(before, jnp.asarray(t1), y1_candidate),
            before,
        )
        state = SegmentedState(
            inner, next_t1, proposed, accepted, steps, code, done, growth
        )
        return keep, next_t0, next_t1, made_jump, state, result


def cut_at(
    controller: SegmentedState,
    t: Float[Array, "..."],
    end: Float[Array, "..."],
    floor: Float[Array, "..."],
) -> SegmentedState:
    """The step proposed next, cut at another end of the run.

    Args:
        controller: The state, or those of the members of an ensemble.
        t: Training time reached.
        end: End of the run.
        floor: `clip_floor(end)`.

    Returns:
        The state that a run to that end has there.
    """
    proposed = controller.proposed
    clipped = jnp.where(controller.kept, end, t + 0.5 * (end - t))
    tnext = jnp.where(proposed > floor, clipped, proposed)
    return controller._replace(tnext=tnext)
