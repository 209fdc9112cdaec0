"""An implicit solver whose linear systems have the size of the kernel, not of θ.

Late in training a flow moves slowly along directions that its kernel barely feels,
while explicit steps stay bounded by the largest eigenvalue. A Rosenbrock method solves
linear systems instead, with a Jacobian that may be inexact: here the Gauss–Newton
blocks of the flows, whose systems one Cholesky decomposition of an N·K by N·K matrix
answers. How the parts fit: `_ros34pw2.py` holds the coefficients, `_gauss_newton.py`
the blocks, `_resolvent.py` the solves.
"""

from typing import Any, ClassVar, TypeAlias, final

import diffrax as dfx
import jax.numpy as jnp
import jax.tree_util as jtu
from jax import lax
from jaxtyping import Array, Float

from .._types import IntScalar, Scalar
from ..flows import ORIGIN, Packed
from ._checks import check_flows, check_size
from ._code import Code
from ._counted import AbstractCountedSolver, Attempt, Work, work
from ._gauss_newton import GaussNewton, linearize
from ._resolvent import Resolvent
from ._ros34pw2 import N_STAGES, ROS34PW2
from ._stage_polynomial import StagePolynomial
from ._term import FlowTerm, unwrapped

Cores: TypeAlias = dict[str, Float[Array, "m m"]]
"""Small matrices WU by kernel."""

Stages: TypeAlias = dict[str, Float[Array, "4 _"]]
"""The unknowns u_i of a step, by flow."""


@final
class KernelImplicit(AbstractCountedSolver):
    """A stiffly accurate Rosenbrock method of order three in the space of the kernel.

    A step costs four evaluations of the field, eight products with the network's
    Jacobian at its start, a kernel and a Cholesky decomposition, whatever the length of
    the step. Its Jacobian is that of Gauss and Newton, for any loss; the order does not
    depend on what that leaves out, only the error's size does. The state inside a step
    is of order two, and of order three where Gauss–Newton is exact.

    It takes the heavy ball too, at the cost of gradient flow: its systems reduce to
    those of the position. The method is L-stable, so that no oscillation of a fixed
    kernel grows in a step of any length, damped or not, and one much faster than the
    step vanishes. To be followed, oscillations take several steps a period, as with any
    method; the order under stiffness is claimed for modes that decay.

    The kernel at θ₀ is built once for losses of constant curvature.

    Attributes:
        max_size: Rows of the largest matrix that it will factor.

    Source: Rang & Angermann (2005), table 4 (ROS34PW2); Hairer & Wanner (1996), section
    IV.7 (the transformed unknowns).
    Verified by:
        tests/solvers/test_implicit.py::test_classical_order_is_three
    Verified by:
        tests/solvers/test_implicit.py::test_stiff_order_of_forced_decay
    Verified by:
        tests/solvers/test_implicit.py::test_undamped_oscillations_never_grow_and_fast_ones_vanish
    """

    max_size: int = 10_000

    term_structure: ClassVar[Any] = FlowTerm
    interpolation_cls: ClassVar[Any] = StagePolynomial

    def order(self, terms: Any) -> int:
        """Three; the embedded estimate's local error is of order three as well.

        Args:
            terms: The flows.

        Returns:
            The classical order.
        """
        del terms
        return 3

    def init(self, terms: Any, t0: Any, t1: Any, y0: Packed, args: Any) -> Cores:
        """Refuses flows that it cannot integrate; builds the kernels that stay.

        Args:
            terms: The flows.
            t0: Start of the first step.
            t1: Its end.
            y0: The state at the start.
            args: None.

        Returns:
            The kernel at θ₀, if some flow reads it and the loss leaves it constant.

        Raises:
            ValueError: A matrix would exceed `max_size`, or a flow is driven otherwise
                than through its outputs.
        """  # ruff: ignore[docstring-extraneous-exception]
        del t0, t1, args
        flows: FlowTerm = unwrapped(terms)
        check_size(flows.problem, self.max_size, "KernelImplicit")
        check_flows(flows.coupled, flows.feedback(y0), "KernelImplicit")
        base = linearize(flows, y0)
        constant = [
            kernel
            for kernel, root in base.roots.items()
            if kernel == ORIGIN and root is None
        ]
        return GaussNewton(flows, base).cores(constant)

    def begun(self, state: Cores) -> Work:
        """The kernels that stay.

        Args:
            state: The solver's state, from `init`.

        Returns:
            The cost.
        """
        return work(kernel_builds=len(state))

    def code(self, state: Cores) -> IntScalar:
        """Fine: a kernel that cannot be factored makes the error infinite.

        Args:
            state: The solver's state.

        Returns:
            A `Code`.
        """
        del state
        return jnp.asarray(Code.FINE, jnp.int32)

    def radius(self, state: Cores) -> Scalar:
        """Unknown: it needs no eigenvalue.

        Args:
            state: The solver's state.

        Returns:
            In units of 1/time.
        """
        del state
        return jnp.asarray(jnp.nan)

    def attempt(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: Packed,
        args: Any,
        solver_state: Cores,
        made_jump: Any,
    ) -> Attempt:
        """One step.

        Args:
            terms: The flows.
            t0: Start of the step.
            t1: Its end.
            y0: The state at the start.
            args: None.
            solver_state: The kernels that stay.
            made_jump: Of no effect: nothing is kept that a jump would spoil.

        Returns:
            The attempt; its error is infinite where the step failed.
        """
        del made_jump
        flows: FlowTerm = unwrapped(terms)
        base = linearize(flows, y0)
        blocks = GaussNewton(flows, base)
        moving = [name for name in base.roots if name not in solver_state]
        step = jnp.asarray(terms.contr(t0, t1)).astype(flows.problem.dtype)
        resolvent = Resolvent(
            blocks, blocks.cores(moving) | solver_state, ROS34PW2.gamma * step
        )
        stages = _stages(terms, t0, y0, args, resolvent, step)
        zero = jtu.tree_map(jnp.zeros_like, y0)
        error = _combine(zero, ROS34PW2.error, stages)
        powers = tuple(_combine(zero, row, stages) for row in ROS34PW2.dense)
        return Attempt(
            _combine(y0, ROS34PW2.weights, stages),
            jtu.tree_map(_infinite_if_invalid, error),
            {"y0": y0, "powers": powers},
            solver_state,
            dfx.RESULTS.successful,
            work(
                evaluations=N_STAGES,
                jacobians=2 * N_STAGES * len(blocks.kernels),
                kernel_builds=len(moving),
                factorizations=resolvent.factorizations,
            ),
        )


