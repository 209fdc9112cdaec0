"""How far the kernel turned since the save time before."""

from typing import final

import equinox as eqx
from jaxtyping import Array

from .._types import MeasuredOutputs
from ..problem import Problem
from ._base import AbstractMeasure, Snapshot, Variable
from ._kernel import (
    check_outputs,
    frobenius,
    given,
    in_words,
    kernel_entries,
    kernel_now,
    named,
    turned,
)


@final
class KernelStep(AbstractMeasure):
    """The kernel distance between successive save times, S(t, t + δ), and S/δ.

    S = 1 − ⟨Θ_t, Θ_{t+δ}⟩/(‖Θ_t‖_F‖Θ_{t+δ}‖_F) is the distance up to scale; both values
    stand at the later of the two save times, t + δ, and the first is compared with
    t = 0. The kernel of the save time before is computed anew, so that this measure
    costs one more kernel. For short δ the distance grows as δ², so that velocities
    compare only where the intervals are equal: choose evenly spaced save times.

    Undefined, hence NaN, is the velocity at a first save time of t = 0.

    Attributes:
        outputs: `"full"` for the kernel over examples and outputs, `"trace"` for the
            trace kernel, its sum over outputs; variables of the latter end in `_trace`.

    Source: Fort et al. (2020), the kernel distance and the kernel velocity.
    Verified by:
        tests/measures/test_step.py::test_steps_are_distances_between_successive_kernels,
        tests/simulate/test_measures.py::test_steps_compare_with_the_save_time_before
    """

    outputs: MeasuredOutputs = eqx.field(static=True, default="full")

    def __check_init__(self):
        check_outputs(self.outputs)

    @property
    def needs(self) -> frozenset[str]:
        """The kernel now, and at the save time before."""
        names = ("kernel", "kernel_before")
        return frozenset(named(name, self.outputs) for name in names)

    def prepare(self, first: Snapshot) -> None:
        """Nothing is fixed.

        Args:
            first: The moment t = 0.
        """

    def __call__(self, now: Snapshot, prepared: None) -> dict[str, Array]:
        """The distance from the save time before, and its rate.

        Args:
            now: The moment.
            prepared: Nothing.

        Returns:
            `kernel_step_distance` and `kernel_step_velocity`, or these with `_trace`
            behind them.
        """
        name = named("kernel_before", self.outputs)
        before = given(getattr(now, name), name)
        distance = turned(kernel_now(now, self.outputs), before, frobenius(before))
        passed = now.time - given(now.time_before, "time_before")
        velocity = distance / passed.astype(distance.dtype)
        return {
            named("kernel_step_distance", self.outputs): distance,
            named("kernel_step_velocity", self.outputs): velocity,
        }

    def variables(self, problem: Problem) -> dict[str, Variable]:
        """`kernel_step_distance` and `kernel_step_velocity`, or these with `_trace`.

        Args:
            problem: The problem.

        Returns:
            The variables, a number at every save time.
        """
        words = (
            f"distance of the {in_words(self.outputs)} from the save time before, "
            "up to scale"
        )
        return {
            named("kernel_step_distance", self.outputs): Variable((), words),
            named("kernel_step_velocity", self.outputs): Variable(
                (), f"{words}, per time", units="1/time"
            ),
        }

    def flops(self, problem: Problem) -> float:
        """Nine operations an entry.

        Args:
            problem: The problem.

        Returns:
            Floating-point operations.
        """
        return 9.0 * kernel_entries(problem, self.outputs)
