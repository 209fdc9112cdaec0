"""ROCK4: stabilized explicit stages of order four.

The steps are longer than those of the second-order method, more so the tighter the
tolerance, and each has some 1.4 times the stages for its length. `_rock4_coefficients`
holds the construction; here a step is run.
"""

from typing import Any, ClassVar, TypeAlias, final

import diffrax as dfx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, PyTree

from .._types import IntScalar, Scalar
from ._rock4_coefficients import DEGREES, N_LAST, tabulate
from ._stabilized import AbstractStabilized, Ends, Step, combine, times
from ._stage_polynomial import StagePolynomial

Inside: TypeAlias = tuple[PyTree[Array], tuple[PyTree[Array], ...]]
"""The error estimate of a step, and the powers of its interpolation."""


@final
class Rock4(AbstractStabilized):
    """The fourth-order orthogonal Runge-Kutta-Chebyshev method, for any ODE term.

    For tolerances of 1e-6 and below, in double precision, and for flows that pass
    plateaus; `Chebyshev` is cheaper otherwise. The last four stages amplify rounding
    and the errors of modes that follow others by (hρ)⁴/100, so that late in training
    its steps stop growing; in single precision they hardly grow beyond hρ = 20.

    Stages, spectral radius and refusal are those of `Chebyshev`, with a stability
    interval of 0.34 s² and every mode in it damped by 0.8 a step. The error estimate is
    of order four, and so is the state inside a step; neither costs a gradient. Its
    spectrum must be close to the negative real axis, which that of the heavy ball is
    not.

    Attributes:
        max_stages: Stages a step may take; a longer step is rejected unattempted.
        safety: Factor on the estimate of ρ, which is one from below.
        refresh: Accepted steps between two estimates of ρ.
        max_products: Jacobian-vector products an estimate may take; one that has not
            settled by then ends the solve.

    Raises:
        ValueError: If max_stages is none that the method has.

    Source: Abdulle (2002), Fourth order Chebyshev methods with recurrence relation,
    sections 2 and 3; the coefficients, the error estimate and the dense output are
    derived anew.
    Verified by: tests/solvers/test_rock4.py::test_order_is_four
    Verified by:
        tests/solvers/test_rock4.py::test_polynomial_is_bounded_in_its_interval
    """

    max_stages: int = DEGREES[-1]
    safety: float = 1.1
    refresh: int = 20
    max_products: int = 100
    term_structure: ClassVar = dfx.AbstractTerm
    interpolation_cls: ClassVar[Any] = StagePolynomial

    def __check_init__(self) -> None:
        if not DEGREES[0] <= self.max_stages <= DEGREES[-1]:
            raise ValueError(
                f"Rock4 takes between {DEGREES[0]} and {DEGREES[-1]} stages a step; "
                f"got max_stages={self.max_stages}. Chebyshev() takes any number."
            )

    def order(self, terms: Any) -> int:
        """4.

        Args:
            terms: The vector field.

        Returns:
            The order.
        """
        return 4

    def error_order(self, terms: Any) -> int:
        """4: the error estimate is of the order of h⁴.

        Args:
            terms: The vector field.

        Returns:
            The exponent of the step in the error estimate.
        """
        return 4

    def count(self, z: Scalar) -> IntScalar:
        """The fewest stages stable for a step.

        Args:
            z: The step times the spectral radius.

        Returns:
            One of the method's degrees, or a number above them all.
        """
        table = tabulate()
        index = jnp.searchsorted(jnp.asarray(table.reach, z.dtype), z)
        return jnp.asarray([*DEGREES, DEGREES[-1] + 1], jnp.int32)[index]

    def most_stages(self, y: PyTree[Array]) -> int:
        """Stages a step may take.

        Args:
            y: A state.

        Returns:
            Their number.
        """
        del y
        return self.max_stages

    def run_stages(
        self, step: Step, y0: PyTree[Array], slope: PyTree[Array], stages: IntScalar
    ) -> tuple[PyTree[Array], Inside]:
        """The state at the end of a step.

        Args:
            step: The step.
            y0: The state at its start.
            slope: The vector field there.
            stages: One of the method's degrees, or zero.

        Returns:
            The state, and the error estimate and powers of the interpolation.
        """
        zero = jtu.tree_map(jnp.zeros_like, y0)
        return jax.lax.cond(
            stages > 0,
            lambda: _run(step, y0, slope, stages),
            lambda: (y0, (zero, (zero,) * N_LAST)),
        )

    def look_back(
        self, step: Step, ends: Ends, inside: Inside
    ) -> tuple[PyTree[Array], dict[str, Any]]:
        """The error estimate and a quartic interpolation.

        Args:
            step: The step.
            ends: States and slopes at both of its ends.
            inside: Both.

        Returns:
            Both.
        """
        del step
        error, powers = inside
        return error, {"y0": ends.y0, "powers": powers}


