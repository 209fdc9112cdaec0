"""Eigenvalues and leading eigenvectors of a kernel, dense or by restarted Lanczos."""

import math
from typing import Final, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from matfree import decomp

from ntkflow._precision import full_precision
from ntkflow.kernels._action import Action, Dense, Kernel, action_of, as_square

DENSE: Final = 512
"""Size up to which a dense eigendecomposition is no slower than Lanczos."""

CYCLES: Final = 40
"""Restarts before Lanczos is given up."""


def eigenvalues(kernel: Dense) -> Float[Array, " M"]:
    """All eigenvalues of a symmetric kernel, by a dense solve.

    Args:
        kernel: A full kernel, read as a matrix over (example, output), or a matrix.

    Returns:
        The eigenvalues, largest first.

    Verified by: tests/kernels/test_spectrum.py::test_eigenvalues_match_numpy
    """
    return jnp.linalg.eigvalsh(as_square(kernel))[::-1]


def top_eigenpairs(
    kernel: Kernel,
    k: int,
    *,
    key: PRNGKeyArray,
) -> tuple[Float[Array, " k"], Float[Array, "n k"]]:
    """The k largest eigenvalues of a symmetric kernel, and their eigenvectors.

    Small kernels, and those of which a large part of the spectrum is wanted, are solved
    densely. Otherwise Lanczos with full reorthogonalization is restarted, each time
    orthogonally to the eigenvectors at hand, until every residual ‖Av − λv‖ is at
    round-off and a fresh random start finds nothing larger, so that eigenvalues of
    several dimensions are found as often as they occur. Should that not happen within
    40 restarts, a matrix is solved densely. The same key gives the same result. Not
    differentiable in reverse unless dense.

    Args:
        kernel: A full kernel, read as a matrix over (example, output); a matrix; or a
            symmetric lineax operator on one array.
        k: How many, at most the size of the matrix.
        key: Key of the random starting vectors.

    Returns:
        The eigenvalues, largest first, and unit eigenvectors as columns, over flattened
        (example, output).

    Raises:
        ValueError: k is not between 1 and the size, or the operator is not symmetric.

    Source: Lanczos (1950); Wu & Simon (2000), algorithm 2 (thick restart).

    Verified by: tests/kernels/test_spectrum.py::test_top_eigenpairs_match_numpy
    """
    action = action_of(kernel)
    if not 1 <= k <= action.size:
        raise ValueError(f"k must be between 1 and the size {action.size}, got {k}.")
    with full_precision():
        if action.size <= DENSE or 4 * k > action.size:
            return _dense(action.as_matrix(), k)
        state = _lanczos(action, k, key)
        if action.dense:
            return _or_dense(action.as_matrix(), state)
        values = eqx.error_if(
            state.values,
            ~state.settled,
            f"Lanczos found no {k} leading eigenpairs within {CYCLES} restarts: the "
            "spectrum is too flat. Ask for fewer, or give the kernel as a matrix.",
        )
        return values, state.vectors


class _State(NamedTuple):
    """The eigenpairs at hand.

    Attributes:
        values: Ritz values, largest first.
        vectors: Ritz vectors as columns; zero before the first cycle.
        residuals: A v − λ v as columns.
        cycle: Restarts so far.
        converged: Whether every residual is at round-off.
        settled: Whether, moreover, a random start has found nothing larger.
    """

    values: Float[Array, " k"]
    vectors: Float[Array, "n k"]
    residuals: Float[Array, "n k"]
    cycle: Int[Array, ""]
    converged: Bool[Array, ""]
    settled: Bool[Array, ""]


def _dense(
    matrix: Float[Array, "n n"], k: int
) -> tuple[Float[Array, " k"], Float[Array, "n k"]]:
    values, vectors = jnp.linalg.eigh(matrix)
    return values[::-1][:k], vectors[:, ::-1][:, :k]


def _or_dense(
    matrix: Float[Array, "n n"], state: _State
) -> tuple[Float[Array, " k"], Float[Array, "n k"]]:
    """The eigenpairs at hand, or those of a dense solve if they have not settled."""

    # A loop of at most one turn: under vmap a `cond` would always solve densely.
    def solve(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        values, vectors = _dense(matrix, carry[1].shape[0])
        return jnp.asarray(True), values, vectors

    start = (state.settled, state.values, state.vectors)
    _, values, vectors = jax.lax.while_loop(lambda carry: ~carry[0], solve, start)
    return values, vectors


def _lanczos(action: Action, k: int, key: PRNGKeyArray) -> _State:
    size, dtype = action.size, action.dtype
    apply = jax.vmap(action.one_by_one, in_axes=1, out_axes=1)
    # Wide enough that the flat spectra of kernels converge in one cycle.
    n_vectors = min(4 * k + 40, size - k)
    decompose = decomp.tridiag_sym(n_vectors, reortho="full", custom_vjp=False)
    tolerance = 16 * math.sqrt(size) * float(jnp.finfo(dtype).eps)

    def cycle(state: _State) -> _State:
        def project(v: Float[Array, " n"]) -> Float[Array, " n"]:
            return v - state.vectors @ (state.vectors.T @ v)

        def deflated(v: Float[Array, " n"]) -> Float[Array, " n"]:
            return project(action.apply(project(v)))

        start_key, spare_key = jax.random.split(jax.random.fold_in(key, state.cycle))
        lengths = jnp.linalg.norm(state.residuals, axis=0)
        # A residual continues the old Krylov space. Once all have converged, a random
        # start looks for copies of multiple eigenvalues which that space cannot hold.
        start = jnp.where(
            state.converged,
            project(jax.random.normal(start_key, (size,), dtype)),
            state.residuals[:, jnp.argmax(lengths)],
        )
        krylov = cast(Array, decompose(deflated, start).Q_tall).T
        # A Krylov space that closes early leaves vectors of length zero over zero.
        spare = jax.random.normal(spare_key, krylov.shape, dtype)
        found = jnp.all(jnp.isfinite(krylov), axis=0, keepdims=True)
        krylov = jnp.where(found, krylov, spare)
        basis, _ = jnp.linalg.qr(jnp.concatenate([krylov, state.vectors], axis=1))
        image = apply(basis)
        small = basis.T @ image
        values, weights = _dense(0.5 * (small + small.T), k)
        vectors = basis @ weights
        residuals = image @ weights - vectors * values[None, :]
        scale = tolerance * jnp.max(jnp.abs(values))
        converged = jnp.all(jnp.linalg.norm(residuals, axis=0) <= scale)
        kept = jnp.all(jnp.abs(values - state.values) <= scale)
        return _State(
            values=values,
            vectors=vectors,
            residuals=residuals,
            cycle=state.cycle + 1,
            converged=converged,
            settled=state.converged & converged & kept,
        )

    start = _State(
        values=jnp.full((k,), -jnp.inf, dtype),
        vectors=jnp.zeros((size, k), dtype),
        residuals=jnp.zeros((size, k), dtype),
        cycle=jnp.asarray(0),
        converged=jnp.asarray(True),  # so that the first start is random
        settled=jnp.asarray(False),
    )
    return jax.lax.while_loop(
        lambda state: ~state.settled & (state.cycle < CYCLES), cycle, start
    )
