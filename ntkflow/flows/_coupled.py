"""Flows side by side: one state, one vector field, shared work done once."""

from functools import partial
from typing import Any, TypeAlias, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Inexact, PyTree

from .._errors import unknown_name
from .._precision import at_full_precision
from .._types import Scalar
from ..problem import Problem
from ._base import (
    RESERVED_NAMES,
    AbstractFlow,
    AbstractParameterFlow,
    Context,
    Feedback,
    OutputState,
)
from ._parameters import Gradient, decay_rate
from ._point import Point
from ._quadrature import Quadrature
from ._residual import Residual, no_gradient_flow

Packed: TypeAlias = dict[str, Inexact[Array, " _"]]
"""A coupled state as a solver sees it: one vector a flow."""


@final
class Coupled(eqx.Module):
    """Several flows as one system of ordinary differential equations.

    The state is a dictionary, one entry a flow. Flows that read the network at the same
    θ share one linearization of it: with a gradient flow and its residual equation, one
    forward pass, two pullbacks and one pushforward an evaluation.

    Attributes:
        flows: The flows; a flow that runs along another comes with that other.

    Verified by:
        tests/flows/test_coupled.py::test_coupled_vector_field_equals_the_flows_on_their_own
    """

    flows: tuple[AbstractFlow, ...]

    def __check_init__(self):
        names = self.names
        gradients = [flow.name for flow in self.flows if isinstance(flow, Gradient)]
        for flow in self.flows:
            _check_name(flow)
            if names.count(flow.name) > 1:
                raise ValueError(
                    f"The flow {flow.name!r} is given twice: a coupled system has one "
                    "entry a name. Give one of the two another: "
                    f'nf.flows.{type(flow).__name__}(..., name="{flow.name}_2").'
                )
            if flow.along is not None and flow.along not in names:
                # Every other flow that there is, or the one that there would be.
                others = [n for n in names if n != flow.name] or [Gradient().name]
                raise unknown_name(
                    f"flow for {flow.name} to run along", flow.along, others
                )
            if isinstance(flow, Residual) and flow.along not in (None, *gradients):
                raise no_gradient_flow(flow.along)

    @property
    def names(self) -> list[str]:
        """The flows' names, in order."""
        return [flow.name for flow in self.flows]

    @property
    def parameter_flows(self) -> list[AbstractParameterFlow]:
        """The flows that move the network's own parameters, in order."""
        return [flow for flow in self.flows if isinstance(flow, AbstractParameterFlow)]

    def prepare(self, problem: Problem) -> dict[str, Any]:
        """What stays constant over a run, computed once.

        Args:
            problem: The problem.

        Returns:
            Arrays by flow name.
        """
        return {flow.name: flow.prepare(problem) for flow in self.flows}

    def init(self, problem: Problem) -> dict[str, Any]:
        """The coupled state at t = 0.

        Args:
            problem: The problem.

        Returns:
            States by flow name.
        """
        return {flow.name: flow.init(problem) for flow in self.flows}

    def pack(self, state: dict[str, Any]) -> Packed:
        """Lays each flow's state out as one vector.

        A solver works on every array of its state in turn; a network has many small
        ones. As vectors they compile and run several times faster.

        Args:
            state: States by flow name.

        Returns:
            Vectors by flow name.
        """
        return {name: ravel_pytree(own)[0] for name, own in state.items()}

    def unpack(self, packed: Packed, problem: Problem) -> dict[str, Any]:
        """Undoes `pack`.

        Args:
            packed: Vectors by flow name.
            problem: The problem.

        Returns:
            States by flow name.
        """
        arrays, static = eqx.partition((self, problem), eqx.is_array)
        leaves, structure = jtu.tree_flatten(static)
        shapes = _initial.eval_shape(arrays, tuple(leaves), structure)
        like = jtu.tree_map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        return {n: ravel_pytree(like[n])[1](own) for n, own in packed.items()}

    def origin(self, problem: Problem) -> Point:
        """The linearization at θ₀, traced here and not inside the solver's loop.

        Args:
            problem: The problem.

        Returns:
            The point θ₀.
        """
        reads = any(flow.reads_origin for flow in self.flows)
        point = Point(problem, problem.params, pushes=reads)
        if reads:
            point.trace()
        return point

    def vector_field(
        self,
        state: dict[str, Any],
        problem: Problem,
        constants: dict[str, Any],
        origin: Point,
    ) -> dict[str, Any]:
        """The time derivative of the coupled state.

        Args:
            state: States by flow name.
            problem: The problem.
            constants: From `prepare`.
            origin: From `origin`.

        Returns:
            Derivatives by flow name.
        """
        pushed = {flow.along for flow in self.flows if flow.pushes}
        context = self._context(state, problem, constants, origin, pushed)
        return {flow.name: flow.vector_field(state, context) for flow in self.flows}

    def feedback(
        self,
        state: dict[str, Any],
        problem: Problem,
        constants: dict[str, Any],
        origin: Point,
    ) -> dict[str, Feedback]:
        """The loops through the outputs that make the flows stiff.

        Args:
            state: States by flow name.
            problem: The problem.
            constants: From `prepare`.
            origin: From `origin`.

        Returns:
            Loops by flow name; a flow without one is absent.
        """
        pushed: set[str | None] = {flow.name for flow in self.parameter_flows}
        context = self._context(state, problem, constants, origin, pushed)
        loops = {f.name: f.feedback(state[f.name], context) for f in self.flows}
        return {name: loop for name, loop in loops.items() if loop is not None}

    def _context(
        self,
        state: dict[str, Any],
        problem: Problem,
        constants: dict[str, Any],
        origin: Point,
        pushed: set[str | None],
    ) -> Context:
        points = {
            flow.name: Point(
                problem, flow.params(state[flow.name]), pushes=flow.name in pushed
            )
            for flow in self.parameter_flows
        }
        return Context(problem, points, origin, constants, decay_rate(problem))

    def outputs(
        self, state: dict[str, Any], problem: Problem, constants: dict[str, Any]
    ) -> dict[str, OutputState]:
        """The outputs of every flow that has some, at one saved state.

        Args:
            state: States by flow name.
            problem: The problem.
            constants: From `prepare`.

        Returns:
            Outputs by flow name.
        """
        origin, rate = self.origin(problem), decay_rate(problem)
        context = Context(problem, {}, origin, constants, rate)
        read = {
            flow.name: flow.outputs(state[flow.name], context) for flow in self.flows
        }
        return {name: out for name, out in read.items() if out is not None}


