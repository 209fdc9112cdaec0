"""Discrete training on the time axis of its flow: gradient descent and its kin.

One update is one explicit Euler step of a vector field made for it, so that descent is
a flow like the others; `solvers.Descent` takes the steps, each of exactly one update.
"""

from typing import Any, NamedTuple, final

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, Int

from .._types import Number, Numbers, Params, Scalar
from ..problem import Problem
from ._base import AbstractParameterFlow, Context
from ._parameters import Gradient, Momentum, as_number, squared_norm
from ._point import Point, add_decay


class DescentState(NamedTuple):
    """The state of discrete training.

    Attributes:
        params: θ_k.
        velocity: (θ_k − θ_{k−1}) / step, or None without momentum.
        update: k, the number of updates made, or None without batches.
    """

    params: Params
    velocity: Params | None
    update: Scalar | None


@final
class Descent(AbstractParameterFlow):
    """Gradient descent, heavy ball or stochastic gradient descent of the network.

    θ_{k+1} = θ_k − η c g_k + β (θ_k − θ_{k−1}) from θ_{−1} = θ₀, with g_k = ∇L(θ_k).
    In `simulate` it is solved by itself, one update a step whatever the save times;
    between updates θ is interpolated linearly.

    Time. Without momentum an update takes η and the limit η → 0 is `Gradient`. With it
    an update takes √η and the limit is `Momentum` of damping γ = (1 − β)/√η: at fixed γ
    either gap is of first order in the time of an update. `step` and `limit` say so.

    Rate. η is in units of training time, and the factor of the raw loss's gradient is
    ηc, with c the problem's time scale: for `reduction="mean"` η is the learning rate
    on the mean loss; for a model `Scaled` by α the one on the raw loss is η/α², for a
    mean-field network of width n it is ηn.

    Batches. Update k takes the examples in row k, g_k = N/B Σ_{i in row k} ∇ℓ_i plus
    the decay's: over rows drawn uniformly its mean is ∇L. The order is the user's, so
    each row serves once; `numpy.tile` repeats an epoch. In `run.stats` the gradient on
    a batch counts as one gradient, of B/N of the cost.

    The energy is that of the limit, and its defect tells how far descent is from it.

    Attributes:
        learning_rate: η > 0, or one a member of an ensemble.
        momentum: β in [0, 1), likewise.
        batches: Indices of examples, one row an update, or None for all examples.
        heavy: Whether it has momentum.
        name: Its name; another one where two of the kind run together.

    Source: Polyak (1964), eq. 9; Robbins & Monro (1951).
    Verified by:
        tests/simulate/test_descent.py::test_every_update_is_that_of_a_loop
        tests/flows/test_modified.py::test_gap_has_slope_one_and_after_correction_two
    """

    learning_rate: Number | Numbers
    momentum: Number | Numbers
    batches: Int[Array, "S B"] | None
    heavy: bool = eqx.field(static=True)
    name: str = eqx.field(static=True, default="descent")

    def __init__(
        self,
        learning_rate: ArrayLike,
        *,
        momentum: ArrayLike = 0.0,
        batches: Any = None,
        name: str = "descent",
    ):
        """Checks what can be checked without a problem.

        Args:
            learning_rate: η, in units of training time; or one a member of an ensemble.
            momentum: β; or one a member, each positive.
            batches: Integers of shape [updates, batch], or None.
            name: Its name.

        Raises:
            ValueError: If one of them is out of its range or no such array.
        """
        rates, inertia = np.asarray(learning_rate), np.asarray(momentum)
        if not (np.all(rates > 0) and np.all(rates < np.inf)):
            raise ValueError(f"learning_rate must be positive, got {learning_rate}.")
        if not (np.all(inertia >= 0) and np.all(inertia < 1)):
            raise ValueError(f"momentum must lie in [0, 1), got {momentum}.")
        if np.any(inertia > 0) != np.all(inertia > 0):
            raise ValueError(
                f"momentum must be positive for every member, got {momentum}: without "
                "it an update takes another time. Run those without it by themselves."
            )
        self.learning_rate, self.momentum = as_number(rates), as_number(inertia)
        self.heavy = bool(np.all(inertia > 0))
        self.batches = None if batches is None else _as_batches(batches)
        self.name = name

    @property
    def oscillates(self) -> bool:
        """Whether it has momentum."""
        return self.heavy

    @property
    def step(self) -> Number | Numbers:
        """The training time of one update."""
        if not self.heavy:
            return self.learning_rate
        return jnp.sqrt(jnp.asarray(self.learning_rate))

    @property
    def limit(self) -> Gradient | Momentum:
        """The flow that descent tends to as its step vanishes."""
        if self.heavy:
            return Momentum((1 - self.momentum) / self.step)
        return Gradient()

    def check(self, problem: Problem, updates: int) -> None:
        """Refuses batches that do not suit a problem.

        Args:
            problem: The problem.
            updates: How many will be made.

        Raises:
            ValueError: If an index names no example, or there are too few rows.
        """
        if self.batches is None:
            return
        rows, n = np.asarray(self.batches), problem.n_examples
        if rows.min() < 0 or rows.max() >= n:
            raise ValueError(
                f"batches holds indices from {rows.min()} to {rows.max()}, but the "
                f"problem has {n} examples: indices must lie in 0 … {n - 1}."
            )
        if len(rows) < updates:
            least = np.min(self.learning_rate)
            raise ValueError(
                f"batches has {len(rows)} rows and {updates} updates are needed to "
                f"reach the last save time at learning_rate={least:g}: "
                "give a row for each update (numpy.tile(order, (epochs, 1)) repeats an "
                "epoch), or save up to an earlier time."
            )

    def prepare(self, problem: Problem) -> None:
        """Nothing is constant along it.

        Args:
            problem: The problem.
        """

    def init(self, problem: Problem) -> DescentState:
        """θ₀, at rest, no update made.

        Args:
            problem: The problem.

        Returns:
            The state.
        """
        params = problem.params
        velocity = jtu.tree_map(jnp.zeros_like, params) if self.heavy else None
        update = None if self.batches is None else jnp.zeros((), problem.dtype)
        return DescentState(params, velocity, update)

    def vector_field(self, state: dict[str, Any], context: Context) -> DescentState:
        """What one Euler step of length `step` makes an update of.

        Args:
            state: The coupled state.
            context: What the flows share.

        Returns:
            The change of the state by one update, divided by `step`.
        """
        own: DescentState = state[self.name]
        gradient, c, h = (
            self._gradient(own, context),
            context.problem.time_scale,
            self.step,
        )
        update = None if own.update is None else jnp.full_like(own.update, 1 / h)
        if own.velocity is None:
            change = jtu.tree_map(lambda g: -c * g, gradient)
            return DescentState(change, None, update)
        change = jtu.tree_map(
            lambda v, g: self.momentum * v - h * c * g, own.velocity, gradient
        )
        force = jtu.tree_map(lambda new, v: (new - v) / h, change, own.velocity)
        return DescentState(change, force, update)

    def _gradient(self, own: DescentState, context: Context) -> Params:
        """∇L(θ_k), or its estimate from the batch of update k."""
        if self.batches is None or own.update is None:
            return context.points[self.name].gradient
        problem = context.problem
        # A float counts exactly far beyond the updates that `simulate` allows.
        rows = self.batches[jnp.round(own.update).astype(jnp.int32)]
        batch = eqx.tree_at(
            lambda p: (p.x, p.y), problem, (problem.x[rows], problem.y[rows])
        )
        here = Point(batch, own.params, pushes=False)
        weight = problem.n_examples / len(rows)
        g = here.pull(weight * problem.output_gradient(here.f, batch.y))
        return add_decay(problem, own.params, g)

    def feedback(self, own: DescentState, context: Context) -> None:
        """None: its steps are its own.

        Args:
            own: The state.
            context: What the flows share.
        """

    def params(self, own: DescentState) -> Params:
        """θ.

        Args:
            own: The state.

        Returns:
            θ_k; between updates on the line from one to the next.
        """
        return own.params

    def energy(self, own: DescentState, problem: Problem) -> Scalar:
        """That of the limit: L(θ), with momentum plus ‖velocity‖²/2c.

        Args:
            own: The state.
            problem: The problem.

        Returns:
            A scalar.
        """
        loss = problem.objective(own.params)
        if own.velocity is None:
            return loss
        return loss + squared_norm(own.velocity) / (2 * problem.time_scale)

    def dissipation(self, own: DescentState, problem: Problem, here: Point) -> Scalar:
        """That of the limit: c‖∇L‖², with momentum γ‖velocity‖²/c.

        Args:
            own: The state.
            problem: The problem.
            here: The linearization at θ.

        Returns:
            A scalar.
        """
        c = problem.time_scale
        if own.velocity is None:
            return c * squared_norm(here.gradient)
        return (1 - self.momentum) / self.step * squared_norm(own.velocity) / c


def _as_batches(batches: Any) -> Int[Array, "S B"]:
    rows = np.asarray(batches)
    if rows.ndim != 2 or rows.size == 0 or not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(
            "batches must be integers of shape [updates, batch], the indices of the "
            f"examples that each update takes; got {rows.dtype} {list(rows.shape)}."
        )
    return jnp.asarray(rows.astype(np.int32))
