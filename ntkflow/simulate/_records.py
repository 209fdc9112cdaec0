"""What a segment starts from, is asked for, and returns; all of it arrays."""

from typing import Any, NamedTuple

from jaxtyping import Array, Float

from .._types import BoolScalar, IntScalar, Scalar
from ..flows import Packed
from ..solvers import Work
from ._segments import SegmentedState


class SolveState(NamedTuple):
    """All that the next segment depends on; what a checkpoint holds.

    Attributes:
        t: Training time reached.
        y: The coupled state there, packed.
        solver: The solver's own state.
        controller: The controller's, with the step it proposed.
        made_jump: diffrax's jump flag; a Python False unless the controller jumps.
    """

    t: Scalar
    y: Packed
    solver: Any
    controller: SegmentedState
    made_jump: bool | BoolScalar


class Span(NamedTuple):
    """What one segment is asked for; arrays, so that no new value recompiles.

    Attributes:
        window: Save times of this segment, the last one repeated to a fixed length.
        limit: The first save time behind the window, which no step may pass; infinite
            behind the last.
        max_steps: Steps it may attempt.
        end: End of the run.
        end_floor: Where a step is taken to the end.
    """

    window: Float[Array, " W"]
    limit: Scalar
    max_steps: IntScalar
    end: Scalar
    end_floor: Scalar


class Progressed(NamedTuple):
    """What one segment returns.

    Attributes:
        state: Where it ended.
        saved: States at the window's save times that were passed, first ones first.
        n_saved: How many of the window's entries were passed.
        code: A `Reason`; RUNNING if there is more to do.
        steps: Steps attempted.
        rejected: Steps rejected.
        work: What the attempts cost.
        event: Index of the event that occurred, −1 if none.
        interpolation: Dense output, or None.
    """

    state: SolveState
    saved: Packed
    n_saved: IntScalar
    code: IntScalar
    steps: IntScalar
    rejected: IntScalar
    work: Work
    event: IntScalar
    interpolation: Any
