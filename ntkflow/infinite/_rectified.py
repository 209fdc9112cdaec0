"""Powers of the positive part, and the step: the arc-cosine kernels of all orders.

With θ the angle between u and v and x = π − θ, polar coordinates give

    E[u₊ⁿ v₊ⁿ] = n!/(2π)·(q₁q₂)^{n/2}·Iₙ(x),    Iₙ(x) = ∫₀ˣ (cos β − cos x)ⁿ dβ,

and integration by parts n Iₙ = (2n−1) cos θ Iₙ₋₁ + (n−1) sin² θ Iₙ₋₂ with I₀ = x and
I₁ = sin θ + x cos θ. All of it is positive for acute angles. For obtuse ones it
cancels, and the series about x = 0, of positive terms, takes its place.
"""

import math
from functools import partial
from typing import Final, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkflow.infinite._activation import (
    AbstractActivation,
    Triple,
    determinant,
    geometric_mean,
    safe_divide,
    safe_sqrt,
    sine_and_cosine,
)
from ntkflow.infinite._angle import supplement
from ntkflow.infinite._parameters import check_order

TERMS: Final = 48
"""Of a series in w ≤ 1/2 with falling coefficients: the rest is below 2⁻⁵³."""


@final
class RectifiedMonomial(AbstractActivation):
    """φ(x) = xⁿ above zero, 0 below: order 0 is the step, 1 ReLU.

    κ̇ = n² κₙ₋₁. For the step it is 0, as φ' is wherever it exists and as it is for a
    finite network that is trained; its κ has an infinite derivative at equal units,
    where 0 is returned.

    Args:
        order: The power n.

    Raises:
        ValueError: The order is no integer from 0 on.

    Source: Cho & Saul (2009), eqs. 3-5.

    Verified by: tests/infinite/test_activations.py::test_dual_matches_quadrature
    """

    order: int = eqx.field(static=True)

    def __init__(self, order: int):
        self.order = check_order("RectifiedMonomial", "order", order)

    def function(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The activation itself.

        Args:
            x: Preactivations.

        Returns:
            xⁿ above zero, 0 below; the step is 1/2 at 0.
        """
        if self.order == 0:
            return (jnp.sign(x) + 1) / 2
        return jnp.maximum(x, jnp.zeros_like(x)) ** self.order

    def dual(
        self,
        c: Float[Array, "..."],
        q1: Float[Array, "..."],
        q2: Float[Array, "..."],
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """E[φ(u) φ(v)] and E[φ'(u) φ'(v)].

        Args:
            c: Covariances of u and v.
            q1: Variances of u.
            q2: Variances of v.

        Returns:
            Both.
        """
        n = self.order
        kappa = _moment(n, c, q1, q2)
        if n == 0:
            return kappa, jnp.zeros_like(c)
        return kappa, n**2 * _moment(n - 1, c, q1, q2)

    def second_moment(self, q: Float[Array, "..."]) -> Float[Array, "..."]:
        """E[φ(u)²] = (2n−1)!!/2·qⁿ.

        Args:
            q: Variances of u.

        Returns:
            The moment for every variance.
        """
        if self.order == 0:
            half = jnp.full_like(q, 0.5)
            return jnp.where(q > 0, half, half / 2)
        return math.prod(range(1, 2 * self.order, 2)) / 2 * q**self.order


def Step() -> RectifiedMonomial:  # ruff: ignore[invalid-function-name]
    """The Heaviside step: 1 above zero, 0 below, 1/2 at it.

    Returns:
        The layer.
    """
    return RectifiedMonomial(0)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _moment(
    n: int,
    c: Float[Array, "..."],
    q1: Float[Array, "..."],
    q2: Float[Array, "..."],
) -> Float[Array, "..."]:
    """E[u₊ⁿ v₊ⁿ]."""
    sine, cosine = sine_and_cosine(c, q1, q2)
    before, value = supplement(sine, cosine), jnp.zeros_like(c)
    if n == 0:
        return before / (2 * jnp.pi)
    value = sine + before * cosine
    for k in range(2, n + 1):
        above = (2 * k - 1) * cosine * value + (k - 1) * sine**2 * before
        before, value = value, above / k
    if n > 1:
        norm = geometric_mean(q1, q2)
        value = jnp.where(cosine < 0, _obtuse(n, norm + cosine, norm), value)
    return math.factorial(n) / (2 * jnp.pi) * value


def _obtuse(
    n: int, rest: Float[Array, "..."], norm: Float[Array, "..."]
) -> Float[Array, "..."]:
    """The integral times normⁿ as (1 + cos θ)ⁿ √w B(½, n+1) ₂F₁(½, ½; n+3/2; w)."""
    w = jnp.minimum(safe_divide(rest, 2 * norm), jnp.full_like(rest, 0.5))
    series = [1.0]
    for k in range(TERMS):
        series.append(series[-1] * (k + 0.5) ** 2 / ((n + 1.5 + k) * (k + 1)))
    total = jnp.full_like(w, series[-1])
    for value in reversed(series[:-1]):
        total = total * w + value
    beta = math.gamma(0.5) * math.gamma(n + 1) / math.gamma(n + 1.5)
    return rest**n * safe_sqrt(w) * beta * total


@_moment.defjvp
def _moment_jvp(
    n: int, primals: Triple, tangents: Triple
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    (c, q1, q2), (dc, dq1, dq2) = primals, tangents
    value = _moment(n, c, q1, q2)
    sine, cosine = sine_and_cosine(c, q1, q2)
    if n < 2:
        stretch = (safe_divide(dq1, q1) + safe_divide(dq2, q2)) / 2
        if n == 0:
            change = safe_divide(dc - cosine * stretch, sine)
        else:
            change = 2 * jnp.pi * _moment(0, c, q1, q2) * dc + sine * stretch
        return value, change / (2 * jnp.pi)
    # κ is of degree n in each of u and v: 2q₁ ∂κ/∂q₁ = nκ − c κ̇, which by the
    # recurrence has no differences in it.
    first, second = _moment(n - 1, c, q1, q2), _moment(n - 2, c, q1, q2)
    delta = determinant(c, q1, q2)

    def along(q: Float[Array, "..."], other: Float[Array, "..."]) -> Array:
        height = jnp.where(q > 0, safe_divide(delta, q), other)
        return n / 2 * (safe_divide(c * first, q) + (n - 1) * height * second) * (n - 1)

    change = n**2 * first * dc + along(q1, q2) * dq1 + along(q2, q1) * dq2
    return value, change