def _stages(
    terms: Any,
    t0: Any,
    y0: Packed,
    args: Any,
    resolvent: Resolvent,
    step: Scalar,
) -> Stages:
    # A loop over the stages, so that the vector field is compiled once and not four
    # times; the rows of a stage that is still to come are zero.
    def stage(found: Stages, now: Any) -> tuple[Stages, None]:
        i, a, c = now
        change = terms.prod(terms.vf(t0, _combine(y0, a, found), args), step)
        right = _combine(change, c, found)
        u = resolvent(jtu.tree_map(lambda v: ROS34PW2.gamma * v, right))
        return jtu.tree_map(lambda all_u, own: all_u.at[i].set(own), found, u), None

    empty = jtu.tree_map(lambda y: jnp.zeros((N_STAGES, *y.shape), y.dtype), y0)
    dtype = step.dtype
    rows = jnp.asarray(ROS34PW2.a, dtype), jnp.asarray(ROS34PW2.c, dtype)
    return lax.scan(stage, empty, (jnp.arange(N_STAGES), *rows))[0]


def _combine(start: Packed, row: Any, stages: Stages) -> Packed:
    def add(y: Array, u: Array) -> Array:
        weights = jnp.asarray(row, u.dtype)
        return y + jnp.tensordot(weights, u, axes=1, precision="highest")

    return jtu.tree_map(add, start, stages)


def _infinite_if_invalid(error: Array) -> Array:
    # A controller shrinks a step of infinite error; of an undefined one it knows less.
    return jnp.where(jnp.isfinite(error), error, jnp.inf)
