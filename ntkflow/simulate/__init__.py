"""Integrating training time, and what comes out of it."""

from ._concat import concat as concat
from ._defect import Defect as Defect, residual_defect as residual_defect
from ._events import (
    AbstractEvent as AbstractEvent,
    DriftAbove as DriftAbove,
    LossBelow as LossBelow,
    SteadyState as SteadyState,
)
from ._reason import Reason as Reason
from ._segment_record import SegmentRecord as SegmentRecord
from ._simulate import (
    SimulationError as SimulationError,
    log_times as log_times,
    simulate as simulate,
)
from ._trajectory import Trajectory as Trajectory
