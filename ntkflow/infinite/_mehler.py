"""E[f(u) g(v)] of any functions, by Mehler's expansion.

With aₙ(q) = E[f(√q z) hₙ(z)] and bₙ those of g,

    E[f(u) g(v)] = Σₙ aₙ(q₁) bₙ(q₂) ρⁿ,    ρ = c/√(q₁q₂),

which is polynomial in ρ, so that nothing happens at ρ = ±1. The coefficients belong to
one example each; the pairs only see the sum. Blocks of terms are added until what f and
g have left, E[f²] − Σ aₙ² by Parseval, bounds the rest of the sum by the tolerance; a
rule that runs out of terms is followed by one of more nodes.

All derivatives are moments again, of derivatives of f and g: ∂/∂c E[f g] = E[f' g']
(Price's theorem) and ∂/∂q₁ E[f g] = ½ E[f'' g] (the heat equation). None of them has a
ρ or a √q in it that is differentiated.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ntkflow.infinite._activation import (
    Triple,
    geometric_mean,
    safe_divide,
    safe_sqrt,
)
from ntkflow.infinite._hermite import BLOCK, LEVELS, TERMS, find_tables, hermite_block

Function = Callable[[Float[Array, "..."]], Float[Array, "..."]]
Orders = tuple[tuple[int, int], ...]

CHUNK: Final = 32
"""Pairs of nodes ±z at which functions are evaluated at a time."""

CHUNKS: Final = tuple(count // (2 * CHUNK) for count in LEVELS)
"""How often, for the rules of each level."""


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def gaussian_moments(
    function: Function,
    orders: Orders,
    tolerance: float,
    c: Float[Array, "..."],
    q1: Float[Array, "..."],
    q2: Float[Array, "..."],
) -> tuple[Float[Array, "..."], ...]:
    """E[f⁽ⁱ⁾(u) f⁽ʲ⁾(v)] for pairs of orders of differentiation.

    Args:
        function: f, which acts elementwise and is differentiated by JAX.
        orders: The pairs i, j.
        tolerance: Error allowed, relative to the root of E[f⁽ⁱ⁾(u)²] E[f⁽ʲ⁾(v)²].
        c: Covariances of u and v.
        q1: Variances of u; shaped to be broadcast against `c`.
        q2: Variances of v.

    Returns:
        The moments, each with the shape of `c`.

    Source: Mehler (1866); Daniely, Frostig & Singer (2016), lemma 11.

    Verified by: tests/infinite/test_elementwise.py::test_dual_matches_quadrature
    """
    tables = [jnp.asarray(table, c.dtype) for table in find_tables()]
    norm = geometric_mean(q1, q2)
    one = jnp.ones_like(c)
    rho = jnp.clip(safe_divide(c, norm), -one, one)
    q = jnp.concatenate([q1.ravel(), q2.ravel()])
    highest = max(max(pair) for pair in orders)
    state = _State(
        level=jnp.zeros((), jnp.int32),
        block=jnp.zeros((), jnp.int32),
        sums=tuple(jnp.zeros_like(c) for _ in orders),
        power=one,
        left=jnp.zeros((highest + 1, q.size), c.dtype),
        done=jnp.zeros((), bool),
    )

    def body(state: _State) -> _State:
        nodes, roots, starts = (table[state.level] for table in tables)
        psi = hermite_block(nodes, starts[state.block], state.block * BLOCK)
        chunks = jnp.asarray(CHUNKS, jnp.int32)[state.level]
        terms, energy = _coefficients(function, highest, q, nodes, roots, psi, chunks)
        first = terms[..., : q1.size].reshape(*terms.shape[:2], *q1.shape)
        second = terms[..., q1.size :].reshape(*terms.shape[:2], *q2.shape)
        added = [_power_series(first[:, i], second[:, j], rho) for i, j in orders]
        total = jnp.where(state.block == 0, energy, state.left)
        left = total - jnp.sum(terms**2, axis=0)
        rest = jnp.maximum(safe_divide(left, energy), jnp.zeros_like(left))
        worst1 = jnp.max(rest[:, : q1.size], axis=1)
        worst2 = jnp.max(rest[:, q1.size :], axis=1)
        bound = jnp.stack([worst1[i] * worst2[j] for i, j in orders])
        return _advance(state, added, rho, left, jnp.max(bound) <= tolerance**2)

    return jax.lax.while_loop(lambda state: ~state.done, body, state).sums


@gaussian_moments.defjvp
def _gaussian_moments_jvp(
    function: Function,
    orders: Orders,
    tolerance: float,
    primals: Triple,
    tangents: Triple,
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    dc, dq1, dq2 = tangents
    more = [
        pair for i, j in orders for pair in ((i + 1, j + 1), (i + 2, j), (i, j + 2))
    ]
    every = tuple(dict.fromkeys([*orders, *more]))
    values = gaussian_moments(function, every, tolerance, *primals)
    found = dict(zip(every, values, strict=True))
    changes = [
        found[i + 1, j + 1] * dc + (found[i + 2, j] * dq1 + found[i, j + 2] * dq2) / 2
        for i, j in orders
    ]
    return tuple(found[pair] for pair in orders), tuple(changes)


class _State(NamedTuple):
    """Where the sum stands: in which rule, at which block, and what is left of f."""

    level: Int[Array, ""]
    block: Int[Array, ""]
    sums: tuple[Float[Array, "..."], ...]
    power: Float[Array, "..."]
    left: Float[Array, "orders n"]
    done: Bool[Array, ""]


def _advance(
    state: _State,
    added: list[Array],
    rho: Array,
    left: Array,
    enough: Array,
) -> _State:
    block = state.block + 1
    exhausted = block * BLOCK >= jnp.asarray(TERMS, jnp.int32)[state.level]
    again = exhausted & ~enough & (state.level < len(LEVELS) - 1)
    sums = tuple(
        jnp.where(again, jnp.zeros_like(old), old + state.power * new)
        for old, new in zip(state.sums, added, strict=True)
    )
    power = jnp.where(again, jnp.ones_like(rho), state.power * rho**BLOCK)
    return _State(
        level=state.level + again.astype(jnp.int32),
        block=jnp.where(again, jnp.zeros_like(block), block),
        sums=sums,
        power=power,
        left=left,
        done=enough | (exhausted & ~again),
    )


def _coefficients(
    function: Function,
    highest: int,
    q: Float[Array, " n"],
    nodes: Float[Array, " half"],
    roots: Float[Array, " half"],
    psi: Float[Array, "block half"],
    chunks: Int[Array, ""],
) -> tuple[Float[Array, "block orders n"], Float[Array, "orders n"]]:
    """A block of coefficients of f, f', ..., and the mean of their squares."""
    scale = safe_sqrt(q)[:, None]

    def add(k: Array, sums: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        even, odd, energy = sums
        cut = partial(jax.lax.dynamic_slice_in_dim, start_index=k * CHUNK)
        x = scale * cut(nodes, slice_size=CHUNK)[None]
        root = cut(roots, slice_size=CHUNK)
        # ψₙ(−z) = (−1)ⁿ ψₙ(z): half the products, and exact zeros by symmetry.
        plus, minus = (
            derivatives(function, highest, x),
            derivatives(function, highest, -x),
        )
        rows = cut(psi, slice_size=CHUNK, axis=1)
        dot = partial(jnp.einsum, "tk,onk->ton", precision="highest")
        return (
            even + dot(rows[0::2], (plus + minus) * root[None, None]),
            odd + dot(rows[1::2], (plus - minus) * root[None, None]),
            energy + jnp.sum((plus**2 + minus**2) * root[None, None] ** 2, axis=2),
        )

    shape = (highest + 1, q.size)
    nothing = jnp.zeros((BLOCK // 2, *shape), q.dtype)
    start = (nothing, nothing, jnp.zeros(shape, q.dtype))
    even, odd, energy = jax.lax.fori_loop(0, chunks, add, start)
    return jnp.stack([even, odd], axis=1).reshape(BLOCK, *shape), energy


def derivatives(
    function: Function, highest: int, x: Float[Array, "*S"]
) -> Float[Array, "orders *S"]:
    """A function of one variable and its derivatives.

    Args:
        function: Acts elementwise.
        highest: Up to which order.
        x: Where.

    Returns:
        One for each order, first.
    """

    def climb(f: Callable[[Array], tuple[Array, ...]], order: int) -> tuple[Array, ...]:
        if order == 0:
            return f(x)
        return climb(lambda x: _with_slope(f, x), order - 1)

    return jnp.stack(climb(lambda x: (function(x),), highest))


def _with_slope(f: Callable[[Array], tuple[Array, ...]], x: Array) -> tuple[Array, ...]:
    values, slopes = jax.jvp(f, (x,), (jnp.ones_like(x),))
    return (*values, slopes[-1])


def _power_series(
    first: Float[Array, "block ..."],
    second: Float[Array, "block ..."],
    rho: Float[Array, "..."],
) -> Float[Array, "..."]:
    """Σ first·second·ρⁿ."""

    def step(total: Array, terms: tuple[Array, Array]) -> tuple[Array, None]:
        return total * rho + terms[0] * terms[1], None

    return jax.lax.scan(step, jnp.zeros_like(rho), (first, second), reverse=True)[0]
