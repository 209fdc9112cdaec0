"""The small matrices W U of coupled flows in their eigenbases, kept while they serve.

A decomposition costs (N·K)³ operations, as much as hundreds of gradients, and is made
where a condition says so. Under `vmap` a condition becomes a selection that computes
both of its branches; so the lanes of an ensemble go one after the other, each through a
condition of its own.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from .._types import BoolScalar, IntScalar
from ..flows import ORIGIN, Packed
from ..problem import SquaredError
from ._code import Code
from ._gauss_newton import Base, GaussNewton, linearize
from ._term import FlowTerm


class Decomposition(NamedTuple):
    """Eigenbases of the flows' kernels, and where they were taken; arrays only.

    Attributes:
        base: Where the flows are linearized.
        vectors: By kernel, the eigenvectors of W U as columns.
        values: By kernel, its eigenvalues, none negative, in units of 1/time.
    """

    base: Base
    vectors: dict[str, Float[Array, "m m"]]
    values: dict[str, Float[Array, " m"]]


Coded = tuple[Decomposition, IntScalar]
"""A decomposition in use, with its `Code`."""


class Fixed(eqx.Module):
    """What is not an array of a pytree: part of its structure, for JAX.

    Attributes:
        value: A pytree without arrays.
    """

    value: Any = eqx.field(static=True)


Parts = tuple[Any, Fixed]
"""What a `FlowTerm` is made of, as arrays and the rest."""


def parts_of(term: FlowTerm) -> Parts:
    """Takes a term apart, so that transformations see all it depends on.

    Args:
        term: The flows.

    Returns:
        What `term_from` takes.
    """
    whole = (term.coupled, term.problem, term.constants)
    arrays, rest = eqx.partition(
        whole, lambda leaf: isinstance(leaf, jax.Array | np.ndarray)
    )
    return arrays, Fixed(rest)


def term_from(parts: Parts) -> FlowTerm:
    """Undoes `parts_of`.

    Args:
        parts: From `parts_of`.

    Returns:
        The flows.
    """
    arrays, rest = parts
    return FlowTerm(*eqx.combine(arrays, rest.value))


def start(term: FlowTerm, y: Packed) -> Coded:
    """The first decomposition, of every kernel.

    Args:
        term: The flows.
        y: The packed state.

    Returns:
        The decomposition and its code; where none was found, that of A = −σ.
    """
    size = term.problem.n_examples * term.problem.n_outputs
    dtype = term.problem.dtype
    base = eqx.filter_eval_shape(lambda y: linearize(term, y), y)
    kernels = sorted(base.roots)
    nothing = Decomposition(
        jtu.tree_map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), base),
        {kernel: jnp.zeros((size, size), dtype) for kernel in kernels},
        {kernel: jnp.zeros(size, dtype) for kernel in kernels},
    )
    fine = jnp.asarray(Code.FINE, jnp.int32)
    return _one_by_one(term, kernels, y, jnp.asarray(True), (nothing, fine))


def moving(term: FlowTerm, kernels: list[str]) -> list[str]:
    """The kernels that change along the flows, with the curvature of the loss.

    Args:
        term: The flows.
        kernels: Names of kernels.

    Returns:
        Those that a new decomposition would change.
    """
    quadratic = isinstance(term.problem.loss, SquaredError)
    return [kernel for kernel in kernels if not (quadratic and kernel == ORIGIN)]


def renewed(term: FlowTerm, y: Packed, wanted: BoolScalar, old: Coded) -> Coded:
    """A decomposition at another state, if one is wanted.

    Args:
        term: The flows.
        y: The packed state.
        wanted: Whether to make one.
        old: What is kept otherwise, and where none is found.

    Returns:
        The decomposition and its code.

    Verified by:
        tests/solvers/test_exponential.py::test_ensemble_decomposes_no_more_than_its_lanes
    """
    kernels = moving(term, list(old[0].values))
    return _one_by_one(term, kernels, y, wanted, old) if kernels else old


def _one_by_one(
    term: FlowTerm,
    kernels: list[str],
    y: Packed,
    wanted: BoolScalar,
    old: Coded,
) -> Coded:
    arrays, rest = parts_of(term)

    @jax.custom_batching.sequential_vmap
    def one(arrays: Any, y: Packed, wanted: BoolScalar, old: Coded) -> Coded:
        def decompose() -> Coded:
            return _decomposed(term_from((arrays, rest)), kernels, y, old)

        return lax.cond(wanted, decompose, lambda: old)

    return one(arrays, y, wanted, old)


def _decomposed(term: FlowTerm, kernels: list[str], y: Packed, old: Coded) -> Coded:
    base = linearize(term, y)
    cores = GaussNewton(term, base).cores(kernels)
    kept, code = old
    vectors, values = dict(kept.vectors), dict(kept.values)
    given, found = jnp.asarray(True), jnp.asarray(True)
    for kernel in kernels:
        value, vectors[kernel] = jnp.linalg.eigh(cores[kernel])
        given &= jnp.isfinite(cores[kernel]).all()
        found &= jnp.isfinite(value).all() & jnp.isfinite(vectors[kernel]).all()
        # Round-off makes small ones negative, which a long step would let grow.
        values[kernel] = jnp.maximum(value, 0.0)
    new = Decomposition(base, vectors, values)
    chosen = jtu.tree_map(lambda a, b: jnp.where(found, a, b), new, kept)
    return chosen, jnp.where(given & ~found, Code.FACTORIZATION, code).astype(jnp.int32)