def _run(
    step: Step, y0: PyTree[Array], slope: PyTree[Array], stages: IntScalar
) -> tuple[PyTree[Array], Inside]:
    """A step of one of the method's degrees."""
    h, table = step.h, tabulate()
    at = jnp.searchsorted(jnp.asarray(table.degree), stages)
    last = jtu.tree_map(lambda rows: jnp.asarray(rows, h.dtype)[at], table.last)
    before_last = _first_part(step, y0, slope, stages - N_LAST, at)

    def stage(i: IntScalar, moves: PyTree[Array]) -> PyTree[Array]:
        here = jtu.tree_map(jnp.add, before_last, _weigh(last.a[i], moves))
        field = step.terms.vf(step.t0 + last.c[i] * h, here, step.args)
        return jtu.tree_map(
            lambda room, leaf: room.at[i].set(leaf), moves, times(step.control, field)
        )

    room = jtu.tree_map(lambda leaf: jnp.zeros((N_LAST, *leaf.shape), leaf.dtype), y0)
    moves = jax.lax.fori_loop(0, N_LAST, stage, room)
    y1 = jtu.tree_map(jnp.add, before_last, _weigh(last.b, moves))
    five = jtu.tree_map(
        lambda a, g, rest: jnp.concatenate([(a - g)[None], rest]),
        y0,
        before_last,
        moves,
    )
    powers = tuple(_weigh(row, five) for row in last.dense)
    return y1, (_weigh(last.error, five), powers)


def _first_part(
    step: Step, y0: PyTree[Array], slope: PyTree[Array], count: IntScalar, at: IntScalar
) -> PyTree[Array]:
    """The state after `count` stages of the recurrence, those of row `at`."""
    h, table = step.h, tabulate()
    start = jnp.asarray(table.start)[at]
    mu, kappa, time = (
        jnp.asarray(column, h.dtype) for column in (table.mu, table.kappa, table.time)
    )

    def stage(
        carry: tuple[PyTree[Array], PyTree[Array], IntScalar],
    ) -> tuple[PyTree[Array], PyTree[Array], IntScalar]:
        before, now, j = carry
        field = step.terms.vf(step.t0 + time[j] * h, now, step.args)
        after = combine([
            (1 + kappa[j], now), (-kappa[j], before), (mu[j] * step.control, field)
        ])  # fmt: skip
        return now, after, j + 1

    first = combine([(jnp.ones_like(h), y0), (mu[start] * step.control, slope)])
    _, found, _ = jax.lax.while_loop(
        lambda carry: carry[2] < start + count, stage, (y0, first, start + 1)
    )
    return found


def _weigh(row: Float[Array, " m"], stacked: PyTree[Array]) -> PyTree[Array]:
    """Σ_i row_i stacked_i, summed in full precision on every device."""
    return jtu.tree_map(
        lambda leaf: jnp.sum(
            row.astype(leaf.dtype).reshape(-1, *[1] * (leaf.ndim - 1)) * leaf, axis=0
        ),
        stacked,
    )
