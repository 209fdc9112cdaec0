"""How far and how fast the kernel moves: drift, distance and velocity.

Each is undefined, hence NaN or infinite, where the kernel at t = 0 vanishes.
"""

from typing import final

import equinox as eqx
from jaxtyping import Array, Float

from .._types import MeasuredOutputs
from ..problem import Problem
from ._base import AbstractMeasure, Snapshot, Variable
from ._kernel import (
    check_outputs,
    frobenius,
    given,
    in_words,
    kernel_at_start,
    kernel_entries,
    kernel_now,
    named,
    turned,
)


@final
class KernelDrift(AbstractMeasure):
    """The relative change of the kernel, ‖Θ_t − Θ₀‖_F / ‖Θ₀‖_F.

    Zero as long as the network is its own linearization. In NTK parameterization it
    falls as 1/width.

    Attributes:
        outputs: `"full"` for the kernel over examples and outputs, `"trace"` for the
            trace kernel, its sum over outputs; variables of the latter end in `_trace`.

    Source: Chizat, Oyallon & Bach (2019), section 1; Lee et al. (2019), section 3.
    Verified by: tests/measures/test_movement.py::test_drift_matches_the_loop,
        tests/measures/test_movement.py::test_kernel_of_a_linear_model_does_not_move
    """

    outputs: MeasuredOutputs = eqx.field(static=True, default="full")

    def __check_init__(self):
        check_outputs(self.outputs)

    @property
    def needs(self) -> frozenset[str]:
        """The kernel."""
        return frozenset({named("kernel", self.outputs)})

    def prepare(self, first: Snapshot) -> Float[Array, ""]:
        """‖Θ₀‖_F.

        Args:
            first: The moment t = 0.

        Returns:
            A scalar.
        """
        return frobenius(kernel_at_start(first, self.outputs))

    def __call__(self, now: Snapshot, prepared: Array) -> dict[str, Array]:
        """The drift up to now.

        Args:
            now: The moment.
            prepared: ‖Θ₀‖_F.

        Returns:
            `kernel_drift`, or `kernel_drift_trace`.
        """
        change = kernel_now(now, self.outputs) - kernel_at_start(now, self.outputs)
        return {named("kernel_drift", self.outputs): frobenius(change) / prepared}

    def variables(self, problem: Problem) -> dict[str, Variable]:
        """`kernel_drift`, or `kernel_drift_trace`.

        Args:
            problem: The problem.

        Returns:
            The variable, a number at every save time.
        """
        words = f"relative change of the {in_words(self.outputs)}"
        return {named("kernel_drift", self.outputs): Variable((), words)}

    def flops(self, problem: Problem) -> float:
        """Three operations an entry.

        Args:
            problem: The problem.

        Returns:
            Floating-point operations.
        """
        return 3.0 * kernel_entries(problem, self.outputs)


@final
class KernelDistance(AbstractMeasure):
    """The change of the kernel up to its scale, 1 − ⟨Θ_t, Θ₀⟩/(‖Θ_t‖_F‖Θ₀‖_F).

    Zero when the kernel has only been multiplied by a positive number; never above one,
    since kernels are positive semidefinite.

    Attributes:
        outputs: `"full"` for the kernel over examples and outputs, `"trace"` for the
            trace kernel, its sum over outputs; variables of the latter end in `_trace`.

    Source: Fort et al. (2020), the kernel distance.
    Verified by: tests/measures/test_movement.py::test_distance_ignores_the_scale,
        tests/measures/test_movement.py::test_small_distance_keeps_its_digits
    """

    outputs: MeasuredOutputs = eqx.field(static=True, default="full")

    def __check_init__(self):
        check_outputs(self.outputs)

    @property
    def needs(self) -> frozenset[str]:
        """The kernel."""
        return frozenset({named("kernel", self.outputs)})

    def prepare(self, first: Snapshot) -> Float[Array, ""]:
        """‖Θ₀‖_F.

        Args:
            first: The moment t = 0.

        Returns:
            A scalar.
        """
        return frobenius(kernel_at_start(first, self.outputs))

    def __call__(self, now: Snapshot, prepared: Array) -> dict[str, Array]:
        """The distance from the first kernel.

        Args:
            now: The moment.
            prepared: ‖Θ₀‖_F.

        Returns:
            `kernel_distance`, or `kernel_distance_trace`.
        """
        kernel, start = (f(now, self.outputs) for f in (kernel_now, kernel_at_start))
        distance = turned(kernel, start, prepared)
        return {named("kernel_distance", self.outputs): distance}

    def variables(self, problem: Problem) -> dict[str, Variable]:
        """`kernel_distance`, or `kernel_distance_trace`.

        Args:
            problem: The problem.

        Returns:
            The variable, a number at every save time.
        """
        words = f"distance from the initial {in_words(self.outputs)}, up to scale"
        return {named("kernel_distance", self.outputs): Variable((), words)}

    def flops(self, problem: Problem) -> float:
        """Seven operations an entry.

        Args:
            problem: The problem.

        Returns:
            Floating-point operations.
        """
        return 7.0 * kernel_entries(problem, self.outputs)


@final
class KernelVelocity(AbstractMeasure):
    """The relative speed of the kernel, ‖dΘ/dt‖_F / ‖Θ₀‖_F, along the gradient flow.

    The drift is at most its integral over time.

    Attributes:
        outputs: `"full"` for the kernel over examples and outputs, `"trace"` for the
            trace kernel, its sum over outputs; variables of the latter end in `_trace`.

    Verified by: tests/measures/test_movement.py::test_velocity_matches_the_loop
    """

    outputs: MeasuredOutputs = eqx.field(static=True, default="full")

    def __check_init__(self):
        check_outputs(self.outputs)

    @property
    def needs(self) -> frozenset[str]:
        """Its velocity."""
        return frozenset({named("velocity", self.outputs)})

    def prepare(self, first: Snapshot) -> Float[Array, ""]:
        """‖Θ₀‖_F.

        Args:
            first: The moment t = 0.

        Returns:
            A scalar.
        """
        return frobenius(kernel_at_start(first, self.outputs))

    def __call__(self, now: Snapshot, prepared: Array) -> dict[str, Array]:
        """The speed now.

        Args:
            now: The moment.
            prepared: ‖Θ₀‖_F.

        Returns:
            `kernel_velocity` or `kernel_velocity_trace`, in units of 1/time.
        """
        name = named("velocity", self.outputs)
        speed = frobenius(given(getattr(now, name), name)) / prepared
        return {named("kernel_velocity", self.outputs): speed}

    def variables(self, problem: Problem) -> dict[str, Variable]:
        """`kernel_velocity`, or `kernel_velocity_trace`.

        Args:
            problem: The problem.

        Returns:
            The variable, a number at every save time.
        """
        words = f"relative speed of the {in_words(self.outputs)}"
        variable = Variable((), words, units="1/time")
        return {named("kernel_velocity", self.outputs): variable}

    def flops(self, problem: Problem) -> float:
        """Two operations an entry.

        Args:
            problem: The problem.

        Returns:
            Floating-point operations.
        """
        return 2.0 * kernel_entries(problem, self.outputs)
