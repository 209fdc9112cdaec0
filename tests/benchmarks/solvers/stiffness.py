"""λ_max, which with the length of a run says how stiff it is."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

import ntkflow as nf


def gauss_newton_norm(problem: nf.Problem, iterations: int = 300) -> float:
    """The largest eigenvalue of c·JᵀBJ, B the curvature of the loss, at the start.

    For the squared error that is c·λ_max of the tangent kernel. By power iteration,
    which no solver under test has a part in.

    Args:
        problem: The problem.
        iterations: Of the power iteration.

    Returns:
        The eigenvalue, in units of 1/time.
    """
    flat, unravel = ravel_pytree(problem.params)

    def outputs(p: Array) -> Array:
        return problem.outputs(unravel(p), problem.x)

    f, pull = jax.vjp(outputs, flat)

    def product(v: Array) -> Array:
        jv = jax.jvp(outputs, (flat,), (v,))[1]
        bjv = jax.jvp(lambda f: problem.output_gradient(f, problem.y), (f,), (jv,))[1]
        return problem.time_scale * pull(bjv)[0]

    def iterate(_: Any, v: Array) -> Array:
        return product(v / jnp.linalg.norm(v))

    start = jr.normal(jr.key(1), flat.shape, flat.dtype)
    last = jax.jit(lambda v: jax.lax.fori_loop(0, iterations, iterate, v))(start)
    return float(jnp.linalg.norm(last))
