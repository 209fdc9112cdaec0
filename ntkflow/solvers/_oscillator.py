"""φ-functions of damped oscillators, M = [[0, 1], [−σ − λ, −d]], by doubling.

Any function of X = hM is a + bX, since X² = −hd X − h²(σ + λ): two numbers, that stay
tame whether the oscillator is overdamped, critical or fast. The functions are summed as
series of X/2ⁿ and doubled n times, every oscillator as often as it needs. Divided
differences between λ and zero are carried along by the rule of products, [fg] =
[f]g(λ) + f(0)[g], and never formed by subtraction.
"""

import math

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from .._types import Scalar
from ._mode_phis import ModePhis

_SMALL = 0.5
"""Largest size of an argument of the series."""

_MAX_DOUBLINGS = 60
"""Beyond it no digit is left of an oscillation's phase, in any precision."""


class _Divided(eqx.Module):
    """A function of h²λ: its values at zero and here, and their divided difference."""

    zero: Array
    here: Array
    slope: Array

    def __add__(self, other: "_Divided") -> "_Divided":
        return jtu.tree_map(jnp.add, self, other)

    def __mul__(self, other: "_Divided") -> "_Divided":
        slope = self.slope * other.here + self.zero * other.slope
        return _Divided(self.zero * other.zero, self.here * other.here, slope)

    def scaled(self, factor: Array | float) -> "_Divided":
        return jtu.tree_map(lambda own: factor * own, self)


class _Element(eqx.Module):
    """a + bX."""

    a: _Divided
    b: _Divided

    def plus(self, number: Array | float) -> "_Element":
        a = self.a
        return _Element(_Divided(a.zero + number, a.here + number, a.slope), self.b)


class _Ring(eqx.Module):
    """Where X² = −drag X − spring."""

    drag: Array
    spring: _Divided

    def product(self, x: _Element, y: _Element) -> _Element:
        both = x.b * y.b
        a = x.a * y.a + (self.spring * both).scaled(-1.0)
        return _Element(a, x.a * y.b + x.b * y.a + both.scaled(-self.drag))

    def times_x(self, y: _Element) -> _Element:
        return _Element((self.spring * y.b).scaled(-1.0), y.a + y.b.scaled(-self.drag))

    def doubled(self) -> "_Ring":
        return _Ring(2.0 * self.drag, self.spring.scaled(4.0))


def oscillator_phis(
    count: int,
    h: Scalar,
    damping: Scalar | float | int,
    shift: Scalar | float | int,
    values: Float[Array, " m"],
) -> ModePhis:
    """φ-functions of damped oscillators over a step, and their divided differences.

    Errors are tens of roundings times max(hd, h√(σ + λ), 1), those of a phase, relative
    to the size that each entry has at any phase.

    Args:
        count: The last index.
        h: The step, in units of time.
        damping: d, not negative, in units of 1/time.
        shift: σ, not negative, in units of 1/time².
        values: λ, none negative, likewise.

    Returns:
        The functions.

    Source: Skaflestad & Wright (2009), section 2 (doubling); derived here for divided
    differences.
    Verified by:
        tests/solvers/test_oscillator.py::test_functions_are_those_of_the_exponential
    """
    # In front an oscillator of λ = 0 alone, which doubles no more often than it needs.
    values = jnp.concatenate([jnp.zeros_like(values[:1]), values])[None]
    squares = h**2 * values
    drag = jnp.full_like(squares, h * damping)
    own = jnp.full_like(squares, h**2 * shift)
    spring = _Divided(own, own + squares, jnp.ones_like(squares))
    size = jnp.maximum(drag, jnp.sqrt(spring.here))
    needed = jnp.ceil(jnp.log2(jnp.maximum(size, _SMALL) / _SMALL))
    part = jnp.exp2(-jnp.minimum(needed, _MAX_DOUBLINGS))
    doublings = jnp.minimum(needed, _MAX_DOUBLINGS).astype(jnp.int32)
    ring = _Ring(part * drag, spring.scaled(part**2))
    found = _doubled(_series(count, ring), ring, doublings)
    return _matrices(found, h, drag, own, h * (values + shift))


def _series(count: int, ring: _Ring) -> _Element:
    """φ₀ to φ_count, along the first axis: the last as a series, the others from it."""
    dtype, terms = ring.drag.dtype, 1
    while _SMALL**terms / math.perm(count + terms, terms) > jnp.finfo(dtype).eps / 8:
        terms += 1
    inverse = [1 / math.factorial(count + j) for j in reversed(range(terms))]

    def horner(x: _Element, number: Array) -> tuple[_Element, None]:
        return ring.times_x(x).plus(number), None

    zero = jtu.tree_map(jnp.zeros_like, ring.spring)
    last, _ = lax.scan(horner, _Element(zero, zero), jnp.asarray(inverse, dtype))
    found = [last]
    for k in reversed(range(count)):
        found.append(ring.times_x(found[-1]).plus(1 / math.factorial(k)))
    return jtu.tree_map(lambda *rows: jnp.concatenate(rows[::-1]), *found)


def _doubled(x: _Element, ring: _Ring, doublings: Int[Array, "1 m"]) -> _Element:
    """2ᵏφ_k(2X) = φ₀(X)φ_k(X) + Σ_j φ_j(X)/(k − j)!, for 1 ≤ j ≤ k."""
    count = len(x.a.zero) - 1
    sums = np.array([
        [1 / math.factorial(k - j) if 1 <= j <= k else 0 for j in range(count + 1)]
        for k in range(count + 1)
    ])
    dtype = ring.drag.dtype
    sums = jnp.asarray(sums, dtype)
    shares = jnp.asarray(0.5 ** np.arange(count + 1), dtype)[:, None]

    def once(i: Array, carry: tuple[_Element, _Ring]) -> tuple[_Element, _Ring]:
        x, ring = carry
        first = jtu.tree_map(lambda own: own[:1], x)
        doubled = jtu.tree_map(
            lambda own, product: (
                shares * (product + jnp.matmul(sums, own, precision="highest"))
            ),
            x,
            ring.product(first, x),
        )
        # In terms of the doubled X.
        new = _Element(doubled.a, doubled.b.scaled(0.5)), ring.doubled()
        more = i < doublings
        return jtu.tree_map(lambda a, b: jnp.where(more, a, b), new, carry)

    return lax.fori_loop(0, jnp.max(doublings), once, (x, ring))[0]


def _matrices(
    x: _Element,
    h: Scalar,
    drag: Float[Array, "1 m"],
    still: Float[Array, "1 m"],
    pull: Float[Array, "1 m"],
) -> ModePhis:
    def stacked(rows: list[list[Array]]) -> Array:
        return jnp.stack([jnp.stack(row, axis=1) for row in rows], axis=1)

    a, b = x.a, x.b
    large = stacked([
        [a.here, h * b.here],
        [-pull * b.here, a.here - drag * b.here],
    ])
    slopes = stacked([
        [-h * a.slope, -(h**2) * b.slope],
        [b.here + still * b.slope, -h * (a.slope - drag * b.slope)],
    ])
    return ModePhis(large[..., 0], large[..., 1:], slopes[..., 1:])
