"""Polynomials, in powers and in Hermite's basis.

Both kernels of a polynomial are polynomials in c, q₁ and q₂: no angle, no root.
"""

import math
from collections.abc import Sequence
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkflow.infinite._activation import AbstractActivation
from ntkflow.infinite._parameters import Number, as_scalar, check_number, check_order


@final
class Polynomial(AbstractActivation):
    """φ(x) = Σ pₖ xᵏ.

    With gₙ(q) = E[φ⁽ⁿ⁾(u)]/n! = Σⱼ p_{n+2j} (n+2j)!/(2ʲ j! n!) qʲ, κ = Σ n! gₙ(q₁)
    gₙ(q₂) cⁿ, and κ̇ is its derivative by c.

    Args:
        coefficients: p₀, p₁, ...; a number that is exactly the Python 0.0 costs
            nothing.

    Raises:
        ValueError: There is no coefficient, or one is no finite number.

    Source: Mehler's formula; Daniely, Frostig & Singer (2016), lemma 11.

    Verified by: tests/infinite/test_activations.py::test_dual_matches_quadrature
    """

    coefficients: tuple[Number, ...]

    def __init__(self, coefficients: Sequence[Any]):
        self.coefficients = tuple(
            check_number("Polynomial", f"coefficients[{k}]", value)
            for k, value in enumerate(coefficients)
        )
        if not self.coefficients:
            raise ValueError(
                "Polynomial needs at least one coefficient, p_0 first, such as "
                "Polynomial([0.0, 1.0, 0.5]) for x + x^2/2."
            )

    def function(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The activation itself.

        Args:
            x: Preactivations.

        Returns:
            Σ pₖ xᵏ.
        """
        return _horner(list(self.coefficients), x)

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
        first, second = self._means(q1), self._means(q2)
        terms = [
            math.factorial(n) * (a * b) if a is not None and b is not None else 0.0
            for n, (a, b) in enumerate(zip(first, second, strict=True))
        ]
        slopes = [n * term for n, term in enumerate(terms)][1:]
        return _horner(terms, c), _horner(slopes or [0.0], c)

    def second_moment(self, q: Float[Array, "..."]) -> Float[Array, "..."]:
        """E[φ(u)²].

        Args:
            q: Variances of u.

        Returns:
            The moment for every variance.
        """
        return self.dual(q, q, q)[0]

    def _means(self, q: Float[Array, "..."]) -> list[Array | None]:
        """E[φ⁽ⁿ⁾(u)]/n! for every n; None where no power reaches it."""
        p, degree = self.coefficients, len(self.coefficients) - 1
        means: list[Array | None] = []
        for n in range(degree + 1):
            powers = [
                _times(p[n + 2 * j], math.comb(n + 2 * j, n) * _odd_factorial(j), q)
                for j in range((degree - n) // 2 + 1)
            ]
            nothing = all(isinstance(a, float) and a == 0 for a in powers)
            means.append(None if nothing else _horner(powers, q))
        return means


def Monomial(degree: int) -> Polynomial:  # ruff: ignore[invalid-function-name]
    """φ(x) = xᵏ.

    Args:
        degree: The power k.

    Returns:
        The layer.
    """
    check_order("Monomial", "degree", degree)
    return Polynomial([0.0] * degree + [1.0])


@final
class Hermite(AbstractActivation):
    """The probabilists' Hermite polynomial of degree d, divided by √d!.

    Of unit variances its κ is c^d. Of any, κ_d = Σⱼ d!/(n! 4ʲ j!²)·((q₁−1)(q₂−1))ʲ cⁿ
    with n = d − 2j, and κ̇ = d·κ_{d−1}.

    Args:
        degree: The degree d.

    Raises:
        ValueError: The degree is no integer from 0 on.

    Source: Daniely, Frostig & Singer (2016), section 5, and the multiplication theorem
        of Hermite polynomials for other variances.

    Verified by: tests/infinite/test_activations.py::test_dual_matches_quadrature
    """

    degree: int = eqx.field(static=True)

    def __init__(self, degree: int):
        self.degree = check_order("Hermite", "degree", degree)

    def function(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The activation itself.

        Args:
            x: Preactivations.

        Returns:
            The polynomial's values.
        """
        below, value = jnp.zeros_like(x), jnp.ones_like(x)
        for n in range(self.degree):
            above = (x * value - math.sqrt(n) * below) / math.sqrt(n + 1)
            below, value = value, above
        return value

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
        excess = (q1 - 1) * (q2 - 1)
        d = self.degree
        if d == 0:
            return jnp.ones_like(c), jnp.zeros_like(c)
        return _hermite_moment(d, c, excess), d * _hermite_moment(d - 1, c, excess)

    def second_moment(self, q: Float[Array, "..."]) -> Float[Array, "..."]:
        """E[φ(u)²].

        Args:
            q: Variances of u.

        Returns:
            The moment for every variance.
        """
        return self.dual(q, q, q)[0]


def _hermite_moment(
    degree: int, c: Float[Array, "..."], excess: Float[Array, "..."]
) -> Float[Array, "..."]:
    whole = math.factorial(degree)
    weights = [
        whole / (math.factorial(degree - 2 * j) * 4**j * math.factorial(j) ** 2)
        for j in range(degree // 2 + 1)
    ]
    # From the highest power of the excess on, a form homogeneous in it and in c².
    total = weights[-1] * jnp.ones_like(c)
    power = jnp.ones_like(c)
    for weight in reversed(weights[:-1]):
        power = power * c**2
        total = total * excess + weight * power
    return total * c if degree % 2 else total


def _times(value: Number, factor: int, like: Float[Array, "..."]) -> Any:
    """The product; a Python number stays one, so that zeros are seen."""
    if isinstance(value, float):
        return factor * value
    return factor * as_scalar(value, like)


def _odd_factorial(j: int) -> int:
    """(2j − 1)!! = (2j)!/(2ʲ j!)."""
    return math.factorial(2 * j) // (2**j * math.factorial(j))


def _horner(coefficients: list[Any], x: Float[Array, "..."]) -> Float[Array, "..."]:
    total = jnp.zeros_like(x)
    for value in reversed(coefficients):
        known = isinstance(value, float)
        total = total * x + (value if known else jnp.asarray(value, x.dtype))
    return total
