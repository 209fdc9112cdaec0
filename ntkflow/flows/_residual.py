"""The residual equation: outputs that evolve through the kernel alone.

For any loss the training outputs of a gradient flow obey ḟ = −c Θ_t ∇_f ℓ(f), which for
the squared error is ṙ = −c Θ_t r. The evolving flow integrates that equation with its
*own* outputs, reading only the kernel off the network's trajectory, as Jₜ(Jₜᵀg); that
its outputs coincide with the network's is a theorem, and a check of the whole machine.
The frozen flow keeps the kernel of t = 0.
"""

from typing import Any, ClassVar, NamedTuple, final

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jax import lax
from jaxtyping import Array, Inexact

from .._errors import unknown_name
from .._types import Number, Params, ResidualKernel
from ..kernels import kernel_of, modes_of
from ..problem import Problem
from ._base import ORIGIN, AbstractFlow, Context, Feedback, OutputState
from ._point import Point, add_decay

_FLOPS_PER_BYTE = 4
"""Arithmetic a CPU core does in the time one byte of a large matrix is read."""


class _FrozenConstants(NamedTuple):
    """What the frozen flow keeps from t = 0.

    Attributes:
        start: f₀ on both sets.
        decay: J₀ ∇(penalty) at θ₀, or None without decay.
        kernel: Θ₀(X, X) and Θ₀(X_test, X) as matrices, or None to stay matrix-free.
    """

    start: OutputState
    decay: OutputState | None
    kernel: OutputState | None


