"""The residual, mode by mode, in the initial and in the current eigenbasis."""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple, TypeGuard, final

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Inexact

from ..problem import Problem, SquaredError
from ._base import AbstractMeasure, Snapshot, Variable
from ._eigen import check_modes, eigen_flops, eigenpairs_of
from ._kernel import as_matrix, given
from ._spectrum import Spectrum


class InitialModes(NamedTuple):
    """The eigenbasis at t = 0, signed so that no component of the residual is negative.

    Attributes:
        rates: cλ_i, largest first.
        basis: Eigenvectors as columns.
        components: Components of the residual at t = 0.
    """

    rates: Float[Array, " M"]
    basis: Inexact[Array, "NK M"]
    components: Inexact[Array, " M"]


@final
class Modes(AbstractMeasure):
    """Components of the residual along eigenvectors of the kernel.

    For the squared error ṙ = −cΘ_t r. Were the kernel constant, the component along its
    i-th eigenvector would decay as exp(−cλ_i t) and modes would not mix. Three readings
    tell how far that holds:

    * `mode_residual_initial`: v_iᵀr in the eigenbasis of Θ₀, signed such that the
      components at t = 0 are not negative; beside it `mode_rate_initial`, cλ_i, and for
      the squared error without decay `mode_residual_predicted`, exp(−cλ_i t)·v_iᵀr₀,
      which assumes gradient flow and the kernel of t = 0;
    * `mode_residual_current`: |v_iᵀr| in the eigenbasis of Θ_t, where the sign of an
      eigenvector means nothing; beside it `mode_rate_current`.

    For another loss the residual is the gradient in the outputs, ∇_f ℓ, and cλ_i is the
    rate per unit of the loss's curvature. Within an eigenvalue met several times the
    basis, and so the single components, are arbitrary; their sum of squares is not.

    Attributes:
        k: How many modes, largest eigenvalue first; None for all, by dense solves.

    Source: Jacot, Gabriel & Hongler (2018), section 5; Arora et al. (2019), theorem
    4.1.
    Verified by:
        tests/measures/test_modes.py::test_modes_of_a_linear_model_follow_the_prediction,
        tests/measures/test_modes.py::test_current_components_match_dense_eigenvectors
    """

    needs: ClassVar[frozenset[str]] = frozenset({"kernel"})
    k: int | None = eqx.field(static=True, default=10)

    def __check_init__(self):
        check_modes("Modes", self.k)

    def prepare(self, first: Snapshot) -> InitialModes:
        """The eigenbasis of Θ₀.

        Args:
            first: The moment t = 0.

        Returns:
            Rates, basis and components.
        """
        rates, basis = self._eigenpairs(first, given(first.kernel0, "kernel"))
        components = _components(basis, first)
        signs = jnp.where(components < 0, -1, 1).astype(components.dtype)
        return InitialModes(rates, basis * signs[None, :], components * signs)

    def __call__(self, now: Snapshot, prepared: InitialModes) -> dict[str, Array]:
        """The components now, in both bases.

        Args:
            now: The moment.
            prepared: The eigenbasis of Θ₀.

        Returns:
            The arrays of `variables`, each of shape [M].
        """
        rates, basis = self._eigenpairs(now, given(now.kernel, "kernel"))
        read = {
            "mode_residual_initial": _components(prepared.basis, now),
            "mode_rate_initial": prepared.rates,
            "mode_residual_current": jnp.abs(_components(basis, now)),
            "mode_rate_current": rates,
        }
        if _is_predictable(now.problem):
            decayed = jnp.exp(-prepared.rates * now.time.astype(prepared.rates.dtype))
            read["mode_residual_predicted"] = decayed * prepared.components
        return read

    def variables(self, problem: Problem) -> dict[str, Variable]:
        """The variables named in the class's description.

        Args:
            problem: The problem.

        Returns:
            The variables, over the modes; the initial rates once, the others at every
            save time.
        """
        check_modes("Modes", self.k, problem)
        modes = ("mode",)
        found = {
            "mode_residual_initial": Variable(
                modes, "residual along the initial kernel's eigenvectors"
            ),
            "mode_rate_initial": Variable(
                modes, "initial kernel's rates", units="1/time", over_time=False
            ),
            "mode_residual_current": Variable(
                modes, "magnitude of the residual along the current eigenvectors"
            ),
            "mode_rate_current": Variable(
                modes, "current kernel's rates", units="1/time"
            ),
        }
        if _is_predictable(problem):
            found["mode_residual_predicted"] = Variable(
                modes, "residual that the constant initial kernel predicts"
            )
        return found

    def flops(self, problem: Problem) -> float:
        """One eigen-solve with vectors.

        Args:
            problem: The problem.

        Returns:
            Floating-point operations.
        """
        return eigen_flops(problem, self.k, vectors=True)

    def _eigenpairs(
        self, now: Snapshot, kernel: Inexact[Array, "N K N K"]
    ) -> tuple[Array, Array]:
        k = len(as_matrix(kernel)) if self.k is None else self.k
        values, vectors = eigenpairs_of(now, kernel, k)
        return now.problem.time_scale * values, vectors


def _components(basis: Inexact[Array, "NK M"], now: Snapshot) -> Inexact[Array, " M"]:
    gradient = now.problem.output_gradient(now.f_train, now.problem.y)
    return jnp.matmul(gradient.ravel(), basis, precision=lax.Precision.HIGHEST)


def _is_predictable(problem: Problem) -> bool:
    # Whether a constant kernel makes each component decay at its own rate.
    return isinstance(problem.loss, SquaredError) and problem.decay is None


def leading_modes(measures: Sequence[AbstractMeasure]) -> int:
    """How many leading eigenpairs of the full kernel the measures read.

    One solve then serves them all.

    Args:
        measures: The measures.

    Returns:
        The largest number asked for; 0 if none is, or only whole spectra are.
    """
    readers = (m for m in measures if reads_full_modes(m))
    return max((m.k or 0 for m in readers), default=0)


def reads_full_modes(measure: AbstractMeasure) -> TypeGuard[Modes | Spectrum]:
    """Whether a measure reads eigenpairs of the full kernel.

    Args:
        measure: The measure.

    Returns:
        Whether its variables run over the dimension `mode`.
    """
    if isinstance(measure, Spectrum):
        return measure.outputs == "full"
    return isinstance(measure, Modes)
