"""Targets as rows of outputs, so that they can be compared with outputs and kernels."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from ..problem import Problem


def has_target_rows(problem: Problem) -> bool:
    """Whether the targets are rows of K numbers, or integer labels of K classes.

    Args:
        problem: The problem.

    Returns:
        False for the targets of a user's loss that are neither.
    """
    y = problem.y
    labels = y.ndim == 1 and jnp.issubdtype(y.dtype, jnp.integer)
    return labels or y.shape == (problem.n_examples, problem.n_outputs)


def target_rows(problem: Problem) -> Inexact[Array, "N K"]:
    """The training targets, one row of K numbers an example; labels become one-hot.

    Args:
        problem: The problem.

    Returns:
        The rows, in the parameters' dtype.

    Raises:
        ValueError: If the targets are neither rows nor labels.
    """
    y = problem.y
    if not has_target_rows(problem):
        raise ValueError(
            f"Targets of shape {list(y.shape)} and dtype {y.dtype} cannot be compared "
            f"with outputs of shape [{problem.n_examples}, {problem.n_outputs}]: rows "
            "of K numbers or integer labels are expected. Leave out Alignment and "
            "LinearizationGap."
        )
    if y.ndim == 1:
        return jax.nn.one_hot(y, problem.n_outputs, dtype=problem.dtype)
    return y.astype(problem.dtype)
