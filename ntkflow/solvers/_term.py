"""Coupled flows as diffrax takes them, and what solvers made for training need."""

from typing import Any, final

import diffrax as dfx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array

from .._types import Scalar
from ..flows import Coupled, Feedback, Packed
from ..problem import Problem


@final
class FlowTerm(dfx.AbstractTerm):
    """The vector field of coupled flows, which knows how it depends on the outputs.

    Any diffrax solver takes it for an ODE term. Its state is a dictionary of vectors,
    one a flow, and no flow feels the later ones: the Jacobian is block triangular, so
    its spectrum is that of the flows' own blocks.

    Attributes:
        coupled: The flows.
        problem: The problem.
        constants: From `Coupled.prepare`.
        vector_field: The field, compiled by itself.
    """

    coupled: Coupled
    problem: Problem
    constants: dict[str, Any]
    vector_field: Any

    def __init__(
        self,
        coupled: Coupled,
        problem: Problem,
        constants: dict[str, Any] | None = None,
    ):
        """Traces what the field reads at θ₀, so that no solver's loop does it again.

        Args:
            coupled: The flows.
            problem: The problem.
            constants: From `Coupled.prepare`; computed here if None.
        """
        self.coupled = coupled
        self.problem = problem
        self.constants = coupled.prepare(problem) if constants is None else constants
        origin = coupled.origin(problem)

        # Compiled by itself, so that diffrax's several looks at it trace it once.
        @jax.jit
        def vector_field(y: Any) -> Any:
            state = coupled.unpack(y, problem)
            change = coupled.vector_field(state, problem, self.constants, origin)
            return coupled.pack(change)

        self.vector_field = vector_field

    def vf(self, t: Any, y: Packed, args: Any) -> Packed:
        """The time derivative of the coupled state.

        Args:
            t: Training time; the field does not depend on it.
            y: The packed state.
            args: None.

        Returns:
            One vector a flow.
        """
        del t, args
        return self.vector_field(y)

    def contr(self, t0: Any, t1: Any, **kwargs: Any) -> Scalar:
        """The increment of time.

        Args:
            t0: Start.
            t1: End.
            kwargs: None.

        Returns:
            t1 − t0.
        """
        del kwargs
        return jnp.asarray(t1 - t0)

    def prod(self, vf: Packed, control: Array) -> Packed:
        """The field times an increment of time.

        Args:
            vf: A derivative.
            control: An increment of time.

        Returns:
            A change of the state.
        """
        return jtu.tree_map(lambda v: control.astype(v.dtype) * v, vf)

    def feedback(self, y: Packed) -> dict[str, Feedback]:
        """The loops through the outputs that make the flows stiff.

        Args:
            y: The packed state at which to linearize.

        Returns:
            Loops by flow name.
        """
        coupled, problem = self.coupled, self.problem
        state = coupled.unpack(y, problem)
        origin = coupled.origin(problem)
        return coupled.feedback(state, problem, self.constants, origin)


def unwrapped(terms: Any) -> Any:
    """The term that diffrax was given, out of its wrapper for the direction of time.

    Args:
        terms: What a solver is handed.

    Returns:
        The innermost term.
    """
    while not isinstance(terms, FlowTerm) and hasattr(terms, "term"):
        terms = terms.term
    return terms
