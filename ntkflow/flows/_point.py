"""The model near one parameter vector: what every flow reads, traced once.

All right-hand sides are made of four things at a point θ: the outputs f, the pullback
g ↦ Jᵀg, the pushforward v ↦ Jv and the gradient ∇L = Jᵀ∇_f ℓ + decay. Flows that sit at
the same θ share one `Point`, so that one forward pass serves them all, and the kernel
itself, J Jᵀ, is never formed.
"""

from collections.abc import Callable
from functools import cached_property

import jax
import jax.tree_util as jtu
from jaxtyping import Array, Inexact, Shaped

from .._types import Params
from ..problem import Problem


class Point:
    """The linearization of the outputs at one θ; each part is traced on first use.

    Not a pytree: it lives inside one trace of a vector field.

    Args:
        problem: The problem.
        params: θ.
        pushes: Whether some flow needs Jv. Without it only reverse mode is used, so
            that a model with a reverse-only inner solve can still be trained.
    """

    def __init__(self, problem: Problem, params: Params, *, pushes: bool):
        self.problem = problem
        self.params = params
        self._pushes = pushes

    def _linearize(
        self, x: Shaped[Array, "N ..."]
    ) -> tuple[Array, Callable[[Params], Array]]:
        return jax.linearize(lambda p: self.problem.outputs(p, x), self.params)

    @cached_property
    def _train(
        self,
    ) -> tuple[Array, Callable[[Params], Array] | None, Callable[[Array], Params]]:
        problem = self.problem
        if not self._pushes:
            f, pull = jax.vjp(lambda p: problem.outputs(p, problem.x), self.params)
            return f, None, lambda g: pull(g)[0]
        f, push = self._linearize(problem.x)
        pull = jax.linear_transpose(push, self.params)
        return f, push, lambda g: pull(g)[0]

    @cached_property
    def _test(self) -> tuple[Array, Callable[[Params], Array]] | None:
        x_test = self.problem.x_test
        return None if x_test is None else self._linearize(x_test)

    def trace(self) -> None:
        """Traces the linearization now, so that a loop may close over it."""
        _ = self._train, self._test

    @property
    def f(self) -> Inexact[Array, "N K"]:
        """The training outputs at θ."""
        return self._train[0]

    @property
    def f_test(self) -> Inexact[Array, "Nt K"] | None:
        """The test outputs, or None without a test set."""
        return None if self._test is None else self._test[0]

    def pull(self, g: Inexact[Array, "N K"]) -> Params:
        """Jᵀg, over the training set.

        Args:
            g: A cotangent of the training outputs.

        Returns:
            A cotangent of the parameters.
        """
        return self._train[2](g)

    def push_train(self, v: Params) -> Inexact[Array, "N K"]:
        """Pushes a tangent of the parameters to the training outputs.

        Args:
            v: A tangent of the parameters.

        Returns:
            A tangent of the training outputs.
        """
        push = self._train[1]
        assert push is not None, "this point was made without pushforward"
        return push(v)

    def push(
        self, v: Params
    ) -> tuple[Inexact[Array, "N K"], Inexact[Array, "Nt K"] | None]:
        """Jv, over the training and the test set.

        Args:
            v: A tangent of the parameters.

        Returns:
            Tangents of the training and of the test outputs (None without a test set).
        """
        test = None if self._test is None else self._test[1](v)
        return self.push_train(v), test

    @cached_property
    def gradient(self) -> Params:
        """∇L(θ), decay included."""
        problem = self.problem
        g = self.pull(problem.output_gradient(self.f, problem.y))
        return add_decay(problem, self.params, g)


def add_decay(problem: Problem, params: Params, gradient: Params) -> Params:
    """Adds the decay's gradient, if the problem has a decay.

    Args:
        problem: The problem.
        params: Where the decay is taken.
        gradient: The gradient of the data's loss.

    Returns:
        The gradient of the objective.
    """
    decay = problem.decay_gradient(params)
    if decay is None:
        return gradient
    return jtu.tree_map(lambda g, d: g + d, gradient, decay)
