"""The table `[solver]`: one pydantic model a solver, told apart by its name."""

from typing import Annotated, Literal

from pydantic import Field

from ._tables import Count, Positive, Table


class Auto(Table):
    """`solver="auto"` of `nf.simulate`."""

    name: Literal["auto"] = "auto"
    """The solver that the measured stiffness makes cheapest, changed on the way."""


class ExplicitMethod(Table):
    """One of diffrax's explicit Runge-Kutta methods."""

    name: Literal["tsit5", "dopri5", "dopri8"]
    """Diffrax's explicit methods of order five, five and eight."""


class StabilizedSolver(Table):
    """`nf.solvers.Chebyshev` and `nf.solvers.Rock4`."""

    name: Literal["chebyshev", "rock4"]
    """Explicit methods of as many stages as a step needs, of order two and four, for
    any flow that decays."""

    max_stages: Annotated[int, Field(ge=2)] | None = None
    """Stages that a step may take; the solver's default if left out."""

    safety: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.1
    """Factor on the estimate of the spectral radius, which is one from below."""

    refresh: Count = 20
    """Accepted steps between two estimates of the spectral radius."""

    max_products: Count = 100
    """Jacobian-vector products that an estimate may take."""


class KernelSolver(Table):
    """`nf.solvers.KernelImplicit` and `nf.solvers.KernelExponential`."""

    name: Literal["kernel_implicit", "kernel_exponential"]
    """Solvers whose linear systems have the size of the kernel."""

    max_size: Count = 10_000
    """Rows of the largest matrix that is decomposed."""


class DescentSolver(Table):
    """`nf.solvers.Descent`."""

    name: Literal["descent"]
    """Discrete training of every flow, one update a step."""

    learning_rate: Positive
    """The training time of an update."""


Solver = Annotated[
    Auto | ExplicitMethod | StabilizedSolver | KernelSolver | DescentSolver,
    Field(discriminator="name"),
]