@partial(jax.jit, static_argnums=(1, 2))
@at_full_precision
def _initial(arrays: Any, leaves: tuple[Any, ...], structure: Any) -> dict[str, Any]:
    """The state at t = 0, for its shapes: JAX keeps what it has traced before."""
    static = jtu.tree_unflatten(structure, leaves)
    coupled, problem = eqx.combine(arrays, static)
    return coupled.init(problem)


def _check_name(flow: AbstractFlow) -> None:
    name = flow.name
    reserved = name in RESERVED_NAMES and not isinstance(flow, Quadrature)
    if not isinstance(name, str) or not name or "/" in name or reserved:
        raise ValueError(
            "A flow's name must be a text that is not empty, without a slash, and none "
            f"of {', '.join(RESERVED_NAMES)}; got {name!r}."
        )


def max_over_flows(scaled: PyTree[Array]) -> Scalar:
    """The error norm of a coupled state: the largest root mean square over its flows.

    One root mean square over the concatenated state would let the many parameters hide
    the error of the few outputs.

    Args:
        scaled: Errors divided by their tolerances: of each flow's state, or of its
            training and of its test outputs and of its arrays of parameters.

    Returns:
        A scalar; a step is accepted below one.

    Verified by:
        tests/flows/test_coupled.py::test_norm_does_not_dilute_a_small_flow
    """
    # Double where: the derivative of the root at a zero error stays finite.
    means = jnp.stack([jnp.mean(own**2) for own in jtu.tree_leaves(scaled)])
    positive = means > 0
    roots = jnp.sqrt(jnp.where(positive, means, jnp.ones_like(means)))
    return jnp.max(jnp.where(positive, roots, jnp.zeros_like(means)))
