"""Stop conditions: when a run should end before its last save time.

Cheap conditions (a loss, a gradient) are watched at every step and located by diffrax
inside the step that crosses them. Costly ones (anything that needs a kernel) are read
at the save times alone and then located inside the bracketing interval.
"""

import abc
from typing import Any, ClassVar, final

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from equinox import AbstractClassVar
from jaxtyping import Array, Float

from .._types import Params, Scalar
from ..kernels import kernel_of
from ..problem import Problem


class AbstractEvent(eqx.Module):
    """A condition on the first parameter flow; it holds once its value falls to zero.

    Attributes:
        costly: Whether a value is too dear to be read at every step.
    """

    costly: AbstractClassVar[bool]

    @abc.abstractmethod
    def reference(self, problem: Problem) -> Any:
        """What the condition compares with, computed once at t = 0.

        Args:
            problem: The problem.

        Returns:
            A pytree of arrays.
        """

    @abc.abstractmethod
    def value(self, problem: Problem, params: Params, reference: Any) -> Scalar:
        """Positive before the event, zero at it.

        Args:
            problem: The problem.
            params: θ_t.
            reference: From `reference`.

        Returns:
            A scalar, continuous in θ.
        """


def _check_positive(name: str, value: float | int) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be positive, got {value}.")


@final
class LossBelow(AbstractEvent):
    """Ends the run when the training loss falls to `fraction` of its start.

    Attributes:
        fraction: L(t)/L(0) to stop at.
    """

    fraction: float | int
    costly: ClassVar[bool] = False

    def __check_init__(self):
        _check_positive("LossBelow's fraction", self.fraction)

    def reference(self, problem: Problem) -> Scalar:
        """L(0).

        Args:
            problem: The problem.

        Returns:
            The loss at θ₀.
        """
        return problem.objective(problem.params)

    def value(self, problem: Problem, params: Params, reference: Scalar) -> Scalar:
        """L(t)/(fraction · L(0)) − 1.

        Args:
            problem: The problem.
            params: θ_t.
            reference: L(0).

        Returns:
            A scalar.
        """
        return problem.objective(params) / (self.fraction * reference) - 1.0


@final
class SteadyState(AbstractEvent):
    """Ends the run when the gradient's norm falls to `fraction` of its start.

    Attributes:
        fraction: ‖∇L(t)‖/‖∇L(0)‖ to stop at.
    """

    fraction: float = 1e-6
    costly: ClassVar[bool] = False

    def __check_init__(self):
        _check_positive("SteadyState's fraction", self.fraction)

    def reference(self, problem: Problem) -> Scalar:
        """‖∇L(0)‖.

        Args:
            problem: The problem.

        Returns:
            The gradient's norm at θ₀.
        """
        return _norm(problem.gradient(problem.params))

    def value(self, problem: Problem, params: Params, reference: Scalar) -> Scalar:
        """‖∇L(t)‖/(fraction · ‖∇L(0)‖) − 1.

        Args:
            problem: The problem.
            params: θ_t.
            reference: ‖∇L(0)‖.

        Returns:
            A scalar.
        """
        return _norm(problem.gradient(params)) / (self.fraction * reference) - 1.0


@final
class DriftAbove(AbstractEvent):
    """Ends the run when the kernel has moved: ‖Θ_t − Θ₀‖/‖Θ₀‖ reaches `drift`.

    Costly: one full kernel a save time, and about ten more to locate the event.

    Attributes:
        drift: The relative drift to stop at.
    """

    drift: float | int
    costly: ClassVar[bool] = True

    def __check_init__(self):
        _check_positive("DriftAbove's drift", self.drift)

    def reference(self, problem: Problem) -> Float[Array, "N K N K"]:
        """Θ₀.

        Args:
            problem: The problem.

        Returns:
            The full kernel at θ₀.
        """
        return kernel_of(problem, problem.params)

    def value(
        self, problem: Problem, params: Params, reference: Float[Array, "N K N K"]
    ) -> Scalar:
        """1 − ‖Θ_t − Θ₀‖/(drift · ‖Θ₀‖).

        Args:
            problem: The problem.
            params: θ_t.
            reference: Θ₀.

        Returns:
            A scalar.
        """
        moved = jnp.linalg.norm(jnp.ravel(kernel_of(problem, params) - reference))
        return 1.0 - moved / (self.drift * jnp.linalg.norm(jnp.ravel(reference)))


def _norm(tree: Params) -> Scalar:
    return jnp.sqrt(jnp.asarray(sum(jnp.sum(x**2) for x in jtu.tree_leaves(tree))))
