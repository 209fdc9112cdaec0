"""Krogstad's exponential Runge–Kutta method in the eigenbasis of the tangent kernel.

The field is its value at the start of a step, plus A times the change of the state,
plus a remainder. The first two are integrated exactly, by φ-functions of hA, whatever
hA is; the remainder is sampled at three stages. A is that of the last decomposition,
which need not be where the step is: the order does not depend on it.
"""

from typing import Any, ClassVar, Literal, NamedTuple, cast, final

import diffrax as dfx
import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu

from .._types import BoolScalar, IntScalar, Scalar
from ..flows import Packed
from ._checks import check_flows, check_size
from ._code import Code
from ._counted import AbstractCountedSolver, Attempt, Work, was_cut, work
from ._decomposition import Decomposition, moving, renewed, start
from ._exponential_error import END, MIDDLE, Trial, Verdict, judge
from ._exponential_interpolation import ExponentialInterpolation, storable
from ._functions_of_a import FunctionsOfA, Split, combine
from ._inside import add_unsigned
from ._term import FlowTerm, unwrapped


class KernelState(NamedTuple):
    """The state of `KernelExponential`; arrays only.

    Attributes:
        decomposition: The linearization in use.
        f: The field at the state reached.
        serves: Whether the last step kept found it worth keeping.
        last: Length of the last step kept, zero before the first.
        code: A `Code`.
    """

    decomposition: Decomposition
    f: Packed
    serves: BoolScalar
    last: Scalar
    code: IntScalar


class _Stages(NamedTuple):
    """One step: its end, and what is left to be estimated or interpolated."""

    y1: Packed
    f1: Packed
    start: Split
    middle: Split
    end: Split
    change: Split
    verdict: Verdict


