"""Kernel systems beyond any dense kernel, by preconditioned conjugate gradients."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from matfree import stochtrace

from ntkflow._precision import full_precision
from ntkflow.kernels._action import Action, Kernel, action_of

PSD = frozenset({lx.symmetric_tag, lx.positive_semidefinite_tag})


def solve(
    kernel: Kernel,
    vector: Float[Array | np.ndarray, "N K"] | Float[Array | np.ndarray, " n"],
    *,
    ridge: float | int = 0.0,
    rtol: float = 1e-5,
    rank: int = 64,
    max_steps: int = 1000,
    throw: bool = True,
    key: PRNGKeyArray,
) -> lx.Solution:
    """(K + ridge·I)⁻¹ v for a positive semidefinite kernel.

    Conjugate gradients, preconditioned by a Nyström approximation of the kernel from
    `rank` products with random vectors: the largest `rank` eigenvalues, which make
    tangent kernels ill-conditioned, no longer count. A step costs one product with the
    kernel. Differentiable, by one more solve.

    Args:
        kernel: A full kernel, a matrix or a positive semidefinite lineax operator, such
            as `NTKOperator`.
        vector: The right-hand side v.
        ridge: What is added to the diagonal, in the kernel's unit; with zero the
            solution of least norm of a consistent system.
        rtol: Bound on ‖(K + ridge·I) solution − v‖ / ‖v‖.
        rank: Rank of the approximation; zero for no preconditioner.
        max_steps: Steps after which to give up.
        throw: Whether failing to converge is an error, or that a kernel of zeros
            without a ridge has no solution.
        key: Key of the random vectors.

    Returns:
        A lineax solution: its `value` has the shape of v, its `stats` the number of
        steps, its `result` whether it succeeded.

    Raises:
        ValueError: The shapes do not fit, the ridge is negative, or the tolerance is
            below what the dtype can hold.

    Source: Frangella, Tropp & Udell (2023), section 5 (the preconditioner).

    Verified by: tests/kernels/test_solve.py::test_solution_is_that_of_a_dense_solve
    """  # ruff: ignore[docstring-extraneous-exception]
    action = action_of(kernel)
    _check(action, vector, ridge, rtol, rank)
    flat = jnp.ravel(vector).astype(action.dtype)
    with full_precision():
        # Whatever the preconditioner, the solution is the same.
        fixed = action_of(jax.tree.map(_fixed, kernel))
        precondition, scale = _nystrom(fixed, ridge, rank, key)
        length = jnp.linalg.norm(flat)
        unit = flat / jnp.where(length > 0, length, jnp.ones_like(length))
        structure = jax.ShapeDtypeStruct(flat.shape, flat.dtype)

        def apply(v: Float[Array, " n"]) -> Float[Array, " n"]:
            return (action.apply(v) + jnp.asarray(ridge, v.dtype) * v) / scale

        solution = lx.linear_solve(
            lx.FunctionLinearOperator(apply, structure, PSD),
            unit,
            # In this scale the solution is no longer than the right-hand side, so that
            # lineax's test of residual and step is one of the residual.
            lx.CG(rtol=0.0, atol=rtol, norm=jnp.linalg.norm, max_steps=max_steps),
            options={
                "preconditioner": lx.FunctionLinearOperator(
                    precondition, structure, PSD
                )
            },
            throw=False,
        )
    value = (solution.value * (length / scale)).reshape(vector.shape)
    # Conjugate gradients take a kernel of zeros for solved: their test compares with
    # what is no number.
    result = lx.RESULTS.where(
        jnp.all(jnp.isfinite(value)) | (solution.result != lx.RESULTS.successful),
        solution.result,
        lx.RESULTS.singular,
    )
    if throw:
        value = result.error_if(value, result != lx.RESULTS.successful)
    return lx.Solution(value, result, solution.stats, solution.state)


def _nystrom(
    action: Action, ridge: float | int, rank: int, key: PRNGKeyArray
) -> tuple[Callable[[Float[Array, " n"]], Float[Array, " n"]], Float[Array, ""]]:
    """The preconditioner, and a bound from below of the eigenvalues that matter."""
    shift = jnp.asarray(ridge, action.dtype)
    tiny = jnp.asarray(jnp.finfo(action.dtype).tiny, action.dtype)
    # Eigenvalues below round-off are none.
    roundoff = 8 * action.size * float(jnp.finfo(action.dtype).eps)
    if rank == 0:
        start = jax.random.normal(key, (action.size,), action.dtype)
        image = jnp.linalg.norm(action.apply(start)) / jnp.linalg.norm(start)
        least = jnp.maximum(shift, jnp.maximum(roundoff * image, tiny))
        return lambda v: v, least
    rank = min(rank, action.size)
    samples = jax.random.normal(key, (action.size, rank), action.dtype)
    samples, _ = jnp.linalg.qr(samples)
    with jax.numpy_rank_promotion("allow"):
        root, _, _ = stochtrace.nystrom_eigh()(action.one_by_one, samples)
    # Of a kernel of zeros, which is its own root, the root is zero over zero.
    zeros = jnp.all(action.apply(samples[:, 0]) == 0)
    root = jnp.where(zeros, jnp.zeros_like(root), root)
    vectors, roots, _ = jnp.linalg.svd(root, full_matrices=False)
    floor = jnp.maximum(roundoff * roots[0] ** 2, tiny)
    values = jnp.maximum(roots**2, floor) + shift
    shrink = values[-1] / values - 1

    def precondition(v: Float[Array, " n"]) -> Float[Array, " n"]:
        return v + vectors @ (shrink * (vectors.T @ v))

    return precondition, jnp.maximum(shift, floor)


def _fixed(leaf: Any) -> Any:
    return jax.lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf


def _check(
    action: Action,
    vector: Float[Array | np.ndarray, "..."],
    ridge: float | int,
    rtol: float,
    rank: int,
) -> None:
    if vector.size != action.size or vector.shape not in {action.shape, (action.size,)}:
        raise ValueError(
            f"The right-hand side must have the kernel's shape {list(action.shape)}, "
            f"or be flat, got {list(vector.shape)}."
        )
    if ridge < 0:
        raise ValueError(f"ridge must not be negative, got {ridge}.")
    if rank < 0:
        raise ValueError(f"rank must not be negative, got {rank}.")
    least = 10 * float(np.finfo(action.dtype).eps)
    if rtol < least:
        raise ValueError(
            f"rtol={rtol:g} is below what {action.dtype} can hold. Use at least "
            f"{least:.1g}, or a kernel in float64."
        )
