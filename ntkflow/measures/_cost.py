"""What measures cost, told before a run starts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .._progress import duration
from .._types import MeasuredOutputs
from ..kernels import default_max_bytes, ntk, ntk_velocity
from ..problem import Problem
from ._base import AbstractMeasure
from ._curvature import leading_curvature
from ._flop_count import count_flops
from ._kernel import kernel_size, layouts, named

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
    reading = sum(measure.flops(problem) for measure in measures)
    shared = _shared_flops(_needs(measures), problem)
    seconds = shared / PRODUCT_FLOPS_PER_SECOND + reading / READING_FLOPS_PER_SECOND
    return CostEstimate(_bytes_held(measures, problem), shared + reading, seconds)


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
    outputs = (layouts(_needs(measures), "kernel") or ("full",))[0]
    size = kernel_size(problem, outputs)
    held = _bytes_held(measures, problem)
    if held > bound:
        # Before anything is traced: so large a kernel may not even be planned.
        fits = _examples_that_fit(measures, problem, bound)
        one = size**2 * problem.dtype.itemsize
        kernel = "kernel" if outputs == "full" else "trace kernel"
        raise ValueError(
            f"The measures read the {kernel} of {problem.n_examples} examples and "
            f"{problem.n_outputs} outputs, a [{size}, {size}] matrix of "
            f"{_in_bytes(one)}. With what is read beside it they would hold "
            f"{_in_bytes(held)}, where at most {_in_bytes(bound)} may be used, half of "
            f"the memory. Train on at most {fits} examples, "
            f"{_remedy(measures, problem)}, or leave out the measures that need "
            f'"kernel" or "velocity".'
        )
    cost = estimate(measures, problem)
    memory = (
        f"kernels of [{size}, {size}] held in {_in_bytes(cost.kernel_bytes)}"
        if cost.kernel_bytes
        else "no kernel"
    )
    return (
        f"Measures: {memory}; {_duration(cost.seconds)} a save time, "
        f"{_duration(n_save_times * cost.seconds)} for {n_save_times}, on one CPU core."
    )


def _needs(measures: Sequence[AbstractMeasure]) -> frozenset[str]:
    return frozenset[str]().union(*(measure.needs for measure in measures))


def _copies(needs: frozenset[str], outputs: MeasuredOutputs) -> int:
    # Arrays of the kernel's size that exist at once.
    if named("velocity", outputs) in needs:
        # Θ_t, Θ₀, dΘ/dt; and a derivative carries every working copy twice.
        count = 3 + 2 * _WORKING_COPIES
    else:
        count = 2 + _WORKING_COPIES if named("kernel", outputs) in needs else 0
    return count + (named("kernel_before", outputs) in needs)


def _bytes_held(measures: Sequence[AbstractMeasure], problem: Problem) -> int:
    square, rows = _bytes_per_example(measures, problem)
    return problem.n_examples * (square * problem.n_examples + rows)


def _bytes_per_example(
    measures: Sequence[AbstractMeasure], problem: Problem
) -> tuple[int, int]:
    """Bytes that grow as N², of kernels, and as N, of those between test and train."""
    needs = _needs(measures)
    n_test = 0 if problem.x_test is None else len(problem.x_test)
    square = rows = 0
    for outputs in ("full", "trace"):
        one = (kernel_size(problem, outputs) // problem.n_examples) ** 2
        square += _copies(needs, outputs) * one
        if named("kernel_test", outputs) in needs:
            # The rows of the test set, and a working copy of them.
            rows += 2 * n_test * one
    return square * problem.dtype.itemsize, rows * problem.dtype.itemsize


def _examples_that_fit(
    measures: Sequence[AbstractMeasure], problem: Problem, bound: int
) -> int:
    """The largest N for which kernels and rows of a test set stay within the bound."""
    square, rows = _bytes_per_example(measures, problem)
    if square == 0:
        return bound // rows
    return (math.isqrt(rows**2 + 4 * square * bound) - rows) // (2 * square)


def _shared_flops(needs: frozenset[str], problem: Problem) -> float:
    # The arithmetic of what `simulate` computes once for all measures.
    flops = 0.0
    blocks = {
        "kernel": (problem.x, None),
        "kernel_before": (problem.x, None),
        "kernel_test": (problem.x_test, problem.x),
    }
    for name, (x1, x2) in blocks.items():
        for outputs in layouts(needs, name)[:1]:
            flops += _kernel_flops(problem, outputs, x1, x2)
    for outputs in layouts(needs, "velocity")[:1]:
        flops += _velocity_flops(problem, outputs)
    if "curvature" in needs:
        # Its loop ends on a condition and counts once, as one cycle, which a warm start
        # takes.
        flops += count_flops(
            lambda params: leading_curvature(problem, params), problem.params
        )
    return flops


def _velocity_flops(problem: Problem, outputs: MeasuredOutputs) -> float:
    return count_flops(
        lambda params: ntk_velocity(problem, problem.model_of(params), outputs=outputs),
        problem.params,
    )


def _kernel_flops(
    problem: Problem, outputs: MeasuredOutputs, x1: Any, x2: Any = None
) -> float:
    return count_flops(
        lambda params: ntk(
            problem.model_of(params),
            x1,
            x2,
            outputs=outputs,
            trainable=problem.trainable,
        ),
        problem.params,
    )


def _remedy(measures: Sequence[AbstractMeasure], problem: Problem) -> str:
    needs = _needs(measures)
    remedies = []
    if problem.n_outputs > 1 and "full" in layouts(needs, "kernel"):
        size = problem.n_examples
        remedies.append(
            f'give the measures outputs="trace", which read a [{size}, {size}] kernel '
            "(KernelDrift, KernelDistance, KernelVelocity, KernelStep, Alignment, "
            "Spectrum, EffectiveRank and KernelRegression do)"
        )
    if needs & {"velocity", "velocity_trace"}:
        remedies.append("leave out KernelVelocity")
    elif problem.dtype.itemsize > 4:
        remedies.append("use float32")
    elif not remedies:
        remedies.append("use fewer outputs")
    return ", ".join(remedies)


def _in_bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "less than a second"
    return f"about {duration(seconds)}"
