"""Targets as rows of outputs, so that they can be compared with outputs and kernels."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Shaped

from ..problem import Problem


def has_target_rows(problem: Problem) -> bool:
    """Whether the targets are rows of K numbers, or integer labels of K classes.

    Args:
        problem: The problem; its targets are looked at, so that it must not be traced.

    Returns:
        False for the targets of a user's loss that are neither.
    """
    if not _have_a_shape_of_rows(problem):
        return False
    if problem.y.ndim == 2 or problem.n_outputs == 1:
        return True
    return bool(((problem.y >= 0) & (problem.y < problem.n_outputs)).all())


def target_rows(
    problem: Problem, y: Shaped[Array, "Nt ..."] | None = None
) -> Inexact[Array, "_ K"]:
    """Targets, one row of K numbers an example; labels become one-hot.

    Args:
        problem: The problem.
        y: Targets like those of the problem; its training targets if None.

    Returns:
        The rows, in the parameters' dtype.

    Raises:
        ValueError: If the targets are neither rows nor labels of the K classes.
    """
    if not _have_a_shape_of_rows(problem):
        y = problem.y
        raise ValueError(
            f"Targets of shape {list(y.shape)} and dtype {y.dtype} cannot be compared "
            f"with outputs of shape [{problem.n_examples}, {problem.n_outputs}]: rows "
            "of K numbers or integer labels are expected. Leave out Alignment, "
            "LinearizationGap and KernelRegression."
        )
    y = problem.y if y is None else y
    if y.ndim == 1 and problem.n_outputs > 1:
        _check_labels(y, problem.n_outputs)
        return jax.nn.one_hot(y, problem.n_outputs, dtype=problem.dtype)
    return y.reshape(-1, problem.n_outputs).astype(problem.dtype)


def _check_labels(y: Shaped[Array, " Nt"], n_outputs: int) -> None:
    """Refuses labels that are no class; while a run is traced they were looked at."""
    if len(y) == 0:
        return
    try:
        low, high = int(y.min()), int(y.max())
    except jax.errors.ConcretizationTypeError:
        return
    if low < 0 or high >= n_outputs:
        raise ValueError(
            f"Labels from {low} to {high} cannot be compared with {n_outputs} outputs: "
            f"labels from 0 to {n_outputs - 1} are expected. Leave out Alignment, "
            "LinearizationGap and KernelRegression."
        )


def _have_a_shape_of_rows(problem: Problem) -> bool:
    """Whether there are K numbers, or one integer, an example."""
    y = problem.y
    if y.ndim == 1:
        return problem.n_outputs == 1 or jnp.issubdtype(y.dtype, jnp.integer)
    return y.shape == (problem.n_examples, problem.n_outputs)
