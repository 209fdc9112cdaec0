"""The kernel of a problem, at any value of its trained leaves."""

from typing import cast

from jaxtyping import Array, Inexact, Shaped

from .._types import OutputLayout, Params
from ..problem import Problem
from ._ntk import ntk


def kernel_of(
    problem: Problem,
    params: Params,
    x: Shaped[Array, "Nt ..."] | None = None,
    *,
    outputs: OutputLayout = "full",
) -> Inexact[Array, "N1 ..."]:
    """Θ(x, X) = J(x) J(X)ᵀ at θ, over the problem's trained leaves.

    Args:
        problem: The problem.
        params: θ.
        x: Inputs of the first axis; the training inputs if None.
        outputs: The layout, as for `ntk`.

    Returns:
        The kernel; in full layout [N1, K, N, K].
    """
    rows, columns = (problem.x, None) if x is None else (x, problem.x)
    kernel = ntk(
        problem.model_of(params),
        rows,
        columns,
        outputs=outputs,
        trainable=problem.trainable,
    )
    return cast(Array, kernel)
