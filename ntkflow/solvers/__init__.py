"""diffrax solvers and step-size controllers made for training flows."""

from ._counted import (
    AbstractCountedSolver as AbstractCountedSolver,
    Attempt as Attempt,
    Work as Work,
    work as work,
)
from ._exponential import (
    KernelExponential as KernelExponential,
    KernelState as KernelState,
)
from ._term import FlowTerm as FlowTerm
