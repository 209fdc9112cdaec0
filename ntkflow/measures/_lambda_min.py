"""The smallest eigenvalue of the kernel, and the bound on the loss it gives."""

from typing import ClassVar, final

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ..kernels import eigenvalues
from ..problem import Problem
from ._base import AbstractMeasure, Snapshot, Variable
from ._eigen import eigen_flops
from ._kernel import as_matrix, given


@final
class LambdaMin(AbstractMeasure):
    """The smallest eigenvalue of the kernel, by a dense solve that costs (N·K)³.

    Zero, up to round-off of either sign, if there are fewer parameters than N·K.

    Verified by:
        tests/measures/test_lambda_min.py::test_lambda_min_is_the_smallest_eigenvalue
    """

    needs: ClassVar[frozenset[str]] = frozenset({"kernel"})

    def prepare(self, first: Snapshot) -> None:
        """Nothing is fixed.

        Args:
            first: The moment t = 0.
        """

    def __call__(self, now: Snapshot, prepared: None) -> dict[str, Array]:
        """The smallest eigenvalue now.

        Args:
            now: The moment.
            prepared: Nothing.

        Returns:
            `lambda_min`.
        """
        return {"lambda_min": eigenvalues(as_matrix(given(now.kernel, "kernel")))[-1]}

    def variables(self, problem: Problem) -> dict[str, Variable]:
        """`lambda_min`.

        Args:
            problem: The problem.

        Returns:
            The variable, a number at every save time.
        """
        return {"lambda_min": Variable((), "smallest eigenvalue of the kernel")}

    def flops(self, problem: Problem) -> float:
        """A dense eigen-solve.

        Args:
            problem: The problem.

        Returns:
            Floating-point operations.
        """
        return eigen_flops(problem, None, vectors=False)


def loss_bound(
    lambda_min: Float[Array | np.ndarray, " T"],
    time: Float[Array | np.ndarray, " T"],
    loss0: float | Float[Array, ""],
    time_scale: float,
) -> Float[Array, " T"]:
    """The bound L(t) ≤ L(0)·exp(−2cλt), with λ the least λ_min met up to t.

    For the squared error without decay the theorem holds with λ the infimum of
    λ_min(Θ_s) over all s in [0, t]. Here it is the least value at the save times up to
    t, which a dip between them can undercut: the bound is as good as the save times are
    dense, and they should begin at t = 0. A negative λ_min is round-off of a positive
    semidefinite kernel and counts as zero.

    Args:
        lambda_min: `lambda_min` at the save times.
        time: The save times, increasing.
        loss0: The training loss L(0).
        time_scale: c.

    Returns:
        The bound at every save time.

    Source: Du et al. (2019), section 3, for the argument.
    Verified by: tests/measures/test_lambda_min.py::test_loss_stays_below_its_bound,
        tests/measures/test_lambda_min.py::test_bound_uses_the_least_eigenvalue_so_far
    """
    least = lax.cummin(jnp.maximum(jnp.asarray(lambda_min), 0))
    rate = 2 * time_scale * least
    return loss0 * jnp.exp(-rate * jnp.asarray(time, rate.dtype))
