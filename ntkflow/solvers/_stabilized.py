"""Explicit methods that take as many stages as a step needs to be stable.

Their interval on the negative real axis grows as the number of stages squared. What
they share is here: the spectral radius, by power iteration; the number of stages from
it; steps refused for want of stages; slopes handed from step to step.
"""

import abc
from typing import Any, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PyTree

from .._types import IntScalar, Scalar
from ._code import Code
from ._counted import AbstractCountedSolver, Attempt, Work, was_cut, work
from ._spectral_radius import Radius, estimate_radius, first_guess

_SETTLED = 1e-2
"""Relative change at which power iteration has settled."""


class StabilizedState(NamedTuple):
    """What is carried from step to step.

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


class Step(NamedTuple):
    """A step: its field, its start, its length in time and as the field's control."""

    terms: Any
    t0: Any
    h: Scalar
    control: Scalar
    args: Any


class Ends(NamedTuple):
    """States and slopes at both ends of a step."""

    y0: PyTree[Array]
    y1: PyTree[Array]
    slope0: PyTree[Array]
    slope1: PyTree[Array]


class AbstractStabilized(AbstractCountedSolver):
    """A stabilized explicit method, for any ODE term whose spectrum is nearly real.

    The slope at a step's end begins the next step, so that s stages cost s gradients.
    """

    safety: eqx.AbstractVar[float]
    refresh: eqx.AbstractVar[int]
    max_products: eqx.AbstractVar[int]

    @abc.abstractmethod
    def count(self, z: Scalar) -> IntScalar:
        """The fewest stages stable for a step.

        Args:
            z: The step times the spectral radius.

        Returns:
            How many; more than `most_stages` if there is no such number.
        """

    @abc.abstractmethod
    def most_stages(self, y: PyTree[Array]) -> int:
        """Stages a step may take; one that needs more is refused.

        Args:
            y: A state.

        Returns:
            Their number.
        """

    @abc.abstractmethod
    def run_stages(
        self, step: Step, y0: PyTree[Array], slope: PyTree[Array], stages: IntScalar
    ) -> tuple[PyTree[Array], Any]:
        """The state at the end of a step.

        Args:
            step: The step.
            y0: The state at its start.
            slope: The vector field there.
            stages: How many; zero for a refused step, which must cost nothing.

        Returns:
            The state, y0 after no stages, and what `look_back` needs.
        """

    @abc.abstractmethod
    def look_back(
        self, step: Step, ends: Ends, inside: Any
    ) -> tuple[PyTree[Array], dict[str, Any]]:
        """The error estimate and the interpolation.

        Args:
            step: The step.
            ends: States and slopes at both of its ends.
            inside: What `run_stages` left.

        Returns:
            Both.
        """

    def init(
        self, terms: Any, t0: Any, t1: Any, y0: PyTree[Array], args: Any
    ) -> StabilizedState:
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
        return StabilizedState(
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
        solver_state: StabilizedState,
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
        needed = self.count(h * self.safety * radius.value)
        fits = needed <= self.most_stages(y0)
        stages = jnp.where(fits, needed, 0)
        step = Step(terms, t0, h, jnp.asarray(terms.contr(t0, t1)), args)
        y1, inside = self.run_stages(step, y0, slope, stages)
        slope1 = terms.vf(t1, y1, args)
        error, dense = self.look_back(step, Ends(y0, y1, slope, slope1), inside)
        error = jtu.tree_map(lambda leaf: jnp.where(fits, leaf, jnp.inf), error)
        unsettled = due & ~radius.settled
        code = jnp.where(unsettled, Code.SPECTRUM, Code.FINE).astype(jnp.int32)
        age = jnp.where(due, 1, solver_state.age + 1).astype(jnp.int32)
        state = StabilizedState(slope1, radius, age, h, code)
        fine: Any = dfx.RESULTS.successful
        failed: Any = dfx.RESULTS.nonlinear_divergence
        result = dfx.RESULTS.where(unsettled, failed, fine)
        # The slope at the start is the last step's; the stages need s − 1 more of them.
        evaluations = jnp.maximum(stages, 1)
        cost = work(evaluations, hvps=radius.products, refused=~fits)
        return Attempt(y1, error, dense, state, result, cost)

    def begun(self, state: StabilizedState) -> Work:
        """The first slope.

        Args:
            state: The solver's state, from `init`.

        Returns:
            The cost.
        """
        del state
        return work(1)

    def code(self, state: StabilizedState) -> IntScalar:
        """Whether power iteration has settled.

        Args:
            state: The solver's state.

        Returns:
            A `Code`.
        """
        return state.code

    def radius(self, state: StabilizedState) -> Scalar:
        """The spectral radius as last estimated, a lower bound.

        Args:
            state: The solver's state.

        Returns:
            In units of 1/time.
        """
        return state.radius.value

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


def times(factor: Scalar, tree: PyTree[Array]) -> PyTree[Array]:
    """A scalar multiple, in the dtype of each leaf.

    Args:
        factor: The scalar.
        tree: The state or slope.

    Returns:
        A tree like it.
    """
    return jtu.tree_map(lambda leaf: factor.astype(leaf.dtype) * leaf, tree)


def combine(pairs: list[tuple[Scalar, PyTree[Array]]]) -> PyTree[Array]:
    """A linear combination, in the dtype of each leaf.

    Args:
        pairs: Factors and states or slopes.

    Returns:
        A tree like them.
    """
    parts = [times(factor, tree) for factor, tree in pairs]
    return jtu.tree_map(lambda *leaves: sum(leaves), *parts)


def _slope(
    terms: Any, t: Any, y: PyTree[Array], args: Any, known: PyTree[Array], jumped: Any
) -> PyTree[Array]:
    if isinstance(jumped, bool) and not jumped:
        return known
    return jax.lax.cond(jumped, lambda: terms.vf(t, y, args), lambda: known)
