"""Training as coupled ordinary differential equations.

The parameter gradient flow, the residual equation with the evolving or the frozen
kernel and the linearized model, side by side, for any equinox module. The usual
entrance: pose a `Problem`, `simulate` it, read the `Trajectory`.
"""

import importlib.metadata

from . import (
    data as data,
    experiments as experiments,
    flows as flows,
    infinite as infinite,
    kernels as kernels,
    measures as measures,
    models as models,
    plots as plots,
    solvers as solvers,
    theory as theory,
)
from .kernels import (
    NTKOperator as NTKOperator,
    ntk as ntk,
    ntk_error_estimate as ntk_error_estimate,
    ntk_velocity as ntk_velocity,
)
from .problem import (
    CrossEntropy as CrossEntropy,
    Decay as Decay,
    Hinge as Hinge,
    Problem as Problem,
    SquaredError as SquaredError,
)
from .simulate import (
    DriftAbove as DriftAbove,
    LossBelow as LossBelow,
    Reason as Reason,
    SegmentRecord as SegmentRecord,
    SimulationError as SimulationError,
    SteadyState as SteadyState,
    Trajectory as Trajectory,
    concat as concat,
    log_times as log_times,
    residual_defect as residual_defect,
    simulate as simulate,
)

__version__ = importlib.metadata.version("ntkflow")