@final
class Residual(AbstractFlow):
    """The residual equation ḟ = −c Θ ∇_f ℓ(f), with the evolving or the frozen kernel.

    `Residual("evolving")` takes Θ along the parameter flow it runs beside.
    `Residual("frozen")` takes Θ₀; it equals the linearized model's outputs, and for the
    squared error the matrix exponential e^{−cΘ₀t}. Both carry the test outputs along,
    whose equation is driven by the training outputs.

    With L2 decay the term −c J∇(penalty) is added: exact along θ(t) for the evolving
    kernel, and closed in function space, −cλ(f − f₀) − c J₀∇(penalty at θ₀), for the
    frozen one.

    Attributes:
        kernel: `"evolving"` or `"frozen"`.
        along: The gradient flow that carries θ(t); None for the frozen kernel.
        name: Its name; another one where two of the kind run together.

    Source: Jacot, Gabriel & Hongler (2018), eq. 4 and theorem 2; Lee et al. (2019),
    eqs. 4-9.
    Verified by:
        tests/simulate/test_simulate.py::test_evolving_residual_equals_that_of_the_network
    Verified by:
        tests/simulate/test_simulate.py::test_frozen_residual_matches_matrix_exponential
    """

    kernel: ResidualKernel = eqx.field(static=True)
    along: str | None = eqx.field(static=True)
    name: str = eqx.field(static=True)
    pushes: ClassVar[bool] = True

    def __init__(
        self,
        kernel: ResidualKernel = "evolving",
        along: str | None = None,
        *,
        name: str | None = None,
    ):
        """Chooses the kernel.

        Args:
            kernel: `"evolving"` or `"frozen"`.
            along: For the evolving kernel, the name of a gradient flow; if None, that
                of the only or first one it runs beside.
            name: Its name; `"residual_evolving"` or `"residual_frozen"` if None.

        Raises:
            ValueError: If the kernel is unknown, or a frozen one is to run along a
                flow.
        """  # ruff: ignore[docstring-missing-exception]
        if kernel == "evolving":
            along = "gradient" if along is None else along
        elif kernel != "frozen":
            raise unknown_name("kernel", kernel, ["evolving", "frozen"])
        elif along is not None:
            raise ValueError(
                'Residual("frozen") reads the kernel at t = 0 and runs along no flow: '
                "leave `along` out."
            )
        self.kernel = kernel
        self.along = along
        self.name = f"residual_{kernel}" if name is None else name

    @property
    def reads_origin(self) -> bool:
        """True for the frozen kernel."""
        return self.kernel == "frozen"

    def prepare(self, problem: Problem) -> _FrozenConstants | None:
        """For the frozen kernel: f₀, the decay's drift and, where cheaper, the kernel.

        Args:
            problem: The problem.

        Returns:
            The constants, or None for the evolving kernel.
        """
        if self.kernel == "evolving":
            return None
        origin = Point(problem, problem.params, pushes=True)
        penalty = problem.decay_gradient(problem.params)
        return _FrozenConstants(
            start=OutputState(origin.f, origin.f_test),
            decay=None if penalty is None else OutputState(*origin.push(penalty)),
            kernel=_formed_kernel(problem) if _must_form(problem) else None,
        )

    def init(self, problem: Problem) -> OutputState:
        """f₀ on the training and the test set.

        Args:
            problem: The problem.

        Returns:
            The network's outputs at θ₀.
        """
        point = Point(problem, problem.params, pushes=True)
        return OutputState(point.f, point.f_test)

    def vector_field(self, state: dict[str, Any], context: Context) -> OutputState:
        """−cΘ∇_f ℓ(f), at the flow's own f.

        Args:
            state: The coupled state.
            context: What the flows share.

        Returns:
            Tangents of the training and the test outputs.
        """
        problem, own = context.problem, state[self.name]
        g = problem.output_gradient(own.train, problem.y)
        if self.along is None:
            change = self._frozen_change(own, g, context)
        else:
            here = context.points[self.along]
            pulled = add_decay(problem, here.params, here.pull(g))
            change = OutputState(*here.push(pulled))
        return _scale(-problem.time_scale, change)

    def feedback(self, own: OutputState, context: Context) -> Feedback:
        """Read as they are, and driven by Θ on both sets.

        Args:
            own: The outputs.
            context: What the flows share.

        Returns:
            The loop through the kernel at θ(t) or θ₀.
        """
        if self.along is None:
            rate = context.decay_rate
            return Feedback(
                ORIGIN,
                context.origin,
                own.train,
                lambda v: v.train,
                lambda g: self._frozen_drive(g, context),
                rate,
            )
        here = context.points[self.along]
        # Decay acts on θ, not on these outputs.
        return Feedback(
            self.along,
            here,
            own.train,
            lambda v: v.train,
            lambda g: OutputState(*here.push(here.pull(g))),
            0,
        )

    def _frozen_drive(self, g: Inexact[Array, "N K"], context: Context) -> OutputState:
        constants: _FrozenConstants = context.constants[self.name]
        if constants.kernel is None:
            return OutputState(*context.origin.push(context.origin.pull(g)))
        return jtu.tree_map(
            lambda k: jnp.matmul(
                k, jnp.ravel(g), precision=lax.Precision.HIGHEST
            ).reshape(-1, g.shape[1]),
            constants.kernel,
        )

    def _frozen_change(
        self, own: OutputState, g: Inexact[Array, "N K"], context: Context
    ) -> OutputState:
        constants: _FrozenConstants = context.constants[self.name]
        change = self._frozen_drive(g, context)
        decay = context.problem.decay
        if decay is None:
            return change
        return jtu.tree_map(
            lambda a, f, f0, d: a + decay.strength * (f - f0) + d,
            change,
            own,
            constants.start,
            constants.decay,
        )

    def outputs(self, own: OutputState, context: Context) -> OutputState:
        """The state itself.

        Args:
            own: The saved outputs.
            context: What the flows share.

        Returns:
            The saved outputs.
        """
        return own


def no_gradient_flow(along: str | None) -> ValueError:
    """What to say of a residual equation along another flow.

    Args:
        along: That flow's name.

    Returns:
        The error.
    """
    return ValueError(
        "The evolving residual equation is that of gradient flow; it runs along "
        f"nf.flows.Gradient(), not {along!r}."
    )


def _scale(factor: Number, outputs: OutputState) -> OutputState:
    return jtu.tree_map(lambda a: factor * a, outputs)


