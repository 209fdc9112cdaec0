"""What a measure is: a pure function of one saved moment.

A measure names by strings the shared quantities it needs. `simulate` computes each of
them once a save time, whatever the number of measures that read it, and hands them over
in a `Snapshot`.
"""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import equinox as eqx
from equinox import AbstractClassVar
from jaxtyping import Array, Inexact

from .._types import Params, Scalar
from ..problem import Problem
from ._curvature import Curvature

SHARED = frozenset({
    "kernel",
    "velocity",
    "kernel_test",
    "kernel_before",
    "kernel_trace",
    "velocity_trace",
    "kernel_test_trace",
    "kernel_before_trace",
    "curvature",
    "linearized",
    "quadrature",
})
"""The shared quantities a measure may ask for.

Those of the full kernel have a twin of the trace kernel, the sum over outputs, for
which the full kernel need not be formed.
"""


class Snapshot(eqx.Module):
    """One saved moment of the first parameter flow: all that a measure may read.

    Attributes:
        time: Training time.
        problem: The problem.
        params: θ_t.
        params0: θ₀.
        f_train: The network's training outputs.
        f_test: Its test outputs, or None without a test set.
        energy: The flow's energy in units of the loss (L itself for gradient flow).
        kernel: Θ_t(X, X), if a measure needs `"kernel"` or `"velocity"`.
        kernel0: Θ₀(X, X), likewise.
        kernel_test: Θ_t(X_test, X), if needed.
        kernel_before: Θ(X, X) at the save time before this one (at t = 0 for the
            first), if needed.
        kernel_trace: The sum over outputs of Θ_t(X, X), if a measure needs
            `"kernel_trace"` or `"velocity_trace"`.
        kernel0_trace: That of Θ₀(X, X), likewise.
        kernel_test_trace: That of Θ_t(X_test, X), if needed.
        kernel_before_trace: That of the save time before, if needed.
        time_before: The save time before, zero for the first, if needed.
        eigenpairs: Leading eigenvalues [M], largest first, and eigenvectors [N·K, M] of
            Θ_t, solved for once where several measures read them; a measure without
            them solves for its own.
        velocity: dΘ/dt along the gradient flow, if a measure needs `"velocity"`.
        velocity_trace: Its sum over outputs, if a measure needs `"velocity_trace"`.
        curvature: The leading eigenpair of the Hessian of c·L, if needed.
        linearized: Training outputs of the linearized flow, if needed and simulated.
        linearized_test: Its test outputs, likewise.
        quadrature: The dissipated energy since t = 0 (c∫‖∇L‖²dt for gradient flow), if
            needed.
    """

    time: Scalar
    problem: Problem
    params: Params
    params0: Params
    f_train: Inexact[Array, "N K"]
    f_test: Inexact[Array, "Nt K"] | None
    energy: Scalar
    kernel: Inexact[Array, "N K N K"] | None = None
    kernel0: Inexact[Array, "N K N K"] | None = None
    eigenpairs: tuple[Inexact[Array, " M"], Inexact[Array, "NK M"]] | None = None
    kernel_test: Inexact[Array, "Nt K N K"] | None = None
    kernel_before: Inexact[Array, "N K N K"] | None = None
    kernel_trace: Inexact[Array, "N N"] | None = None
    kernel0_trace: Inexact[Array, "N N"] | None = None
    kernel_test_trace: Inexact[Array, "Nt N"] | None = None
    kernel_before_trace: Inexact[Array, "N N"] | None = None
    time_before: Scalar | None = None
    velocity: Inexact[Array, "N K N K"] | None = None
    velocity_trace: Inexact[Array, "N N"] | None = None
    curvature: Curvature | None = None
    linearized: Inexact[Array, "N K"] | None = None
    linearized_test: Inexact[Array, "Nt K"] | None = None
    quadrature: Scalar | None = None


@dataclass(frozen=True)
class Variable:
    """How one array of a measure appears in the results.

    Attributes:
        dims: Its dimensions, without time.
        long_name: What it is, in words.
        units: Its units; `"1"` for a pure number.
        coords: Labels of dimensions that are not mere indices.
        over_time: Whether it is read at every save time, or once, at t = 0.
    """

    dims: tuple[str, ...]
    long_name: str
    units: str = "1"
    coords: Mapping[str, Sequence[str]] = field(default_factory=dict)
    over_time: bool = True


class AbstractMeasure(eqx.Module):
    """A quantity read off a saved moment.

    Attributes:
        needs: The shared quantities it reads, a subset of `SHARED`: a class variable,
            or a property where they depend on how the measure is set.
    """

    if TYPE_CHECKING:
        # Where a property overrides it, checkers take an abstract one for a field.
        needs: ClassVar[frozenset[str]]
    else:
        needs: AbstractClassVar[frozenset[str]]

    @abc.abstractmethod
    def prepare(self, first: Snapshot) -> Any:
        """What is fixed at t = 0: a basis, a norm.

        Args:
            first: The moment t = 0.

        Returns:
            A pytree of arrays, or None.
        """

    @abc.abstractmethod
    def __call__(self, now: Snapshot, prepared: Any) -> dict[str, Array]:
        """Reads the measure; traced.

        Args:
            now: The moment.
            prepared: From `prepare`.

        Returns:
            One array for every name of `variables` (those not over time: only at the
            first reading are they kept).
        """

    @abc.abstractmethod
    def variables(self, problem: Problem) -> dict[str, Variable]:
        """The names it writes, and how they appear in the results.

        Args:
            problem: The problem.

        Returns:
            Variables by name.

        Raises:
            ValueError: If the measure makes no sense for the problem.
        """

    @abc.abstractmethod
    def flops(self, problem: Problem) -> float:
        """Arithmetic a reading costs beyond the shared quantities.

        Args:
            problem: The problem.

        Returns:
            Floating-point operations, an estimate.
        """
