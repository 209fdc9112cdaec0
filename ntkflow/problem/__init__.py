"""Problems: model + data + loss, and the losses."""

from ._decay import Decay as Decay
from ._losses import (
    AbstractLoss as AbstractLoss,
    CrossEntropy as CrossEntropy,
    Hinge as Hinge,
    SquaredError as SquaredError,
)
from ._problem import Problem as Problem
