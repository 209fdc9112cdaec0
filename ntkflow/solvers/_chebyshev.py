"""Runge–Kutta–Chebyshev: explicit stages for stiff flows with a real spectrum.

Ordinary explicit methods spend their stages on accuracy and step along the stiffest
mode. Here s stages spend them on stability, whose interval on the negative real axis
grows as s²: a step of any size h takes about √(1.54 h ρ) gradients, where ρ is the
spectral radius of the Jacobian. Gradient flow is made for it, since its Jacobian is
minus the Hessian of the loss and so has a real spectrum.
"""

from typing import Any, ClassVar, NamedTuple, final

import diffrax as dfx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PyTree

from .._types import IntScalar, Scalar
from ._stabilized import AbstractStabilized, Ends, Step, combine, times

_DAMPING = 2 / 13
"""ε: how far the stability polynomial stays below one inside its interval."""

_ROUNDING = 5e-3
"""What s² units of rounding may come to."""


@final
class Chebyshev(AbstractStabilized):
    """The second-order Runge–Kutta–Chebyshev method, for any ODE term.

    The number of stages is chosen each step from hρ; ρ by power iteration on
    Jacobian-vector products, begun where the last one ended, every `refresh` steps and
    whenever the controller has cut the step. The error estimate is made of the slopes
    at both ends, and the later one begins the next step: it costs no gradient.

    Its spectrum must be close to the negative real axis. It is that of a gradient flow;
    not that of the heavy ball, which oscillates.

    Attributes:
        max_stages: Stages a step may take; a longer step is rejected unattempted. By
            default 2,000, and in float32, where s stages amplify rounding by some s²
            units, 200.
        safety: Factor on the estimate of ρ, which is one from below.
        refresh: Accepted steps between two estimates of ρ.
        max_products: Jacobian-vector products an estimate may take; one that has not
            settled by then ends the solve.

    Source: Sommeijer, Shampine & Verwer (1998), eqs. 2.1-2.10, 3.1-3.5.
    Verified by: tests/solvers/test_chebyshev.py::test_order_is_two
    Verified by:
        tests/solvers/test_chebyshev.py::test_stability_interval_grows_as_stages_squared
    """

    max_stages: int | None = None
    safety: float = 1.1
    refresh: int = 20
    max_products: int = 100
    term_structure: ClassVar = dfx.AbstractTerm
    interpolation_cls: ClassVar = dfx.ThirdOrderHermitePolynomialInterpolation

    def order(self, terms: Any) -> int:
        """2.

        Args:
            terms: The vector field.

        Returns:
            The order.
        """
        return 2

    def error_order(self, terms: Any) -> int:
        """3: the local error is of the order of h³.

        Args:
            terms: The vector field.

        Returns:
            The exponent of the step in the error estimate.
        """
        return 3

    def count(self, z: Scalar) -> IntScalar:
        """The fewest stages stable for a step.

        Args:
            z: The step times the spectral radius.

        Returns:
            At least two.
        """
        return count_stages(z)

    def most_stages(self, y: PyTree[Array]) -> int:
        """Stages a step may take.

        Args:
            y: A state.

        Returns:
            Their number.
        """
        if self.max_stages is not None:
            return self.max_stages
        eps = max(float(jnp.finfo(leaf.dtype).eps) for leaf in jtu.tree_leaves(y))
        return min(2000, int((_ROUNDING / eps) ** 0.5))

    def run_stages(
        self, step: Step, y0: PyTree[Array], slope: PyTree[Array], stages: IntScalar
    ) -> tuple[PyTree[Array], None]:
        """The state at the end of a step.

        Args:
            step: The step.
            y0: The state at its start.
            slope: The vector field there.
            stages: How many.

        Returns:
            The state, and nothing else that is needed later.
        """
        return _stages(step, y0, slope, stages), None

    def look_back(
        self, step: Step, ends: Ends, inside: None
    ) -> tuple[PyTree[Array], dict[str, Any]]:
        """The error estimate, and a cubic Hermite interpolation.

        Args:
            step: The step.
            ends: States and slopes at both of its ends.
            inside: Nothing.

        Returns:
            Both, from what is known at the ends.

        Source: Sommeijer, Shampine & Verwer (1998), eq. 3.3.
        """
        del inside
        first, last = times(step.control, ends.slope0), times(step.control, ends.slope1)
        eight, four = (jnp.asarray(x, step.h.dtype) for x in (0.8, 0.4))
        error = combine([
            (eight, ends.y0), (-eight, ends.y1), (four, first), (four, last)
        ])  # fmt: skip
        return error, {"y0": ends.y0, "y1": ends.y1, "k0": first, "k1": last}


