"""How fast the kernel moves along the gradient flow."""

from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float

from ntkflow._types import Params
from ntkflow.kernels._compute import compute_kernels
from ntkflow.kernels._example import Example
from ntkflow.kernels._memory import default_max_bytes
from ntkflow.problem import Problem


def ntk_velocity(problem: Problem, model: Any = None) -> Float[Array, "N K N K"]:
    """The exact rate dΘ/dt of the training set's full kernel along θ̇ = −c∇L(θ).

    One forward derivative of the kernel, so that it costs about three kernels; exact,
    not a difference. Symmetric to the last bit.

    Args:
        problem: The problem; its time scale c is part of the rate.
        model: Where along the flow: a model of the problem's structure; by default the
            problem's own.

    Returns:
        dΘ/dt in the full layout; unit of the kernel over time.

    Source: Huang & Yau (2020), section 1 (the hierarchy's second equation).

    Verified by:
        tests/kernels/test_velocity.py::test_velocity_is_the_limit_of_differences
    """
    params, static = problem.params, problem.static
    if model is not None:
        params, static = eqx.partition(model, problem.trainable)
    slope = problem.gradient(params)
    rate = jax.tree.map(lambda g: -problem.time_scale * g, slope)
    bound = default_max_bytes()

    def kernel(at: Params) -> Float[Array, "N K N K"]:
        (value,) = compute_kernels(
            Example(static),
            at,
            problem.x,
            None,
            outputs="full",
            method="auto",
            max_bytes=bound,
            by_leaf=False,
        )
        return value

    return jax.jvp(kernel, (params,), (rate,))[1]
