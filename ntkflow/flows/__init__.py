"""The right-hand sides: training as differential equations, and depth as one."""

from ._base import (
    ORIGIN as ORIGIN,
    AbstractFlow as AbstractFlow,
    AbstractParameterFlow as AbstractParameterFlow,
    Context as Context,
    Feedback as Feedback,
    OutputState as OutputState,
)
from ._coupled import (
    Coupled as Coupled,
    Packed as Packed,
    max_over_flows as max_over_flows,
)
from ._depth_kernels import (
    depth_kernel as depth_kernel,
    lyapunov_kernel as lyapunov_kernel,
)
from ._depth_profile import DepthProfile as DepthProfile, depth_profile as depth_profile
from ._descent import Descent as Descent, DescentState as DescentState
from ._kinds import is_built_in as is_built_in, kind_of as kind_of
from ._modified import Modified as Modified
from ._numbers import with_arrays as with_arrays
from ._parameters import (
    Gradient as Gradient,
    Momentum as Momentum,
    MovingParams as MovingParams,
)
from ._point import Point as Point
from ._quadrature import Quadrature as Quadrature
from ._residual import Linearized as Linearized, Residual as Residual
from ._sensitivity import Sensitivity as Sensitivity