def _must_form(problem: Problem) -> bool:
    """Whether the kernel is formed: where that pays, or Jᵀg cannot be taken."""
    if _forming_pays(problem):
        return True
    return not modes_of(
        lambda p: problem.outputs(p, problem.x[:1]), problem.params
    ).reverse


def _forming_pays(problem: Problem) -> bool:
    """Whether reading the formed kernel is cheaper than one Jᵀg and one Jv."""
    n, k = problem.n_examples, problem.n_outputs
    n_test = 0 if problem.x_test is None else len(problem.x_test)
    kernel_bytes = (n + n_test) * k * n * k * problem.dtype.itemsize
    # A pullback and a pushforward each cost two multiply-adds a parameter and example.
    matrix_free = 4 * problem.n_params * (2 * n + n_test)
    return _FLOPS_PER_BYTE * kernel_bytes < matrix_free


def _formed_kernel(problem: Problem) -> OutputState:
    size = problem.n_examples * problem.n_outputs
    x_test, params = problem.x_test, problem.params
    train = kernel_of(problem, params).reshape(size, size)
    if x_test is None:
        return OutputState(train, None)
    return OutputState(train, kernel_of(problem, params, x_test).reshape(-1, size))


@final
class Linearized(AbstractFlow):
    """Gradient flow of the model linearized at θ₀: ẇ = −c J₀ᵀ∇_f ℓ(f₀ + J₀w).

    Here w = θ − θ₀. Its outputs f₀ + J₀w are those of the frozen residual flow; it
    integrates the parameters of the linear model instead of its outputs.

    Attributes:
        name: Its name; another one where two of the kind run together.

    Source: Lee et al. (2019), eqs. 5-9; Chizat, Oyallon & Bach (2019), eq. 4.
    Verified by:
        tests/simulate/test_simulate.py::test_frozen_residual_equals_linearized_flow
    """

    name: str = eqx.field(static=True, kw_only=True, default="linearized")
    along: ClassVar[None] = None
    pushes: ClassVar[bool] = False
    reads_origin: ClassVar[bool] = True

    def prepare(self, problem: Problem) -> None:
        """Nothing beyond the linearization at θ₀, which all flows share.

        Args:
            problem: The problem.
        """

    def init(self, problem: Problem) -> Params:
        """Where it starts: w = 0.

        Args:
            problem: The problem.

        Returns:
            Zeros, one array a trained leaf.
        """
        return jtu.tree_map(jnp.zeros_like, problem.params)

    def vector_field(self, state: dict[str, Any], context: Context) -> Params:
        """−c(J₀ᵀ∇_f ℓ(f₀ + J₀w) + decay).

        Args:
            state: The coupled state.
            context: What the flows share.

        Returns:
            One array a trained leaf.
        """
        problem, origin, own = context.problem, context.origin, state[self.name]
        moved = jtu.tree_map(jnp.add, problem.params, own)
        f = origin.f + origin.push_train(own)
        pulled = origin.pull(problem.output_gradient(f, problem.y))
        c = problem.time_scale
        return jtu.tree_map(lambda g: -c * g, add_decay(problem, moved, pulled))

    def feedback(self, own: Params, context: Context) -> Feedback:
        """Read by J₀ and driven by J₀ᵀ.

        Args:
            own: w.
            context: Its origin is read.

        Returns:
            The loop through the kernel at θ₀.
        """
        origin, shift = context.origin, context.decay_rate
        f = origin.f + origin.push_train(own)
        return Feedback(ORIGIN, origin, f, origin.push_train, origin.pull, shift)

    def outputs(self, own: Params, context: Context) -> OutputState:
        """f₀ + J₀w.

        Args:
            own: w.
            context: Its origin is read.

        Returns:
            Training and test outputs of the linear model.
        """
        origin = context.origin
        train, test = origin.push(own)
        f_test = origin.f_test
        if f_test is None or test is None:
            return OutputState(origin.f + train, None)
        return OutputState(origin.f + train, f_test + test)
