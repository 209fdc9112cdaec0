"""What solvers in the space of the kernel cannot do, refused before they begin."""

from collections.abc import Mapping

from ..flows import AbstractParameterFlow, Coupled, Feedback
from ..problem import Problem


def check_flows(coupled: Coupled, loops: Mapping[str, Feedback], solver: str) -> None:
    """Refuses parameter flows that are no loop through their outputs.

    Args:
        coupled: The flows.
        loops: Their loops, by name.
        solver: Name of the solver that asks.

    Raises:
        ValueError: If a parameter flow has none.
    """
    for flow in coupled.flows:
        if isinstance(flow, AbstractParameterFlow) and flow.name not in loops:
            raise ValueError(
                f"{solver} integrates flows driven through their outputs alone; "
                f"{flow.name!r} is driven otherwise. Give it diffrax.Dopri8() or "
                "diffrax.Tsit5(), in a solve of its own."
            )


def check_size(problem: Problem, max_size: int, solver: str) -> None:
    """Refuses kernels too large to decompose.

    Args:
        problem: The problem.
        max_size: The largest N·K allowed.
        solver: Name of the solver that asks.

    Raises:
        ValueError: If N·K is larger.
    """
    size = problem.n_examples * problem.n_outputs
    if size > max_size:
        # The matrix, its eigenvectors, and the room LAPACK works in.
        needed = 4 * size**2 * problem.dtype.itemsize
        raise ValueError(
            f"{solver} decomposes a kernel of N·K = {size:,} rows, which takes some "
            f"{needed:,} bytes; max_size allows {max_size:,} rows. Take Chebyshev(), "
            "which needs no kernel, fewer examples, or a larger max_size."
        )
