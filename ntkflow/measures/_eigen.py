"""What the measures that solve for eigenvalues share: their count, key and cost."""

import jax
from jaxtyping import Array, Inexact, PRNGKeyArray

from .._types import MeasuredOutputs
from ..kernels import top_eigenpairs
from ..problem import Problem
from ._base import Snapshot
from ._kernel import kernel_size

_RESTARTS = 2
"""Restarts a partial eigen-solve is reckoned at; the spectra of kernels take about so
many. A restart multiplies the kernel with 4k + 40 vectors one by one, then with 5k + 40
at once."""


def fixed_key() -> PRNGKeyArray:
    """The key of every Lanczos start vector.

    One key for all moments and runs: a measure is a function of the moment alone, and
    the compiler can merge equal solves of several measures.

    Returns:
        A constant key.
    """
    return jax.random.key(0)


def leading_eigenpairs(
    kernel: Inexact[Array, "N ..."], k: int
) -> tuple[Inexact[Array, " M"], Inexact[Array, "n M"]]:
    """The k leading eigenpairs of a kernel, the same every time.

    Args:
        kernel: Θ in full layout, or the trace kernel.
        k: How many.

    Returns:
        Eigenvalues, largest first, and eigenvectors as columns.
    """
    return top_eigenpairs(kernel, k, key=fixed_key())


def eigenpairs_of(
    now: Snapshot, kernel: Inexact[Array, "N K N K"], k: int
) -> tuple[Inexact[Array, " M"], Inexact[Array, "NK M"]]:
    """Leading eigenpairs from the snapshot, or solved for here.

    Args:
        now: The moment.
        kernel: Its kernel.
        k: How many.

    Returns:
        Eigenvalues, largest first, and eigenvectors as columns.
    """
    if now.eigenpairs is None or len(now.eigenpairs[0]) < k:
        return leading_eigenpairs(kernel, k)
    values, vectors = now.eigenpairs
    return values[:k], vectors[:, :k]


def check_modes(
    owner: str,
    k: int | None,
    problem: Problem | None = None,
    outputs: MeasuredOutputs = "full",
) -> None:
    """Refuses a number of modes that no kernel, or not this problem's, has.

    Args:
        owner: The measure, as named in the message.
        k: The number asked for; None is all of them.
        problem: The problem, where it is known.
        outputs: Which kernel, `"full"` or `"trace"`.

    Raises:
        ValueError: If k is no positive integer, or more than the kernel has.
    """
    if k is None:
        return
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(
            f"{owner}: `k` must be a positive integer, or None for all, got {k!r}."
        )
    if problem is not None and k > kernel_size(problem, outputs):
        size = kernel_size(problem, outputs)
        kernel = f"kernel of {problem.n_examples} examples"
        if outputs == "full":
            kernel += f" and {problem.n_outputs} outputs"
        else:
            kernel = f"trace {kernel}"
        raise ValueError(
            f"{owner} asks for {k} modes, but the {kernel} has {size}. Use k={size} or "
            "less, or k=None for all."
        )


def eigen_flops(
    problem: Problem, k: int | None, *, vectors: bool, outputs: MeasuredOutputs = "full"
) -> float:
    """Arithmetic of an eigen-solve of the kernel.

    Args:
        problem: The problem.
        k: How many eigenvalues; None for all.
        vectors: Whether eigenvectors are wanted too.
        outputs: Which kernel, `"full"` or `"trace"`.

    Returns:
        Floating-point operations: for a dense solve the classical counts, 4/3·n³
        without and 9·n³ with vectors; else a number of matrix-vector products.

    Source: Golub & Van Loan (2013), section 8.3.
    """
    size = float(kernel_size(problem, outputs))
    dense = (9.0 if vectors else 4.0 / 3.0) * size**3
    if k is None:
        return dense
    products = _RESTARTS * (9 * k + 80)
    return min(9.0 * size**3, 2.0 * products * size**2)
