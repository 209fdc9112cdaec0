"""diffrax solvers and step-size controllers made for training flows."""

from ._chebyshev import Chebyshev as Chebyshev
from ._code import Code as Code
from ._counted import (
    AbstractCountedSolver as AbstractCountedSolver,
    Attempt as Attempt,
    Work as Work,
    work as work,
)
from ._descent import BetweenUpdates as BetweenUpdates, Descent as Descent
from ._equal_steps import (
    MAX_UPDATES_EPS as MAX_UPDATES_EPS,
    EqualSteps as EqualSteps,
    EqualStepsState as EqualStepsState,
    rounding as rounding,
)
from ._explicit import Explicit as Explicit
from ._exponential import (
    KernelExponential as KernelExponential,
    KernelState as KernelState,
)
from ._finite import all_finite as all_finite
from ._function_space import FunctionSpace as FunctionSpace
from ._implicit import KernelImplicit as KernelImplicit
from ._inside import add_unsigned as add_unsigned, estimate_inside as estimate_inside
from ._rock4 import Rock4 as Rock4
from ._stabilized import AbstractStabilized as AbstractStabilized
from ._term import FlowTerm as FlowTerm
