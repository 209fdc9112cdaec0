"""How curved the loss is along the direction in which it is curved most."""

from typing import ClassVar, final

from jaxtyping import Array

from ..problem import Problem
from ._base import AbstractMeasure, Snapshot, Variable


@final
class Sharpness(AbstractMeasure):
    """The largest eigenvalue λ_max of the Hessian of what the flow descends, c·L(θ).

    L is the loss on the training set, decay included, and c the time scale: with
    `reduction="mean"` and c = 1/N it is the sharpness of the mean loss. Gradient
    descent of learning rate η on a quadratic is stable as long as η·λ_max < 2; a
    network trained at η settles near that edge.

    By Lanczos on products with the Hessian, from the eigenvector of the save time
    before. `sharpness_error` is the residual ‖Hv − λv‖: the Hessian has an eigenvalue
    within this distance of `sharpness`. Lanczos ends where it is a thousandth of the
    eigenvalue, or after 240 products. The eigenvalue itself, being a Rayleigh quotient,
    is then closer by far: within error²/gap, with the gap to the next eigenvalue.

    Source: Cohen, Kaur, Li, Kolter & Talwalkar (2021), section 2.
    Verified by:
        tests/measures/test_sharpness.py::test_sharpness_is_the_largest_eigenvalue_of_the_dense_hessian
    """

    needs: ClassVar[frozenset[str]] = frozenset({"curvature"})

    def prepare(self, first: Snapshot) -> None:
        """Nothing is fixed.

        Args:
            first: The moment t = 0.
        """

    def __call__(self, now: Snapshot, prepared: None) -> dict[str, Array]:
        """The sharpness now.

        Args:
            now: The moment.
            prepared: Nothing.

        Returns:
            `sharpness` and `sharpness_error`.

        Raises:
            ValueError: If the snapshot holds no curvature.
        """
        if now.curvature is None:
            raise ValueError(
                "The snapshot holds no 'curvature', which this measure reads. Compute "
                "it with nf.measures.leading_curvature before reading the measure."
            )
        return {
            "sharpness": now.curvature.value,
            "sharpness_error": now.curvature.error,
        }

    def variables(self, problem: Problem) -> dict[str, Variable]:
        """`sharpness` and `sharpness_error`.

        Args:
            problem: The problem.

        Returns:
            The variables, a number at every save time.
        """
        return {
            "sharpness": Variable(
                (), "largest eigenvalue of the loss's Hessian", units="1/time"
            ),
            "sharpness_error": Variable(
                (), "bound on the error of the sharpness", units="1/time"
            ),
        }

    def flops(self, problem: Problem) -> float:
        """None beyond the products with the Hessian, which are shared.

        Args:
            problem: The problem.

        Returns:
            Floating-point operations.
        """
        return 1.0
