"""Activations: what a function of one variable makes of a Gaussian process.

For Gaussian u, v of variances q₁, q₂ and covariance c an activation φ is its dual
κ(c, q₁, q₂) = E[φ(u) φ(v)] and the derivative κ̇ = E[φ'(u) φ'(v)], which by Price's
theorem is ∂κ/∂c. One activation is one class with these two formulas.
"""

import abc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ntkflow.infinite._checks import check_gaussian
from ntkflow.infinite._finite import Pointwise
from ntkflow.infinite._layer import AbstractLayer, Shape
from ntkflow.infinite._moments import Moments

Triple = tuple[Float[Array, "..."], Float[Array, "..."], Float[Array, "..."]]


class AbstractActivation(AbstractLayer):
    """A function of one variable, applied to every unit."""

    @abc.abstractmethod
    def function(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The activation itself.

        Args:
            x: Preactivations.

        Returns:
            φ(x), elementwise.
        """

    @abc.abstractmethod
    def dual(
        self,
        c: Float[Array, "..."],
        q1: Float[Array, "..."],
        q2: Float[Array, "..."],
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """E[φ(u) φ(v)] and E[φ'(u) φ'(v)].

        Finite, and with finite derivatives, wherever |c| ≤ √(q₁q₂), zero variances
        included; rounding may take c a little beyond.

        Args:
            c: Covariances of u and v.
            q1: Variances of u; shaped to be broadcast against `c`.
            q2: Variances of v.

        Returns:
            Both, with the shape of `c`.
        """

    @abc.abstractmethod
    def second_moment(self, q: Float[Array, "..."]) -> Float[Array, "..."]:
        """E[φ(u)²].

        Args:
            q: Variances of u.

        Returns:
            The moment for every variance.
        """

    @property
    def is_linear(self) -> bool:
        """The mean of φ(u) need not vanish, and its values are not Gaussian."""
        return False

    @property
    def is_random(self) -> bool:
        """It has no weights."""
        return False

    def needs_pairs(self, after: bool) -> bool:
        """Equal positions are mapped to equal positions.

        Args:
            after: Whether pairs are asked for behind the layer.

        Returns:
            The same.
        """
        return after

    def propagate(self, moments: Moments) -> Moments:
        """The moments of φ of the units.

        Args:
            moments: Those of the units.

        Returns:
            Those of φ, no longer Gaussian.

        Raises:
            ValueError: The units are not Gaussian.
        """  # ruff: ignore[docstring-extraneous-exception]
        check_gaussian(type(self).__name__, moments)
        first, second = moments.variance1, moments.variance2
        q1, q2 = moments.beside(first, second)
        nngp, slope = self.dual(_of_the_same(moments), q1, q2)
        if moments.pairs:
            own1 = self._own(moments.own1, first)
            own2 = self._own(moments.own2, second)
        else:
            # One call for both: an activation by quadrature takes a second to compile.
            own = self.second_moment(jnp.concatenate([first, second]))
            own1, own2 = own[: len(first)], own[len(first) :]
        ntk = slope * moments.ntk
        return moments.with_moments(nngp, ntk, own1, own2, gaussian=False)

    def build(
        self, shape: Shape, width: int, *, key: PRNGKeyArray
    ) -> tuple[Callable[[Any], Any], Shape]:
        """The function.

        Args:
            shape: Units and positions of one input.
            width: Not used.
            key: Not used.

        Returns:
            The function as a module, and the same shape.
        """
        # Python numbers, since a function without parameters must be hashable.
        fixed = jax.tree.map(float, self)
        return Pointwise(fixed.function), shape

    def _own(
        self, own: Float[Array, "N ..."], variance: Float[Array, "N *S"]
    ) -> Float[Array, "N ..."]:
        ones = (1,) * (variance.ndim - 1)
        q1 = variance.reshape(*variance.shape, *ones)
        q2 = variance.reshape(variance.shape[0], *ones, *variance.shape[1:])
        return self.dual(own, q1, q2)[0]


def _of_the_same(moments: Moments) -> Float[Array, "N1 N2 ..."]:
    """The covariance, of an example with itself exactly its variance.

    Kernels with an angle in them would turn a rounding error e there into √e.
    """  # ruff: ignore[docstring-missing-returns]
    rank = moments.nngp.ndim - 2
    same = moments.same.reshape(*moments.same.shape, *(1,) * rank)
    return jnp.where(same, moments.own1[:, None], moments.nngp)


@jax.custom_jvp
def determinant(
    c: Float[Array, "..."], q1: Float[Array, "..."], q2: Float[Array, "..."]
) -> Float[Array, "..."]:
    """q₁q₂ − c², the determinant of the covariance of u and v.

    Exactly 0 where they are equal, never negative, and with the derivatives of the
    polynomial that it is. Kernels written in it need no root that vanishes.

    Args:
        c: Covariances.
        q1: Variances of u.
        q2: Variances of v.

    Returns:
        The determinant.
    """
    norm = geometric_mean(q1, q2)
    cosine = jnp.clip(c, -norm, norm)
    return (norm - cosine) * (norm + cosine)


@determinant.defjvp
def _determinant_jvp(
    primals: Triple, tangents: Triple
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    (c, q1, q2), (dc, dq1, dq2) = primals, tangents
    return determinant(c, q1, q2), q1 * dq2 + q2 * dq1 - 2 * c * dc


def sine_and_cosine(
    c: Float[Array, "..."], q1: Float[Array, "..."], q2: Float[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Of the angle between u and v the sine and the cosine, times √(q₁q₂).

    Args:
        c: Covariances.
        q1: Variances of u.
        q2: Variances of v.

    Returns:
        √(q₁q₂ − c²), and c held within ±√(q₁q₂).
    """
    norm = geometric_mean(q1, q2)
    cosine = jnp.clip(c, -norm, norm)
    # √(a − c)·√(a + c) keeps the digits that √(a² − c²) loses when the two are close,
    # and is a number of the dtype where the square is none.
    return safe_sqrt(norm - cosine) * safe_sqrt(norm + cosine), cosine


def geometric_mean(
    q1: Float[Array, "..."], q2: Float[Array, "..."]
) -> Float[Array, "..."]:
    """√(q₁q₂), also where the product is beyond the range of the dtype.

    Of equal variances it is exactly their value: the angle between equals is 0.

    Args:
        q1: Variances of u.
        q2: Variances of v.

    Returns:
        The root, with derivative 0 where one of them is 0.
    """
    swapped = q2 > q1
    large, small = jnp.where(swapped, q2, q1), jnp.where(swapped, q1, q2)
    return large * safe_sqrt(safe_divide(small, large))


def safe_sqrt(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The square root, with derivative 0 at 0.

    Args:
        x: Numbers that are not negative but for rounding.

    Returns:
        √x, and 0 where x ≤ 0.
    """
    positive = x > 0
    # Double where: the derivative never sees the zero. The stand-in is tiny, since
    # compilers round x anew for each use and may see it on both sides of zero.
    tiny = jnp.asarray(jnp.finfo(x.dtype).tiny, x.dtype)
    root = jnp.sqrt(jnp.where(positive, x, tiny))
    return jnp.where(positive, root, jnp.zeros_like(x))


def safe_divide(x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
    """The quotient, and 0 where the divisor is not positive.

    Args:
        x: Numerators.
        y: Divisors.

    Returns:
        x/y.
    """
    positive = y > 0
    quotient = x / jnp.where(positive, y, jnp.ones_like(y))
    return jnp.where(positive, quotient, jnp.zeros_like(quotient))
