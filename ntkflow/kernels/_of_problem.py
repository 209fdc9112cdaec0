"""The full kernel of a problem, at any value of its trained leaves."""

from typing import cast

from jaxtyping import Array, Inexact, Shaped

from .._types import Params
from ..problem import Problem
from ._ntk import ntk


def kernel_of(
    problem: Problem, params: Params, x: Shaped[Array, "Nt ..."] | None = None
) -> Inexact[Array, "N1 K N K"]:
    """Θ(x, X) = J(x) J(X)ᵀ at θ, over the problem's trained leaves.

    Args:
        problem: The problem.
        params: θ.
        x: Inputs of the first axis; the training inputs if None.

    Returns:
        The kernel in full layout.
    """
    rows, columns = (problem.x, None) if x is None else (x, problem.x)
    kernel = ntk(
        problem.model_of(params),
        rows,
        columns,
        outputs="full",
        trainable=problem.trainable,
    )
    return cast(Array, kernel)