def count_stages(z: Scalar) -> IntScalar:
    """The fewest stages stable for a step of h with z = hρ.

    Args:
        z: The step times the spectral radius.

    Returns:
        At least two.

    Source: Sommeijer, Shampine & Verwer (1998), eq. 3.2.
    """
    # Far beyond any cap an integer would overflow.
    needed = 1 + jnp.floor(jnp.sqrt(1.54 * jnp.clip(z, 0.0, 1e12) + 1))
    return jnp.maximum(needed, 2).astype(jnp.int32)


class _Polynomials(NamedTuple):
    """Chebyshev polynomials beyond one: T_j(w₀), T′_j(w₀) and T″_j(w₀)."""

    value: Scalar
    first: Scalar
    second: Scalar


def _polynomials(j: Scalar, x: Scalar) -> _Polynomials:
    """At w₀ = cosh x, where T_j = cosh jx; recurrences lose j² units of rounding."""
    c, s, sinh = jnp.cosh(j * x), jnp.sinh(j * x), jnp.sinh(x)
    first = j * s / sinh
    second = (j**2 * c - first * jnp.cosh(x)) / sinh**2
    return _Polynomials(c, first, second)


def _weight(j: Scalar, x: Scalar) -> Scalar:
    """b_j: the scale of the j-th stage; b₀ = b₁ = b₂."""
    at = _polynomials(jnp.maximum(j, 2), x)
    return at.second / at.first**2


def _moment(j: Scalar, x: Scalar, end: _Polynomials) -> Scalar:
    """c_j: where in the step the j-th stage lies; c₁ = c₂/T′₂(w₀)."""
    at = _polynomials(jnp.maximum(j, 2), x)
    c = end.first * at.second / (end.second * at.first)
    return jnp.where(j == 1, c / (4 * jnp.cosh(x)), c)


def _stages(
    step: Step, y0: PyTree[Array], slope: PyTree[Array], stages: IntScalar
) -> PyTree[Array]:
    """The state after `stages` stages; y0 itself after none."""
    h, control = step.h, step.control
    count = jnp.maximum(stages, 2).astype(h.dtype)
    x = 2 * jnp.arcsinh(jnp.sqrt(jnp.asarray(_DAMPING / 2, h.dtype)) / count)
    w0, end = jnp.cosh(x), _polynomials(count, x)
    w1 = end.first / end.second

    def stage(carry: tuple[Any, Any, Scalar]) -> tuple[Any, Any, Scalar]:
        before, now, j = carry
        b, b1, b2 = (_weight(j - lag, x) for lag in (0, 1, 2))
        mu, nu, scale = 2 * b * w0 / b1, -b / b2, 2 * b * w1 / b1
        a1 = 1 - b1 * _polynomials(j - 1, x).value
        at = step.t0 + _moment(j - 1, x, end) * h
        field = step.terms.vf(at, now, step.args)
        after = combine([
            (1 - mu - nu, y0),
            (mu, now),
            (nu, before),
            (scale * control, field),
            (-a1 * scale * control, slope),
        ])
        return now, after, j + 1

    two = jnp.asarray(2, h.dtype)
    first = combine([(jnp.ones_like(h), y0), (_weight(two, x) * w1 * control, slope)])
    _, y1, _ = jax.lax.while_loop(
        lambda carry: carry[2] <= stages.astype(h.dtype), stage, (y0, first, two)
    )
    return jtu.tree_map(lambda a, b: jnp.where(stages > 0, b, a), y0, y1)
