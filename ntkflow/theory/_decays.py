"""What is left of a mode of eigenvalue λ at a time, for each way of training.

A decay is R(λ), with R(0) = 1. From θ₀ the parameters have moved by −Jᵀ A(Θ) r₀ with
A(λ) = (1 − R(λ))/λ, in the limit −R'(0) for λ = 0: where nothing is learned, no inverse
of the kernel is needed.
"""

import abc
import math
from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._types import Scalar
from ._phi import phi, phi_slopes, phis

NEAR = 2.0
"""Within how many of a function's own lengths two arguments are close."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)
"""Gauss–Legendre quadrature on [−1, 1]; of e^{4s}, twice the above, it leaves 1e-16."""

_TAYLOR = np.array([
    [1 / math.factorial(2 * k), 1 / math.factorial(2 * k + 1)]
    for k in reversed(range(12))
])
"""Coefficients of zᵏ in cosh √z and sinh √z/√z, the last first."""

_Function = Callable[[Float[Array, "*shape"]], Float[Array, "*shape"]]


class AbstractDecay(eqx.Module):
    """R and A of one way of training, at a time that a leaf of the module holds."""

    @abc.abstractmethod
    def pair(
        self, rates: Float[Array, "*shape"], floor: Scalar
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """A and R.

        Args:
            rates: Eigenvalues, none negative.
            floor: Eigenvalues up to it are round-off.

        Returns:
            Their values.
        """

    @abc.abstractmethod
    def pair_slopes(
        self, low: Float[Array, "*shape"], high: Float[Array, "*shape"], floor: Scalar
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """Divided differences of A and R.

        Args:
            low: Eigenvalues, none negative.
            high: Eigenvalues, none less than those of `low`.
            floor: Eigenvalues up to it are round-off.

        Returns:
            Their values.
        """


@final
class Ended(AbstractDecay):
    """t = ∞: all is learned but what has no eigenvalue."""

    def pair(
        self, rates: Float[Array, "*shape"], floor: Scalar
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """1/λ and 0, for λ = 0 these are 0 and 1.

        Args:
            rates: Eigenvalues, none negative.
            floor: Eigenvalues up to it are zero.

        Returns:
            A and R.
        """
        none, one = rates <= floor, jnp.ones_like(rates)
        inverse = jnp.where(none, 0 * one, 1 / jnp.where(none, one, rates))
        return inverse, jnp.where(none, one, 0 * one)

    def pair_slopes(
        self, low: Float[Array, "*shape"], high: Float[Array, "*shape"], floor: Scalar
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """Those along which the rank stays the same.

        Args:
            low: Eigenvalues, none negative.
            high: Eigenvalues, none less than those of `low`.
            floor: Eigenvalues up to it are zero.

        Returns:
            Divided differences of A and R.
        """
        (below, missing), (above, _) = self.pair(low, floor), self.pair(high, floor)
        return missing * above**2 - below * above, -missing * above


def _ended_or(
    ended: Bool[Array, ""],
    limit: tuple[Array, Array],
    finite: tuple[Array, Array],
) -> tuple[Array, Array]:
    return (
        jnp.where(ended, limit[0], finite[0]),
        jnp.where(ended, limit[1], finite[1]),
    )


def _finite(t: Scalar) -> Scalar:
    return jnp.where(jnp.isinf(t), jnp.ones_like(t), t)


@final
class Flow(AbstractDecay):
    """Gradient flow: R = e^{−λt} and A = tφ₁(−λt).

    Attributes:
        t: Training time.
    """

    t: Float[Array, "*T"]

    def pair(
        self, rates: Float[Array, "*shape"], floor: Scalar
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """A and R.

        Args:
            rates: Eigenvalues, none negative.
            floor: Eigenvalues up to it are zero at t = ∞.

        Returns:
            Their values.
        """
        t = _finite(self.t)
        left, learned = phis(1, -t * rates)
        limit = Ended().pair(rates, floor)
        return _ended_or(jnp.isinf(self.t), limit, (t * learned, left))

    def pair_slopes(
        self, low: Float[Array, "*shape"], high: Float[Array, "*shape"], floor: Scalar
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """By the divided differences of the φ-functions.

        Args:
            low: Eigenvalues, none negative.
            high: Eigenvalues, none less than those of `low`.
            floor: Eigenvalues up to it are zero at t = ∞.

        Returns:
            Divided differences of A and R.
        """
        t = _finite(self.t)
        left, learned = phi_slopes(1, -t * low, t * (high - low))
        limit = Ended().pair_slopes(low, high, floor)
        return _ended_or(jnp.isinf(self.t), limit, (-(t**2) * learned, -t * left))


@final
class Oscillation(AbstractDecay):
    """Heavy ball from rest, R̈ + γṘ + λR = 0, whatever its damping.

    Attributes:
        t: Training time.
        damping: γ, in units of 1/time.
    """

    t: Float[Array, "*T"]
    damping: Float[Array, ""]

    def pair(
        self, rates: Float[Array, "*shape"], floor: Scalar
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """A and R.

        Args:
            rates: Eigenvalues, none negative.
            floor: Eigenvalues up to it are zero at t = ∞.

        Returns:
            Their values.
        """
        own = (self._moved(rates), self._left(rates))
        return _ended_or(jnp.isinf(self.t), Ended().pair(rates, floor), own)

    def pair_slopes(
        self, low: Float[Array, "*shape"], high: Float[Array, "*shape"], floor: Scalar
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """By quadrature of derivatives for close eigenvalues.

        Args:
            low: Eigenvalues, none negative.
            high: Eigenvalues, none less than those of `low`.
            floor: Eigenvalues up to it are zero at t = ∞.

        Returns:
            Divided differences of A and R.
        """
        near = self._near(low, high)
        own = (slope(self._moved, low, high, near), slope(self._left, low, high, near))
        limit = Ended().pair_slopes(low, high, floor)
        return _ended_or(jnp.isinf(self.t), limit, own)

    def _near(
        self, low: Float[Array, "*shape"], high: Float[Array, "*shape"]
    ) -> Bool[Array, "*shape"]:
        # R is an entire function of λt², that takes longer to change the larger it is.
        t = _finite(self.t)
        size = jnp.maximum(t * jnp.sqrt(high + self.damping**2 / 4), jnp.ones_like(low))
        return t**2 * (high - low) < NEAR * size

    def _moved(self, rates: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        zero = jnp.zeros_like(rates)
        return -slope(self._left, zero, rates, self._near(zero, rates))

    def _left(self, rates: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """e^{−u}(cosh √z + u sinh √z/√z) with u = γt/2 and z = u² − λt²."""
        t = _finite(self.t)
        u = 0.5 * t * self.damping
        z = u**2 - t**2 * rates
        one = jnp.ones_like(z)
        # Each branch sees only arguments at which it has derivatives.
        slow, fast = z > 1, z < -1
        root = jnp.sqrt(jnp.where(slow, z, one))
        # The smaller root of the two as λt²/(u + √z), which subtracts nothing.
        late = jnp.where(slow, t**2 * rates, 0 * one) / (u + root)
        creeping = jnp.exp(-late) * (1 + late * phi(1, -2 * root))
        phase = jnp.sqrt(jnp.where(fast, -z, one))
        swinging = jnp.exp(-u) * (jnp.cos(phase) + u * jnp.sin(phase) / phase)
        even, odd = _series(jnp.where(slow | fast, 0 * one, z))
        critical = jnp.exp(-u) * (even + u * odd)
        return jnp.where(slow, creeping, jnp.where(fast, swinging, critical))


@final
class Descent(AbstractDecay):
    """Updates of gradient descent: R = (1 − ηλ)^k.

    Attributes:
        steps: k.
        learning_rate: η, in units of time.
    """

    steps: Int[Array, "*T"]
    learning_rate: Float[Array, ""]

    def pair(
        self, rates: Float[Array, "*shape"], floor: Scalar
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """A and R.

        Args:
            rates: Eigenvalues, none negative.
            floor: Not used: no eigenvalue counts as zero after finitely many updates.

        Returns:
            Their values.
        """
        return self._moved(rates), self._left(rates)

    def pair_slopes(
        self, low: Float[Array, "*shape"], high: Float[Array, "*shape"], floor: Scalar
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """By quadrature of derivatives for close eigenvalues.

        Args:
            low: Eigenvalues, none negative.
            high: Eigenvalues, none less than those of `low`.
            floor: Not used.

        Returns:
            Divided differences of A and R.
        """
        near = self._near(low, high)
        moved = slope(self._moved, low, high, near)
        return moved, slope(self._left, low, high, near)

    def _near(
        self, low: Float[Array, "*shape"], high: Float[Array, "*shape"]
    ) -> Bool[Array, "*shape"]:
        time = self.learning_rate * self.steps.astype(low.dtype)
        return time * (high - low) < NEAR

    def _moved(self, rates: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        zero = jnp.zeros_like(rates)
        return -slope(self._left, zero, rates, self._near(zero, rates))

    def _left(self, rates: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        steps = self.steps.astype(rates.dtype)
        x = self.learning_rate * rates
        small = x < 0.5
        # 1 − x loses the digits of a small x, of which many steps would make much.
        slow = jnp.exp(steps * jnp.log1p(-jnp.where(small, x, jnp.zeros_like(x))))
        factor = jnp.where(small, jnp.ones_like(x), 1 - x)
        return jnp.where(small, slow, jnp.power(factor, steps))


def slope(
    function: _Function,
    low: Float[Array, "*shape"],
    high: Float[Array, "*shape"],
    near: Bool[Array, "*shape"],
) -> Float[Array, "*shape"]:
    """A divided difference: as it is written, or the mean derivative in between.

    Args:
        function: A smooth function, element by element.
        low: Smaller arguments.
        high: Larger ones.
        near: Where they lie within about `NEAR` lengths, over which the function
            changes by a factor e or a phase of one.

    Returns:
        (f(high) − f(low))/(high − low), the derivative where they are equal.
    """
    gap = high - low
    apart = (function(high) - function(low)) / jnp.where(near, jnp.ones_like(gap), gap)
    within = jnp.where(near, gap, jnp.zeros_like(gap))
    at = jnp.asarray((0.5 * (1 + _NODES)).astype(low.dtype))
    nodes = low[None] + jnp.multiply.outer(at, within)
    _, slopes = jax.jvp(function, (nodes,), (jnp.ones_like(nodes),))
    weights = jnp.asarray((0.5 * _WEIGHTS).astype(low.dtype))
    close = jnp.tensordot(weights, slopes, axes=1, precision="highest")
    return jnp.where(near, close, apart)


def _series(z: Float[Array, "*shape"]) -> tuple[Array, Array]:
    """Sums cosh √z and sinh √z/√z for |z| ≤ 1, with second derivatives to round-off."""
    shape = (len(_TAYLOR), 2, *[1] * z.ndim)
    terms = np.broadcast_to(_TAYLOR.reshape(shape), (*shape[:2], *z.shape))
    both = jnp.broadcast_to(z, (2, *z.shape))
    # Written out, the terms would take long to compile.
    even, odd = jnp.polyval(jnp.asarray(terms.astype(z.dtype)), both, unroll=1)
    return even, odd
