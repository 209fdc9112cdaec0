"""Flows made to try solvers on, whose stiff part or exact solution is known."""

from typing import Any, ClassVar, NamedTuple, final

import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array

from ntkflow.flows import ORIGIN, AbstractFlow, AbstractParameterFlow, Feedback


@final
class Unrelated(AbstractParameterFlow):
    """θ̇ = cos(2θ) − θ leaf by leaf, beside a loop that has nothing to do with it."""

    name: ClassVar[str] = "unrelated"
    oscillates: ClassVar[bool] = False

    def prepare(self, problem):
        pass

    def init(self, problem):
        return problem.params

    def vector_field(self, state, context):
        own = state[self.name]
        return jtu.tree_map(lambda p: jnp.cos(2.0 * p) - p, own)

    def feedback(self, own, context):
        here = context.points[self.name]
        return Feedback(self.name, here, here.f, here.push_train, here.pull, 0.5)

    def params(self, own):
        return own

    def energy(self, own, problem):
        raise NotImplementedError

    def dissipation(self, own, problem, here):
        raise NotImplementedError


class Followed(NamedTuple):
    """Outputs that follow a slow variable."""

    train: Array
    slow: Array


@final
class Following(AbstractFlow):
    """ṡ = −s², ḟ = −cΘ₀(f − φ(s)) + φ′(s)ṡ with φ(s) = y sin 2s, solved by f = φ(s).

    With large c it is a stiff problem of the singularly perturbed kind, ε = 1/cλ.
    """

    name: ClassVar[str] = "following"
    along: ClassVar[None] = None
    pushes: ClassVar[bool] = False
    reads_origin: ClassVar[bool] = True

    def prepare(self, problem):
        pass

    def init(self, problem):
        return Followed(problem.y * jnp.sin(2.0), jnp.ones((), problem.dtype))

    def vector_field(self, state, context):
        own, y = state[self.name], context.problem.y
        gap = own.train - y * jnp.sin(2.0 * own.slow)
        speed = -(own.slow**2)
        pull = self.theta(gap, context)
        slope = 2.0 * y * jnp.cos(2.0 * own.slow)
        return Followed(-context.problem.time_scale * pull + slope * speed, speed)

    def theta(self, g, context):
        return context.origin.push_train(context.origin.pull(g))

    def feedback(self, own, context):
        slope = 2.0 * context.problem.y * jnp.cos(2.0 * own.slow)
        return Feedback(
            ORIGIN,
            context.origin,
            own.train,
            lambda v: v.train - slope * v.slow,
            lambda g: Followed(self.theta(g, context), jnp.zeros_like(own.slow)),
            0,
        )

    def outputs(self, own, context) -> Any:
        return None
