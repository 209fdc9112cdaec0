"""Functions of a kernel times vectors, f(Θ)v, with derivatives at any kernel.

Whatever is predicted of a frozen kernel is f(Θ)v for functions f of its eigenvalues.
The derivative of eigenvectors does not exist where eigenvalues are equal, that of f(Θ)v
does: it is made of divided differences of f, which stay finite there.
"""

import abc
import math
from typing import Any, Final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import BoolScalar, Scalar

PAIRS: Final = 2**20
"""Pairs of eigenvalues whose divided differences are found at the same time."""


class AbstractFilter(eqx.Module):
    """Some functions of an eigenvalue, stacked along the first axis."""

    @abc.abstractmethod
    def values(
        self, rates: Float[Array, "*shape"], floor: Scalar
    ) -> Float[Array, "c *shape"]:
        """The functions.

        Args:
            rates: Eigenvalues, none negative.
            floor: Eigenvalues up to it are round-off.

        Returns:
            Their values.
        """

    @abc.abstractmethod
    def slopes(
        self, low: Float[Array, "*shape"], high: Float[Array, "*shape"], floor: Scalar
    ) -> Float[Array, "c *shape"]:
        """Their divided differences (f(high) − f(low))/(high − low).

        Args:
            low: Eigenvalues, none negative.
            high: Eigenvalues, none less than those of `low`.
            floor: Eigenvalues up to it are round-off.

        Returns:
            Their values, the derivative where low and high are equal.
        """


@eqx.filter_custom_jvp
def apply_filter(
    filters: AbstractFilter, kernel: Float[Array, "n n"], vectors: Float[Array, "n m"]
) -> Float[Array, "c n m"]:
    """f(Θ)v for every function of a filter.

    The first derivatives are right for equal eigenvalues and zero ones. Second ones
    differentiate the eigenvectors, and are right for distinct eigenvalues only.

    Args:
        filters: The functions.
        kernel: Θ, symmetric and positive semidefinite to rounding.
        vectors: v, as columns.

    Returns:
        One result a function.

    Source: Higham (2008), theorem 3.11 (Daleckii & Krein).

    Verified by:
        tests/theory/test_filters.py::test_derivative_by_the_kernel_is_that_of_a_block_matrix
    """
    rates, modes, floor = decompose(kernel)
    return _through(modes, filters.values(rates, floor), _times(modes.T, vectors))


@apply_filter.def_jvp
def _(primals: Any, tangents: Any) -> tuple[Array, Array]:
    filters, kernel, vectors = primals
    d_filters, d_kernel, d_vectors = tangents
    rates, modes, floor = decompose(kernel)
    values, parts = filters.values(rates, floor), _times(modes.T, vectors)
    out = _through(modes, values, parts)
    change = jnp.zeros_like(out)
    if d_vectors is not None:
        change += _through(modes, values, _times(modes.T, d_vectors))
    if any(leaf is not None for leaf in jax.tree.leaves(d_filters)):
        _, d_values = eqx.filter_jvp(
            lambda own: own.values(rates, floor), (filters,), (d_filters,)
        )
        change += _through(modes, d_values, parts)
    if d_kernel is not None:
        turned = _times(_times(modes.T, d_kernel), modes)
        weighted = _all_slopes(filters, rates, floor) * turned[None]
        change += _times(modes, _times(weighted, parts))
    return out, change


def decompose(
    kernel: Float[Array, "n n"],
) -> tuple[Float[Array, " n"], Float[Array, "n n"], Scalar]:
    """Eigenvalues, eigenvectors, and up to where the former are round-off.

    That is 4√n·eps of the largest, what a decomposition makes of zeros; or twice the
    most negative one, if that shows the kernel's own entries to be rounded by more.

    Args:
        kernel: Θ, symmetric and positive semidefinite to rounding.

    Returns:
        All three; of the eigenvalues none is negative.
    """
    rates, modes, floor = _decompose(kernel)
    top, eps = jnp.max(jnp.abs(rates)), float(jnp.finfo(rates.dtype).eps)
    rates = eqx.error_if(
        rates,
        rates[0] < -math.sqrt(eps) * top,
        "The kernel has a negative eigenvalue, beyond rounding: kernels are positive "
        "semidefinite. Check how it was made, or make it in float64.",
    )
    return jnp.maximum(rates, jnp.zeros_like(rates)), modes, floor


def below_rounding(
    kernel: Float[Array, "n n"], vectors: Float[Array, "n m"], shift: Scalar
) -> tuple[BoolScalar, Scalar]:
    """Whether vectors have a part in modes of which rounding leaves no eigenvalue.

    Compiled with `apply_filter`, one decomposition serves both.

    Args:
        kernel: Θ.
        vectors: v, as columns.
        shift: What is added to the eigenvalues, such as a ridge.

    Returns:
        Whether they have, and the eigenvalue up to which there is none.
    """
    rates, modes, floor = _decompose(jax.lax.stop_gradient(kernel))
    vectors = jax.lax.stop_gradient(vectors)
    parts = jnp.max(jnp.abs(_times(modes.T, vectors)), axis=1)
    size = jnp.max(jnp.linalg.norm(vectors, axis=0))
    rounding = 4 * math.sqrt(len(rates)) * float(jnp.finfo(rates.dtype).eps) * size
    return jnp.any((rates + shift <= floor) & (parts > rounding)), floor


def _decompose(
    kernel: Float[Array, "n n"],
) -> tuple[Float[Array, " n"], Float[Array, "n n"], Scalar]:
    rates, modes = jnp.linalg.eigh(kernel, symmetrize_input=False)
    top, eps = jnp.max(jnp.abs(rates)), float(jnp.finfo(rates.dtype).eps)
    floor = 4 * math.sqrt(len(rates)) * eps * top
    return rates, modes, jnp.maximum(floor, -2 * rates[0])


def _all_slopes(
    filters: AbstractFilter, rates: Float[Array, " n"], floor: Scalar
) -> Float[Array, "c n n"]:
    def row(one: Scalar) -> Float[Array, "c n"]:
        low, high = jnp.minimum(one, rates), jnp.maximum(one, rates)
        return filters.slopes(low, high, floor)

    if rates.size**2 <= PAIRS:
        return jax.vmap(row, out_axes=1)(rates)
    found = jax.lax.map(row, rates, batch_size=max(1, PAIRS // rates.size))
    return jnp.moveaxis(found, 0, 1)


def _through(
    modes: Float[Array, "n n"], values: Float[Array, "c n"], parts: Float[Array, "n m"]
) -> Float[Array, "c n m"]:
    return _times(modes, values[:, :, None] * parts[None])


def _times(a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, "..."]:
    if a.ndim < b.ndim:
        return jnp.einsum("ij,cjm->cim", a, b, precision="highest")
    if a.ndim > b.ndim:
        return jnp.einsum("cij,jm->cim", a, b, precision="highest")
    return jnp.matmul(a, b, precision="highest")
