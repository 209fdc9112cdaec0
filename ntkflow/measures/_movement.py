"""How far and how fast the kernel moves: drift, distance and velocity.

Each is undefined, hence NaN or infinite, where the kernel at t = 0 vanishes.
"""

from typing import ClassVar, final

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..problem import Problem
from ._base import AbstractMeasure, Snapshot, Variable
from ._kernel import frobenius, given, kernel_entries


@final
class KernelDrift(AbstractMeasure):
    """The relative change of the kernel, ‖Θ_t − Θ₀‖_F / ‖Θ₀‖_F.

    Zero as long as the network is its own linearization. In NTK parameterization it
    falls as 1/width.

    Source: Chizat, Oyallon & Bach (2019), section 1; Lee et al. (2019), section 3.
    Verified by: tests/measures/test_movement.py::test_drift_matches_the_loop,
        tests/measures/test_movement.py::test_kernel_of_a_linear_model_does_not_move
    """

    needs: ClassVar[frozenset[str]] = frozenset({"kernel"})

    def prepare(self, first: Snapshot) -> Float[Array, ""]:
        """‖Θ₀‖_F.

        Args:
            first: The moment t = 0.

        Returns:
            A scalar.
        """
        return frobenius(given(first.kernel0, "kernel"))

    def __call__(self, now: Snapshot, prepared: Array) -> dict[str, Array]:
        """The drift up to now.

        Args:
            now: The moment.
            prepared: ‖Θ₀‖_F.

        Returns:
            `kernel_drift`.
        """
        change = given(now.kernel, "kernel") - given(now.kernel0, "kernel")
        return {"kernel_drift": frobenius(change) / prepared}

    def variables(self, problem: Problem) -> dict[str, Variable]:
        """`kernel_drift`.

        Args:
            problem: The problem.

        Returns:
            The variable, a number at every save time.
        """
        return {"kernel_drift": Variable((), "relative change of the kernel")}

    def flops(self, problem: Problem) -> float:
        """Three operations an entry.

        Args:
            problem: The problem.

        Returns:
            Floating-point operations.
        """
        return 3.0 * kernel_entries(problem)


@final
class KernelDistance(AbstractMeasure):
    """The change of the kernel up to its scale, 1 − ⟨Θ_t, Θ₀⟩/(‖Θ_t‖_F‖Θ₀‖_F).

    Zero when the kernel has only been multiplied by a positive number; never above one,
    since kernels are positive semidefinite. Computed as ½‖Θ_t/‖Θ_t‖ − Θ₀/‖Θ₀‖‖², which
    stays accurate where the quotient is close to one.

    Source: Fort et al. (2020), the kernel distance.
    Verified by: tests/measures/test_movement.py::test_distance_ignores_the_scale,
        tests/measures/test_movement.py::test_small_distance_keeps_its_digits
    """

    needs: ClassVar[frozenset[str]] = frozenset({"kernel"})

    def prepare(self, first: Snapshot) -> Float[Array, ""]:
        """‖Θ₀‖_F.

        Args:
            first: The moment t = 0.

        Returns:
            A scalar.
        """
        return frobenius(given(first.kernel0, "kernel"))

    def __call__(self, now: Snapshot, prepared: Array) -> dict[str, Array]:
        """The distance from the first kernel.

        Args:
            now: The moment.
            prepared: ‖Θ₀‖_F.

        Returns:
            `kernel_distance`.
        """
        kernel = given(now.kernel, "kernel")
        turned = kernel / frobenius(kernel) - given(now.kernel0, "kernel") / prepared
        return {"kernel_distance": 0.5 * jnp.sum(turned**2)}

    def variables(self, problem: Problem) -> dict[str, Variable]:
        """`kernel_distance`.

        Args:
            problem: The problem.

        Returns:
            The variable, a number at every save time.
        """
        return {
            "kernel_distance": Variable(
                (), "distance from the initial kernel, up to scale"
            )
        }

    def flops(self, problem: Problem) -> float:
        """Seven operations an entry.

        Args:
            problem: The problem.

        Returns:
            Floating-point operations.
        """
        return 7.0 * kernel_entries(problem)


@final
class KernelVelocity(AbstractMeasure):
    """The relative speed of the kernel, ‖dΘ/dt‖_F / ‖Θ₀‖_F, along the gradient flow.

    The drift is at most its integral over time.

    Verified by: tests/measures/test_movement.py::test_velocity_matches_the_loop
    """

    needs: ClassVar[frozenset[str]] = frozenset({"velocity"})

    def prepare(self, first: Snapshot) -> Float[Array, ""]:
        """‖Θ₀‖_F.

        Args:
            first: The moment t = 0.

        Returns:
            A scalar.
        """
        return frobenius(given(first.kernel0, "velocity"))

    def __call__(self, now: Snapshot, prepared: Array) -> dict[str, Array]:
        """The speed now.

        Args:
            now: The moment.
            prepared: ‖Θ₀‖_F.

        Returns:
            `kernel_velocity`, in units of 1/time.
        """
        return {
            "kernel_velocity": frobenius(given(now.velocity, "velocity")) / prepared
        }

    def variables(self, problem: Problem) -> dict[str, Variable]:
        """`kernel_velocity`.

        Args:
            problem: The problem.

        Returns:
            The variable, a number at every save time.
        """
        name = "relative speed of the kernel"
        return {"kernel_velocity": Variable((), name, units="1/time")}

    def flops(self, problem: Problem) -> float:
        """Two operations an entry.

        Args:
            problem: The problem.

        Returns:
            Floating-point operations.
        """
        return 2.0 * kernel_entries(problem)
