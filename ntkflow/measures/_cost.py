"""What measures cost, told before a run starts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .._progress import duration
from ..kernels import default_max_bytes, ntk, ntk_velocity
from ..problem import Problem
from ._base import AbstractMeasure
from ._flop_count import count_flops
from ._kernel import kernel_entries

PRODUCT_FLOPS_PER_SECOND = 2e10
"""The rate at which kernels are built: matrix products in double precision on one core.

More cores or a GPU finish earlier, so the estimate errs on the side of waiting.
"""

READING_FLOPS_PER_SECOND = 5e9
"""The rate at which measures read kernels, on one core: sums and eigen-solves wait for
memory, not for arithmetic."""

MEMORY_SHARES = 2
"""Times `default_max_bytes()` that kernels and their working copies may fill.

With its fraction of a quarter this is half of the device's memory; the rest is left to
the kernel's own construction, the solver and the parameters.
"""

_WORKING_COPIES = 2
"""Arrays of the kernel's size that exist beside those in a snapshot: the parts a kernel
is summed from while it is built, or what a dense eigen-solve overwrites."""


@dataclass(frozen=True)
class CostEstimate:
    """What reading a set of measures costs at one save time.

    Attributes:
        kernel_bytes: Memory of the kernels held at once and their working copies.
        flops: Floating-point operations.
        seconds: The time they take on one CPU core, at `PRODUCT_FLOPS_PER_SECOND` for
            kernels and `READING_FLOPS_PER_SECOND` for what is read off them.
    """

    kernel_bytes: int
    flops: float
    seconds: float


def estimate(measures: Sequence[AbstractMeasure], problem: Problem) -> CostEstimate:
    """Estimates the cost of one reading, shared kernels included, without running any.

    What two measures compute alike, such as one eigen-solve, the compiler does once;
    here it counts twice.

    Args:
        measures: The measures.
        problem: The problem.

    Returns:
        Memory, arithmetic and time.
    """
    needs = frozenset[str]().union(*(measure.needs for measure in measures))
    reading = sum(measure.flops(problem) for measure in measures)
    shared = _shared_flops(needs, problem)
    one = kernel_entries(problem) * problem.dtype.itemsize
    seconds = shared / PRODUCT_FLOPS_PER_SECOND + reading / READING_FLOPS_PER_SECOND
    return CostEstimate(_copies(needs) * one, shared + reading, seconds)


def check_affordable(
    measures: Sequence[AbstractMeasure], problem: Problem, n_save_times: int
) -> str:
    """Refuses measures whose kernels do not fit in memory; else announces the cost.

    Args:
        measures: The measures.
        problem: The problem.
        n_save_times: How often they are read.

    Returns:
        A sentence with the expected memory and time.

    Raises:
        ValueError: If the kernels and their working copies exceed half of the device's
            memory.

    Verified by:
        tests/measures/test_cost.py::test_kernel_beyond_memory_is_refused_with_a_remedy
    """
    bound = MEMORY_SHARES * default_max_bytes()
    needs = frozenset[str]().union(*(measure.needs for measure in measures))
    size = problem.n_examples * problem.n_outputs
    one = kernel_entries(problem) * problem.dtype.itemsize
    if _copies(needs) * one > bound:
        # Before anything is traced: so large a kernel may not even be planned.
        fits = math.isqrt(bound // (_copies(needs) * problem.dtype.itemsize))
        raise ValueError(
            f"The measures read the kernel of {problem.n_examples} examples and "
            f"{problem.n_outputs} outputs, a [{size}, {size}] matrix of {_bytes(one)}. "
            f"They would hold {_copies(needs)} arrays of this size, "
            f"{_bytes(_copies(needs) * one)}, where at most {_bytes(bound)} may be "
            f"used, half of the memory. Train on at most {fits // problem.n_outputs} "
            f"examples, {_remedy(needs, problem)}, or leave out the measures that need "
            f'"kernel" or "velocity".'
        )
    cost = estimate(measures, problem)
    memory = (
        f"kernels of [{size}, {size}] held in {_bytes(cost.kernel_bytes)}"
        if cost.kernel_bytes
        else "no kernel"
    )
    return (
        f"Measures: {memory}; {_duration(cost.seconds)} a save time, "
        f"{_duration(n_save_times * cost.seconds)} for {n_save_times}, on one CPU core."
    )


def _copies(needs: frozenset[str]) -> int:
    # Arrays of the kernel's size that exist at once.
    if "velocity" in needs:
        # Θ_t, Θ₀, dΘ/dt; and a derivative carries every working copy twice.
        return 3 + 2 * _WORKING_COPIES
    return 2 + _WORKING_COPIES if "kernel" in needs else 0


def _shared_flops(needs: frozenset[str], problem: Problem) -> float:
    # The arithmetic of what `simulate` computes once for all measures.
    flops = 0.0
    if needs & {"kernel", "velocity"}:
        flops += count_flops(
            lambda params: ntk(
                problem.model_of(params),
                problem.x,
                outputs="full",
                trainable=problem.trainable,
            ),
            problem.params,
        )
    if "velocity" in needs:
        flops += count_flops(
            lambda params: ntk_velocity(problem, problem.model_of(params)),
            problem.params,
        )
    return flops


def _remedy(needs: frozenset[str], problem: Problem) -> str:
    if "velocity" in needs:
        return "leave out KernelVelocity"
    return "use float32" if problem.dtype.itemsize > 4 else "use fewer outputs"


def _bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "less than a second"
    return f"about {duration(seconds)}"
