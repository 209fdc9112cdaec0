"""Gauss–Hermite rules and the Hermite functions at their nodes.

For hₙ, the probabilists' Hermite polynomials divided by √n!, and a rule of m nodes z
and weights w, the functions ψₙ(z) = √w hₙ(z) with n < m are an orthogonal matrix: none
is above 1, where hₙ overflows and w underflows. The three-term recurrence

    √(n+1) ψₙ₊₁ = z ψₙ − √n ψₙ₋₁

is stable upwards. It is tabulated at the start of every block of terms, from where a
block follows in any precision, at a sixteenth of the whole table's size.
"""

import functools
from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.linalg import eigvalsh_tridiagonal

BLOCK: Final = 32
"""Terms that are added at a time."""

LEVELS: Final = (128, 384, 1024)
"""Nodes of the rules."""

TERMS: Final = (64, 192, 768)
"""Terms that each is used for. Of a function whose coefficients fall as exp(−d√n), the
m nodes miss exp(−d√(2m)) and n terms exp(−2d√n), so that half as many terms as nodes go
together. The last rule has none to follow it and is used for more."""

CHECK: Final = 768
"""Nodes of a rule that tells the error of the last one."""


class Rule(NamedTuple):
    """The positive half of a rule, whose other half mirrors it.

    Attributes:
        nodes: z > 0.
        roots: √w.
        starts: ψₙ₋₁ and ψₙ for n = 0, 32, 64, ....
    """

    nodes: Float[np.ndarray, " half"]
    roots: Float[np.ndarray, " half"]
    starts: Float[np.ndarray, "blocks 2 half"]


@functools.cache
def find_rule(count: int) -> Rule:
    """The Gauss–Hermite rule of the standard normal distribution.

    Args:
        count: How many nodes it has, an even number.

    Returns:
        Its positive half.

    Source: Golub & Welsch (1969), nodes as eigenvalues, with one Newton step.

    Verified by:
    tests/infinite/test_elementwise.py::test_hermite_functions_are_orthogonal
    """
    off = np.sqrt(np.arange(1.0, count))
    nodes = np.asarray(eigvalsh_tridiagonal(np.zeros(count), off))[count // 2 :]
    _, _, last, value = _climb(nodes, count)
    nodes = nodes - value / (np.sqrt(count) * last)
    roots, starts, _, _ = _climb(nodes, count)
    return Rule(nodes, roots, starts)


def _climb(nodes: Float[np.ndarray, " half"], count: int) -> tuple[np.ndarray, ...]:
    """√w, starts, and hₘ₋₁ and hₘ up to a common factor, as they overflow."""
    below, value = np.zeros_like(nodes), np.ones_like(nodes)
    total, log = np.zeros_like(nodes), np.zeros_like(nodes)
    kept = []
    for n in range(count):
        if n % BLOCK == 0:
            kept.append((below, value, log))
        total = total + value**2
        above = (nodes * value - np.sqrt(n) * below) / np.sqrt(n + 1)
        below, value = value, above
        scale = np.where(np.abs(value) > 1e100, 1e-100, 1.0)
        below, value, total = below * scale, value * scale, total * scale**2
        log = log - np.log(scale)
    # √w = 1/√Σ hₙ²; what underflows is below anything it is added to.
    norm = -0.5 * np.log(total) - log
    with np.errstate(under="ignore"):
        roots = np.exp(norm)
        starts = [np.stack([a, b]) * np.exp(at + norm) for a, b, at in kept]
    return roots, np.stack(starts), below, value


class Tables(NamedTuple):
    """The rules of all levels, filled up with zeros to one shape.

    Attributes:
        nodes: z > 0.
        roots: √w.
        starts: ψₙ₋₁ and ψₙ at the start of every block.
    """

    nodes: Float[np.ndarray, "levels half"]
    roots: Float[np.ndarray, "levels half"]
    starts: Float[np.ndarray, "levels blocks 2 half"]


@functools.cache
def find_tables() -> Tables:
    """The rules of all levels.

    Returns:
        One after the other.
    """
    half, blocks = LEVELS[-1] // 2, TERMS[-1] // BLOCK
    rules = [find_rule(count) for count in LEVELS]

    def fill(x: np.ndarray, *shape: int) -> np.ndarray:
        x = x[: shape[0]]
        pads = [(0, n - k) for n, k in zip(shape, x.shape, strict=True)]
        return np.pad(x, pads)

    return Tables(
        np.stack([fill(rule.nodes, half) for rule in rules]),
        np.stack([fill(rule.roots, half) for rule in rules]),
        np.stack([fill(rule.starts, blocks, 2, half) for rule in rules]),
    )


@functools.cache
def find_functions(count: int, terms: int) -> Float[np.ndarray, "terms half"]:
    """ψₙ at the nodes of a rule.

    Args:
        count: Nodes of the rule.
        terms: How many functions, at most as many.

    Returns:
        One row for each.
    """
    rule = find_rule(count)
    rows = []
    below, value = rule.starts[0]
    for n in range(terms):
        if n % BLOCK == 0:
            below, value = rule.starts[n // BLOCK]
        rows.append(value)
        above = (rule.nodes * value - np.sqrt(n) * below) / np.sqrt(n + 1)
        below, value = value, above
    return np.stack(rows)


def hermite_block(
    nodes: Float[Array, " half"], start: Float[Array, "2 half"], first: Array
) -> Float[Array, "block half"]:
    """ψₙ at the nodes for the terms of a block.

    Args:
        nodes: z.
        start: ψ before the block's first term and at it.
        first: The number of that term.

    Returns:
        One row for each term.
    """

    def step(
        pair: tuple[Array, Array], offset: Array
    ) -> tuple[tuple[Array, Array], Array]:
        below, value = pair
        n = first.astype(nodes.dtype) + offset
        above = (nodes * value - jnp.sqrt(n) * below) / jnp.sqrt(n + 1)
        return (value, above), value

    offsets = jnp.arange(BLOCK, dtype=nodes.dtype)
    return jax.lax.scan(step, (start[0], start[1]), offsets)[1]
