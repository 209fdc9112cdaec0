"""An explicit Runge–Kutta method that tells how stiff the equations are, for nothing.

Where two stages lie at the same time, the difference of their slopes over that of their
states is the Jacobian along that difference. Explicit stages apart from each other are
so mostly along the stiffest mode, as in power iteration.
"""

from typing import Any, ClassVar, NamedTuple, cast, final

import diffrax as dfx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PyTree

from .._types import IntScalar, Scalar
from ._code import Code
from ._counted import AbstractCountedSolver, Attempt, Work, work
from ._spectral_radius import split


class ExplicitState(NamedTuple):
    """What Explicit carries from step to step.

    Attributes:
        inner: State of the method.
        rate: The rate of the stiffest mode seen lately, in units of 1/time.
    """

    inner: Any
    rate: Scalar


_REMEMBERED = 0.9
"""What a step keeps of the rate seen before it."""


@final
class Explicit(AbstractCountedSolver):
    """An explicit method, its steps unchanged, that measures ρ beside them.

    The measure is close where steps are limited by stability, which lets the stiffest
    mode grow now and then until it shows; a lower bound elsewhere. It is the largest of
    the last few steps.

    Attributes:
        method: An explicit method whose last two stages lie at the end of the step:
            `diffrax.Tsit5()`, `diffrax.Dopri5()` or `diffrax.Dopri8()`.

    Source: Hairer & Wanner (1996), section IV.2, eq. 2.6.
    Verified by: tests/solvers/test_explicit.py::test_rate_is_that_of_the_stiffest_mode
    """

    method: dfx.AbstractERK = dfx.Tsit5()

    term_structure: ClassVar = dfx.AbstractTerm

    def __check_init__(self):
        tableau = self._tableau
        if not (tableau.fsal and tableau.c[-1] == tableau.c[-2] == 1):
            raise ValueError(
                f"{type(self.method).__name__} has no two stages at the end of a step "
                "to compare: take diffrax.Tsit5() or diffrax.Dopri5()."
            )

    @property
    def _tableau(self) -> dfx.ButcherTableau:
        return cast(dfx.ButcherTableau, self.method.tableau)

    @property
    def interpolation_cls(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """That of the method."""
        return self.method.interpolation_cls

    def order(self, terms: Any) -> int | None:
        """That of the method.

        Args:
            terms: The vector field.

        Returns:
            The order.
        """
        return self.method.order(terms)

    def error_order(self, terms: Any) -> Any:
        """That of the method.

        Args:
            terms: The vector field.

        Returns:
            The exponent of the step in the error estimate.
        """
        return self.method.error_order(terms)

    def init(
        self, terms: Any, t0: Any, t1: Any, y0: PyTree[Array], args: Any
    ) -> ExplicitState:
        """The method's state, and nothing measured.

        Args:
            terms: The vector field.
            t0: Start.
            t1: End of the first step.
            y0: The state.
            args: Arguments of the vector field.

        Returns:
            The solver's state.
        """
        inner = self.method.init(terms, t0, t1, y0, args)
        return ExplicitState(inner, jnp.zeros_like(jnp.asarray(t1 - t0)))

    def attempt(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: PyTree[Array],
        args: Any,
        solver_state: ExplicitState,
        made_jump: Any,
    ) -> Attempt:
        """One step of the method.

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
        y1, error, dense, inner, result = self.method.step(
            terms, t0, t1, y0, args, solver_state.inner, made_jump
        )
        slopes = split(terms, dense["k"])
        rates = jnp.stack([self._rate(block) for block in slopes.values()])
        seen = (jnp.max(rates) / (t1 - t0)).astype(solver_state.rate.dtype)
        rate = jnp.maximum(seen, _REMEMBERED * solver_state.rate)
        return Attempt(
            y1,
            error,
            dense,
            ExplicitState(inner, rate),
            result,
            work(self._tableau.num_stages - 1),
        )

    def begun(self, state: ExplicitState) -> Work:
        """The slope that the first step does not find made.

        Args:
            state: The solver's state, from `init`.

        Returns:
            The cost.
        """
        del state
        return work(1)

    def code(self, state: ExplicitState) -> IntScalar:
        """Fine: nothing can go wrong that the error does not show.

        Args:
            state: The solver's state.

        Returns:
            A `Code`.
        """
        del state
        return jnp.asarray(Code.FINE, jnp.int32)

    def radius(self, state: ExplicitState) -> Scalar:
        """The rate of the stiffest mode seen lately.

        Args:
            state: The solver's state.

        Returns:
            In units of 1/time.
        """
        return state.rate

    def _rate(self, slopes: PyTree[Array]) -> Scalar:
        """Of one block: the step times the rate, from its stages' h·f."""
        before, last = self._tableau.a_lower[-2], self._tableau.a_lower[-1]
        weights = np.asarray(last) - np.append(before, 0.0)

        def norms(k: Array) -> tuple[Array, Array]:
            apart = jnp.tensordot(jnp.asarray(weights, k.dtype), k[:-1], axes=1)
            return jnp.sum((k[-1] - k[-2]) ** 2), jnp.sum(apart**2)

        pairs = [norms(k) for k in jtu.tree_leaves(slopes)]
        change = sum(pair[0] for pair in pairs)
        apart = jnp.asarray(sum(pair[1] for pair in pairs))
        # Stages that do not differ show no stiffness.
        safe = jnp.where(apart > 0, apart, 1)
        return jnp.where(apart > 0, jnp.sqrt(change / safe), 0)
