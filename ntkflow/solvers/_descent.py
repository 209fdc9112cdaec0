"""Explicit Euler as training does it: updates of one length, whatever is saved when."""

from collections.abc import Callable
from typing import Any, ClassVar, final

import diffrax as dfx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .._types import Number, Numbers, Scalar
from ._equal_steps import rounding


@final
class BetweenUpdates(dfx.AbstractLocalInterpolation):
    """Linear from one update to the next, and exactly an update at its own time.

    Save times and ends of steps are rounded differently, and a save time that misses an
    end by an ulp means the end.

    Attributes:
        t0: Time of one update.
        t1: Time of the next.
        y0: State at the one.
        y1: State at the other.

    Verified by: tests/solvers/test_descent.py::test_a_save_time_an_ulp_off_is_an_update
    """

    t0: Any
    t1: Any
    y0: Any
    y1: Any

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True) -> Any:
        """The state at a time, or its change between two.

        Args:
            t0: Time.
            t1: A second time, or None.
            left: Not used; the interpolation is continuous.

        Returns:
            The state at `t0`; its change up to `t1`, if that is given.
        """
        del left
        if t1 is not None:
            return jtu.tree_map(jnp.subtract, self.evaluate(t1), self.evaluate(t0))
        start, end, near = self.t0, self.t1, rounding(jnp.asarray(self.t1))
        length = jnp.where(end > start, end - start, jnp.ones_like(end))
        part = (t0 - start) / length

        def between(a: Any, b: Any) -> Any:
            value = a + part.astype(a.dtype) * (b - a)
            value = jnp.where(end - t0 <= near, b, value)
            return jnp.where(t0 - start <= near, a, value)

        return jtu.tree_map(between, self.y0, self.y1)


@final
class Descent(dfx.AbstractSolver[None]):
    """Gradient descent: explicit Euler with steps of exactly one learning rate.

    Of gradient flow it makes gradient descent, of the linearized network or a frozen
    residual flow their discrete training. `nf.simulate` gives it equal steps by itself;
    its limit of stability is ηcλ_max < 2. A step is the learning rate and not a
    difference of two rounded times; only the run's end cuts one short, to the
    straight line between two updates.

    Attributes:
        learning_rate: η, the training time of an update.

    Source: Euler's method; see `nf.flows.Descent` for momentum and batches.
    Verified by:
        tests/simulate/test_descent.py::test_every_update_is_that_of_a_loop
    """

    learning_rate: Number | Numbers

    term_structure: ClassVar = dfx.AbstractTerm
    interpolation_cls: ClassVar[Callable[..., BetweenUpdates]] = BetweenUpdates

    def __check_init__(self):
        if not np.all(np.asarray(self.learning_rate) > 0):
            raise ValueError(
                f"learning_rate must be positive, got {self.learning_rate}."
            )

    def order(self, terms: Any) -> int:
        """One.

        Args:
            terms: The vector field.

        Returns:
            The order.
        """
        return 1

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> None:
        """No state.

        Args:
            terms: The vector field.
            t0: Start.
            t1: End of the first step.
            y0: The state.
            args: Arguments of the vector field.
        """

    def step(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: Any,
        args: Any,
        solver_state: None,
        made_jump: Any,
    ) -> tuple[Any, None, dict[str, Any], None, dfx.RESULTS]:
        """One update.

        Args:
            terms: The vector field.
            t0: Start of the step.
            t1: End of the step.
            y0: The state at its start.
            args: Arguments of the vector field.
            solver_state: None.
            made_jump: Whether the vector field jumped at t0.

        Returns:
            As `diffrax.AbstractSolver.step`.
        """
        del solver_state, made_jump
        length: Scalar = jnp.asarray(terms.contr(t0, t1))
        whole = jnp.full_like(length, self.learning_rate)
        # Ends of whole steps are off by half a unit of rounding each, the run's by two.
        cut = length < whole - 1.5 * rounding(jnp.asarray(t1))
        control = jnp.where(cut, length, whole)
        change = terms.vf_prod(t0, y0, args, control)
        y1 = jtu.tree_map(jnp.add, y0, change)
        return y1, None, {"y0": y0, "y1": y1}, None, dfx.RESULTS.successful

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        """The vector field.

        Args:
            terms: The vector field.
            t0: Time.
            y0: State.
            args: Its arguments.

        Returns:
            The time derivative.
        """
        return terms.vf(t0, y0, args)
