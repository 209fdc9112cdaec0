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
from ._code import Code
from ._counted import AbstractCountedSolver, Attempt, Work, was_cut, work
from ._spectral_radius import Radius, estimate_radius, first_guess

_DAMPING = 2 / 13
"""ε: how far the stability polynomial stays below one inside its interval."""

_ROUNDING = 5e-3
"""What s² units of rounding may come to."""

_SETTLED = 1e-2
"""Relative change at which power iteration has settled."""


class ChebyshevState(NamedTuple):
    """What Chebyshev carries from step to step.

    Attributes:
        slope: The vector field at the state.
        radius: The spectral radius, and the vectors its iteration goes on from.
        age: Accepted steps since it was estimated.
        last: The last accepted step.
        code: A `Code`.
    """

    slope: PyTree[Array]
    radius: Radius
    age: IntScalar
    last: Scalar
    code: IntScalar


@final
class Chebyshev(AbstractCountedSolver):
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

    def init(
        self, terms: Any, t0: Any, t1: Any, y0: PyTree[Array], args: Any
    ) -> ChebyshevState:
        """The slope at the start, and nothing known of the spectrum.

        Args:
            terms: The vector field.
            t0: Start.
            t1: End of the first step.
            y0: The state.
            args: Arguments of the vector field.

        Returns:
            The solver's state.
        """
        slope = terms.vf(t0, y0, args)
        return ChebyshevState(
            slope,
            first_guess(terms, y0, slope),
            jnp.asarray(self.refresh, jnp.int32),
            jnp.zeros_like(jnp.asarray(t1 - t0)),
            jnp.asarray(Code.FINE, jnp.int32),
        )

    def attempt(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: PyTree[Array],
        args: Any,
        solver_state: ChebyshevState,
        made_jump: Any,
    ) -> Attempt:
        """One step of as many stages as its length needs.

        Args:
            terms: The vector field.
            t0: Start of the step.
            t1: End of the step.
            y0: The state at its start.
            args: Arguments of the vector field.
            solver_state: The solver's state.
            made_jump: Whether the vector field jumped at t0.

        Returns:
            The attempt.
        """
        h = jnp.asarray(t1 - t0)
        slope = _slope(terms, t0, y0, args, solver_state.slope, made_jump)
        due = solver_state.age >= self.refresh
        due = due | was_cut(h, solver_state.last)
        radius = self._radius(terms, t0, y0, args, solver_state.radius, due)
        needed = count_stages(h * self.safety * radius.value)
        fits = needed <= self._most_stages(y0)
        stages = jnp.where(fits, needed, 0)
        control = jnp.asarray(terms.contr(t0, t1))
        step = _Step(terms, t0, h, control, args)
        y1 = _stages(step, y0, slope, stages)
        slope1 = terms.vf(t1, y1, args)
        error = jtu.tree_map(
            lambda a, b, fa, fb: jnp.where(
                fits,
                0.8 * (a - b) + (0.4 * control).astype(a.dtype) * (fa + fb),
                jnp.inf,
            ),
            y0,
            y1,
            slope,
            slope1,
        )
        unsettled = due & ~radius.settled
        code = jnp.where(unsettled, Code.SPECTRUM, Code.FINE).astype(jnp.int32)
        age = jnp.where(due, 1, solver_state.age + 1).astype(jnp.int32)
        state = ChebyshevState(slope1, radius, age, h, code)
        dense = {
            "y0": y0,
            "y1": y1,
            "k0": _times(control, slope),
            "k1": _times(control, slope1),
        }
        fine: Any = dfx.RESULTS.successful
        failed: Any = dfx.RESULTS.nonlinear_divergence
        result = dfx.RESULTS.where(unsettled, failed, fine)
        # The slope at the start is the last step's; the stages need s − 1 more of them.
        evaluations = jnp.maximum(stages, 1)
        cost = work(evaluations, hvps=radius.products, refused=~fits)
        return Attempt(y1, error, dense, state, result, cost)

    def begun(self, state: ChebyshevState) -> Work:
        """The first slope.

        Args:
            state: The solver's state, from `init`.

        Returns:
            The cost.
        """
        del state
        return work(1)

    def code(self, state: ChebyshevState) -> IntScalar:
        """Whether power iteration has settled.

        Args:
            state: The solver's state.

        Returns:
            A `Code`.
        """
        return state.code

    def radius(self, state: ChebyshevState) -> Scalar:
        """The spectral radius as last estimated, a lower bound.

        Args:
            state: The solver's state.

        Returns:
            In units of 1/time.
        """
        return state.radius.value

    def _most_stages(self, y: PyTree[Array]) -> int:
        if self.max_stages is not None:
            return self.max_stages
        eps = max(float(jnp.finfo(leaf.dtype).eps) for leaf in jtu.tree_leaves(y))
        return min(2000, int((_ROUNDING / eps) ** 0.5))

    def _radius(
        self, terms: Any, t: Any, y: PyTree[Array], args: Any, known: Radius, due: Array
    ) -> Radius:
        def estimate(known: Radius) -> Radius:
            return estimate_radius(
                terms,
                t,
                y,
                args,
                known,
                rtol=_SETTLED,
                max_products=self.max_products,
            )

        def keep(known: Radius) -> Radius:
            return known._replace(products=jnp.zeros_like(known.products))

        return jax.lax.cond(due, estimate, keep, known)


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


class _Step(NamedTuple):
    """A step: its field, its start, its length in time and as the field's control."""

    terms: Any
    t0: Any
    h: Scalar
    control: Scalar
    args: Any


def _stages(
    step: _Step, y0: PyTree[Array], slope: PyTree[Array], stages: IntScalar
) -> PyTree[Array]:
    """The state after `stages` stages; y0 itself after none."""
    h, control = step.h, step.control
    count = jnp.maximum(stages, 2).astype(h.dtype)
    x = 2 * jnp.arcsinh(jnp.sqrt(jnp.asarray(_DAMPING / 2, h.dtype)) / count)
    w0, end = jnp.cosh(x), _polynomials(count, x)
    w1 = end.first / end.second

    def combine(pairs: list[tuple[Scalar, PyTree[Array]]]) -> PyTree[Array]:
        terms_ = [_times(factor, tree) for factor, tree in pairs]
        return jtu.tree_map(lambda *parts: sum(parts), *terms_)

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


def _slope(
    terms: Any, t: Any, y: PyTree[Array], args: Any, known: PyTree[Array], jumped: Any
) -> PyTree[Array]:
    if isinstance(jumped, bool) and not jumped:
        return known
    return jax.lax.cond(jumped, lambda: terms.vf(t, y, args), lambda: known)


def _times(factor: Scalar, tree: PyTree[Array]) -> PyTree[Array]:
    return jtu.tree_map(lambda leaf: factor.astype(leaf.dtype) * leaf, tree)
