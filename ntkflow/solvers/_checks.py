"""What solvers in the space of the kernel cannot do, refused before they begin."""

from ..flows import AbstractParameterFlow, Coupled
from ..problem import Problem


def check_flows(coupled: Coupled, stiff: set[str], solver: str) -> None:
    """Refuses parameter flows that are no loop without inertia.

    Args:
        coupled: The flows.
        stiff: Names of those with a feedback.
        solver: Name of the solver that asks.

    Raises:
        ValueError: If a parameter flow has no feedback.
    """
    for flow in coupled.flows:
        if isinstance(flow, AbstractParameterFlow) and flow.name not in stiff:
            raise ValueError(
                f"{solver} integrates flows that decay, driven through their outputs "
                f"alone; {flow.name!r} has inertia and oscillates, or is driven "
                "otherwise. Give it diffrax.Dopri8() or diffrax.Tsit5(), in a solve of "
                "its own."
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
