"""The eigenvalues of the kernel, and how many of them count."""

from typing import final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from .._types import MeasuredOutputs
from ..kernels import eigenvalues
from ..problem import Problem
from ._base import AbstractMeasure, Snapshot, Variable
from ._eigen import check_modes, eigen_flops, eigenpairs_of, leading_eigenpairs
from ._kernel import (
    as_matrix,
    check_outputs,
    frobenius,
    in_words,
    kernel_entries,
    kernel_now,
    named,
)


@final
class Spectrum(AbstractMeasure):
    """The eigenvalues of the kernel as a matrix, largest first.

    Those of the full kernel, N·K by N·K, times the time scale c are the rates at which
    the modes of a squared error decay, as long as the kernel stays what it is. Those of
    the trace kernel, N by N, are K times these rates where the kernel treats all
    outputs alike and independently, as infinite-width kernels do.

    Attributes:
        k: How many, or None for all of them: then by a dense solve, of cubic cost.
        outputs: `"full"` for the kernel over examples and outputs, `"trace"` for the
            trace kernel, its sum over outputs; then the variable is `spectrum_trace`,
            over a dimension of its own.

    Verified by:
        tests/measures/test_spectrum.py::test_spectrum_matches_dense_eigenvalues,
        tests/measures/test_trace.py::test_measures_of_the_trace_kernel_match_dense_sums
    """

    k: int | None = eqx.field(static=True, default=10)
    outputs: MeasuredOutputs = eqx.field(static=True, default="full")

    def __check_init__(self):
        check_modes("Spectrum", self.k)
        check_outputs(self.outputs)

    @property
    def needs(self) -> frozenset[str]:
        """The kernel."""
        return frozenset({named("kernel", self.outputs)})

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
            `spectrum` or `spectrum_trace`, of shape [M].
        """
        kernel = kernel_now(now, self.outputs)
        if self.k is None:
            values = eigenvalues(kernel)
        elif self.outputs == "full":
            values = eigenpairs_of(now, kernel, self.k)[0]
        else:
            values = leading_eigenpairs(kernel, self.k)[0]
        return {named("spectrum", self.outputs): values}

    def variables(self, problem: Problem) -> dict[str, Variable]:
        """`spectrum`, or `spectrum_trace`.

        Args:
            problem: The problem.

        Returns:
            The variable, over the modes.
        """
        check_modes("Spectrum", self.k, problem, self.outputs)
        modes = (named("mode", self.outputs),)
        words = f"eigenvalues of the {in_words(self.outputs)}"
        return {named("spectrum", self.outputs): Variable(modes, words)}

    def flops(self, problem: Problem) -> float:
        """A dense or a Lanczos eigen-solve.

        Args:
            problem: The problem.

        Returns:
            Floating-point operations.
        """
        return eigen_flops(problem, self.k, vectors=False, outputs=self.outputs)


@final
class EffectiveRank(AbstractMeasure):
    """The participation ratio of the spectrum, (Σλ)²/Σλ² = (tr Θ)²/‖Θ‖_F².

    It is m for a kernel with m equal eigenvalues and no others, and needs no eigenvalue
    to be computed.

    Attributes:
        outputs: `"full"` for the kernel over examples and outputs, `"trace"` for the
            trace kernel, its sum over outputs; variables of the latter end in `_trace`.

    Source: Bell & Dean (1970), the participation ratio.
    Verified by:
        tests/measures/test_spectrum.py::test_effective_rank_counts_equal_eigenvalues
    """

    outputs: MeasuredOutputs = eqx.field(static=True, default="full")

    def __check_init__(self):
        check_outputs(self.outputs)

    @property
    def needs(self) -> frozenset[str]:
        """The kernel."""
        return frozenset({named("kernel", self.outputs)})

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
            `effective_rank`, between 1 and N·K, or `effective_rank_trace`, between 1
            and N.
        """
        kernel = kernel_now(now, self.outputs)
        trace = jnp.sum(jnp.diagonal(as_matrix(kernel)))
        rank = (trace / frobenius(kernel)) ** 2
        return {named("effective_rank", self.outputs): rank}

    def variables(self, problem: Problem) -> dict[str, Variable]:
        """`effective_rank`, or `effective_rank_trace`.

        Args:
            problem: The problem.

        Returns:
            The variable, a number at every save time.
        """
        kernel = in_words(self.outputs)
        words = f"effective rank of the {kernel} (participation ratio)"
        return {named("effective_rank", self.outputs): Variable((), words)}

    def flops(self, problem: Problem) -> float:
        """Two operations an entry.

        Args:
            problem: The problem.

        Returns:
            Floating-point operations.
        """
        return 2.0 * kernel_entries(problem, self.outputs)