@final
class KernelExponential(AbstractCountedSolver):
    """Krogstad's ETDRK4 with the Gauss–Newton Jacobian: fourth order, for stiff flows.

    Exact in one step of any length for a model linear in its parameters and the squared
    error, with L2 decay or without, singular kernel or not. In general the step is set
    by how fast the tangent kernel moves and not by λ_max. Worth its decompositions of
    an N·K by N·K matrix near the lazy limit, where one or two serve a whole run.

    Integrates, forward in time, any coupled flows driven through their outputs, the
    heavy ball too: the oscillations of a fixed kernel are exact in a step of any number
    of periods. Its stiff order is three, with one bound for all λ, where the solution
    is smooth (Hochbruck and Ostermann; for modes that decay); steps across an initial
    layer keep that accuracy only for what is linear.

    A step takes four evaluations, the first being kept from the step before, and ten
    products Jv and Jᵀg at the base, twenty with inertia; `init` one evaluation and a
    decomposition of every kernel. A kernel is decomposed again when the last step kept
    found A wrong, as the stages of a step show for nothing; and when a step is tried
    that is shorter than the last: the controller then had to shrink it, the only sign
    of a rejection that survives one. (A last step that is cut short by the end of the
    run is taken for one.) The kernel at θ₀ under the squared error stays as it is.

    A kernel without decomposition (LAPACK gave up) leaves the old one in use, with
    `Code.FACTORIZATION` in the state; the steps are still those of a valid method, and
    their result is `diffrax.RESULTS.nonlinear_divergence`.

    Not differentiable in reverse.

    Attributes:
        max_size: The largest N·K accepted; beyond it `init` raises a `ValueError`.
        dense: What interpolates within a step. `"exact"` is the method's own, of order
            four, exact for linear models and right inside the initial layer; reading a
            time costs two evaluations and five products Jv and Jᵀg. Kept whole by
            `SaveAt(dense=True)`, a step takes (N·K)² numbers a kernel, eight states and
            the problem. `"hermite"` is the cubic through both ends, four states a step;
            every step is compared with the exact one in its middle, at that cost, and
            refused where they differ: none covers a transient, nor a linear model's
            whole run. With `SaveAt(ts=...)` neither is kept.

    Source: Krogstad (2005), eq. 51; Hochbruck & Ostermann (2005), section 5.3, and
    (2010), section 2.3. The error estimate is that of Balac & Mahé (2013), section 3,
    where A is right, and else accounts for what is wrong with it.

    Verified by:
        tests/solvers/test_exponential.py::test_linear_model_is_exact_in_one_step
    Verified by:
        tests/solvers/test_exponential.py::test_classical_order_is_four_whatever_the_base
    Verified by:
        tests/solvers/test_exponential.py::test_stiff_order_is_at_least_three
    Verified by:
        tests/solvers/test_exponential.py::test_stiff_steps_are_those_of_the_dense_method
    Verified by:
        tests/simulate/test_stiff.py::test_saturating_cross_entropy_is_right
    """

    max_size: int = eqx.field(static=True, default=10_000)
    dense: Literal["exact", "hermite"] = eqx.field(static=True, default="exact")

    term_structure: ClassVar = FlowTerm

    @property
    def interpolation_cls(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """What diffrax makes of a step's `dense_info`."""
        if self.dense == "hermite":
            return dfx.ThirdOrderHermitePolynomialInterpolation
        return ExponentialInterpolation

    def order(self, terms: Any) -> int:
        """Four.

        Args:
            terms: The flows.

        Returns:
            The classical order.
        """
        return 4

    def error_order(self, terms: Any) -> int:
        """Four: the estimate is of the size of h⁴.

        Args:
            terms: The flows.

        Returns:
            The order of the estimate.
        """
        return 4

    def init(self, terms: Any, t0: Any, t1: Any, y0: Packed, args: Any) -> KernelState:
        """Checks that the flows suit, and makes the first decomposition.

        Args:
            terms: The flows.
            t0: Start of the first step.
            t1: End of the first step.
            y0: The packed state.
            args: None.

        Returns:
            The state.
        """
        term: FlowTerm = unwrapped(terms)
        check_size(term.problem, self.max_size, "KernelExponential")
        check_flows(term.coupled, term.feedback(y0), "KernelExponential")
        f = terms.vf(t0, y0, args)
        last = jnp.zeros_like(terms.contr(t0, t1))
        decomposition, code = start(term, y0)
        return KernelState(decomposition, f, jnp.asarray(True), last, code)

    def attempt(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: Packed,
        args: Any,
        solver_state: KernelState,
        made_jump: Any,
    ) -> Attempt:
        """One step.

        Args:
            terms: The flows.
            t0: Start of the step.
            t1: End of the step.
            y0: The packed state at its start.
            args: None.
            solver_state: From the step before, or from `init`.
            made_jump: Not read; the field depends on the state alone, so that the value
                kept from the step before holds.

        Returns:
            The attempt.
        """
        del made_jump
        term: FlowTerm = unwrapped(terms)
        control = terms.contr(t0, t1)
        old, f, serves, last, code = solver_state
        # No length at all has the step of a lane of an ensemble that is at its end.
        length = jnp.abs(control)
        due = (length > 0) & (~serves | was_cut(length, last)) & (code == Code.FINE)
        decomposition, code = renewed(term, y0, due, (old, code))
        h = control.astype(term.problem.dtype)
        functions = FunctionsOfA(term, decomposition)
        stages = _stages(functions, lambda y: terms.vf(t1, y, args), y0, f, h)
        y_error = functions.join(stages.verdict.error)
        dense_info = self._dense_info(term, y0, h, decomposition, stages)
        read = self.dense == "hermite"
        if read:
            dense_info, y_error = _as_cubic(dense_info, y_error, stages)
        count = len(moving(term, list(old.values)))
        renewals = jnp.where(due, count, 0)
        return Attempt(
            stages.y1,
            y_error,
            dense_info,
            KernelState(decomposition, stages.f1, stages.verdict.serves, length, code),
            _result(code),
            work(
                4 + 2 * read,
                jacobians=(10 + 5 * read) * functions.components,
                kernel_builds=renewals,
                factorizations=renewals,
            ),
        )

    def begun(self, state: KernelState) -> Work:
        """The first slope, and a decomposition of every kernel.

        Args:
            state: The solver's state, from `init`.

        Returns:
            The cost.
        """
        count = len(state.decomposition.values)
        return work(1, kernel_builds=count, factorizations=count)

    def code(self, state: KernelState) -> IntScalar:
        """Whether every kernel could be decomposed.

        Args:
            state: The solver's state.

        Returns:
            A `Code`.
        """
        return state.code

    def radius(self, state: KernelState) -> Scalar:
        """The largest eigenvalue of the decomposition in use.

        Args:
            state: The solver's state.

        Returns:
            In units of 1/time; with inertia of 1/time².
        """
        return jnp.max(jnp.stack([*map(jnp.max, state.decomposition.values.values())]))

    def _dense_info(
        self,
        term: FlowTerm,
        y0: Packed,
        h: Scalar,
        decomposition: Decomposition,
        stages: _Stages,
    ) -> dict[str, Any]:
        return {
            "y0": y0,
            "h": h,
            "start": stages.start,
            "middle": stages.middle,
            "end": stages.end,
            "change": stages.change,
            "decomposition": decomposition,
            "parts": storable(term),
        }


def _stages(functions: FunctionsOfA, field: Any, y0: Packed, f: Packed, h: Scalar):
    def reached(change: Split) -> Packed:
        return jtu.tree_map(jnp.add, y0, functions.join(change))

    def remainder(change: Split) -> Split:
        return functions.remainder(field(reached(change)), first, change)

    first, half = functions.split(f), 0.5 * h
    in_half, in_full = functions.over(half), functions.over(h)
    to_half = combine((half, functions.phi(in_half, {1: 1}, first)))
    to_end = combine((h, functions.phi(in_full, {1: 1}, first)))
    second = remainder(to_half)
    to_third = combine((1, to_half), (h, functions.phi(in_half, {2: 1}, second)))
    third = remainder(to_third)
    to_fourth = combine((1, to_end), (h, functions.phi(in_full, {2: 2}, third)))
    fourth = remainder(to_fourth)
    middle = combine((0.5, second), (0.5, third))
    change = combine(
        (1, to_end),
        (h, functions.phi(in_full, MIDDLE, middle)),
        (h, functions.phi(in_full, END, fourth)),
    )
    y1 = reached(change)
    f1 = field(y1)
    fifth = functions.remainder(f1, first, change)
    to_middle = combine((0.5, to_half), (0.5, to_third))
    trial = Trial(h, first, to_middle, middle, to_fourth, fourth, change, fifth)
    return _Stages(y1, f1, first, middle, fifth, change, judge(functions, trial))


def _as_cubic(
    exact: dict[str, Any], error: Packed, stages: _Stages
) -> tuple[dict[str, Any], Packed]:
    """The cubic through both ends of a step, and the error with that in its middle."""
    h, y0, y1 = exact["h"], exact["y0"], stages.y1
    k0, k1 = (
        jtu.tree_map(lambda rate: h * rate, f) for f in (stages.start.plain, stages.f1)
    )
    cubic: dict[str, Any] = {"y0": y0, "y1": y1, "k0": k0, "k1": k1}
    start, half = jnp.zeros_like(h), 0.5 * h
    true, found = (
        kind(t0=start, t1=h, **info).evaluate(half)
        for kind, info in (
            (ExponentialInterpolation, exact),
            (dfx.ThirdOrderHermitePolynomialInterpolation, cubic),
        )
    )
    return cubic, add_unsigned(error, jtu.tree_map(jnp.subtract, found, true))


def _result(code: IntScalar) -> dfx.RESULTS:
    fine, failed = dfx.RESULTS.successful, dfx.RESULTS.nonlinear_divergence
    return dfx.RESULTS.where(code == Code.FINE, fine, cast(dfx.RESULTS, failed))
