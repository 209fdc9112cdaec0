"""How fast the kernel moves along the gradient flow."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Shaped

from ntkflow._types import OutputLayout, Params
from ntkflow.kernels._compute import compute_kernels
from ntkflow.kernels._example import Example
from ntkflow.kernels._inputs import check_bound, check_pair
from ntkflow.kernels._layouts import find_layout
from ntkflow.problem import Problem


def ntk_velocity(
    problem: Problem,
    model: Any = None,
    *,
    x1: Shaped[Array | np.ndarray, "N1 ..."] | None = None,
    x2: Shaped[Array | np.ndarray, "N2 ..."] | None = None,
    outputs: OutputLayout = "full",
    max_bytes: int | None = None,
) -> Float[Array, "..."]:
    """The exact rate dΘ/dt of a kernel along the training flow θ̇ = −c∇L(θ).

    By default of the training set's kernel; with `x1` and `x2` of any block of it, or
    of a kernel of other examples. One forward derivative of the kernel, tile by tile,
    so that it costs about three kernels; exact, not a difference. Symmetric to the last
    bit where the kernel is.

    Args:
        problem: The problem; its time scale c is part of the rate.
        model: Where along the flow: a model of the problem's structure; by default the
            problem's own.
        x1: Examples along the rows; by default the training inputs.
        x2: Examples along the columns; by default those along the rows.
        outputs: The layout, as for `ntk`.
        max_bytes: Bound on the working memory in bytes, the result apart; by default
            `default_max_bytes()`.

    Returns:
        dΘ/dt; unit of the kernel over time.

    Raises:
        ValueError: The problem is none; or as for `ntk`.

    Source: Huang & Yau (2020), section 1 (the hierarchy's second equation).

    Verified by:
        tests/kernels/test_velocity.py::test_velocity_is_the_limit_of_differences
    """
    if not isinstance(problem, Problem):
        raise ValueError(
            "The velocity needs a Problem, model, data and loss together, got a "
            f"{type(problem).__name__}: the kernel moves because training does."
        )
    find_layout(outputs)
    first, second = check_pair(problem.x if x1 is None else x1, x2)
    # A derivative holds every value twice.
    bound = max(1, check_bound(max_bytes) // 2)
    params, static = problem.params, problem.static
    if model is not None:
        params, static = eqx.partition(model, problem.trainable)
    slope = problem.gradient(params)
    rate = jax.tree.map(lambda g: -problem.time_scale * g, slope)

    def kernel(at: Params) -> Float[Array, "..."]:
        (value,) = compute_kernels(
            Example(static),
            at,
            first,
            second,
            outputs=outputs,
            method="auto",
            max_bytes=bound,
            by_leaf=False,
        )
        return value

    return jax.jvp(kernel, (params,), (rate,))[1]
