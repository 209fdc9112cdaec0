"""The eigenvalues of the kernel, and how many of them count."""

from typing import ClassVar, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ..kernels import eigenvalues
from ..problem import Problem
from ._base import AbstractMeasure, Snapshot, Variable
from ._eigen import check_modes, eigen_flops, eigenpairs_of
from ._kernel import as_matrix, frobenius, given, kernel_entries


@final
class Spectrum(AbstractMeasure):
    """The eigenvalues of the kernel as an N·K by N·K matrix, largest first.

    Times the time scale c they are the rates at which the modes of a squared error
    decay, as long as the kernel stays what it is.

    Attributes:
        k: How many, or None for all of them: then by a dense solve that costs (N·K)³.

    Verified by:
        tests/measures/test_spectrum.py::test_spectrum_matches_dense_eigenvalues
    """

    needs: ClassVar[frozenset[str]] = frozenset({"kernel"})
    k: int | None = eqx.field(static=True, default=10)

    def __check_init__(self):
        check_modes("Spectrum", self.k)

    def prepare(self, first: Snapshot) -> None:
        """Nothing is fixed.

        Args:
            first: The moment t = 0.
        """

    def __call__(self, now: Snapshot, prepared: None) -> dict[str, Array]:
        """The eigenvalues now.

        Args:
            now: The moment.
            prepared: Nothing.

        Returns:
            `spectrum`, of shape [M].
        """
        kernel = given(now.kernel, "kernel")
        if self.k is None:
            return {"spectrum": eigenvalues(kernel)}
        return {"spectrum": eigenpairs_of(now, kernel, self.k)[0]}

    def variables(self, problem: Problem) -> dict[str, Variable]:
        """`spectrum`.

        Args:
            problem: The problem.

        Returns:
            The variable, over the modes.
        """
        check_modes("Spectrum", self.k, problem)
        return {"spectrum": Variable(("mode",), "eigenvalues of the kernel")}

    def flops(self, problem: Problem) -> float:
        """A dense or a Lanczos eigen-solve.

        Args:
            problem: The problem.

        Returns:
            Floating-point operations.
        """
        return eigen_flops(problem, self.k, vectors=False)


@final
class EffectiveRank(AbstractMeasure):
    """The participation ratio of the spectrum, (Σλ)²/Σλ² = (tr Θ)²/‖Θ‖_F².

    It is m for a kernel with m equal eigenvalues and no others, and needs no eigenvalue
    to be computed.

    Source: Bell & Dean (1970), the participation ratio.
    Verified by:
        tests/measures/test_spectrum.py::test_effective_rank_counts_equal_eigenvalues
    """

    needs: ClassVar[frozenset[str]] = frozenset({"kernel"})

    def prepare(self, first: Snapshot) -> None:
        """Nothing is fixed.

        Args:
            first: The moment t = 0.
        """

    def __call__(self, now: Snapshot, prepared: None) -> dict[str, Array]:
        """The effective rank now.

        Args:
            now: The moment.
            prepared: Nothing.

        Returns:
            `effective_rank`, between 1 and N·K.
        """
        kernel = given(now.kernel, "kernel")
        trace = jnp.sum(jnp.diagonal(as_matrix(kernel)))
        return {"effective_rank": (trace / frobenius(kernel)) ** 2}

    def variables(self, problem: Problem) -> dict[str, Variable]:
        """`effective_rank`.

        Args:
            problem: The problem.

        Returns:
            The variable, a number at every save time.
        """
        name = "effective rank of the kernel (participation ratio)"
        return {"effective_rank": Variable((), name)}

    def flops(self, problem: Problem) -> float:
        """Two operations an entry.

        Args:
            problem: The problem.

        Returns:
            Floating-point operations.
        """
        return 2.0 * kernel_entries(problem)
