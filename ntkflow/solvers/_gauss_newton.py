"""The stiff part of coupled flows, as products with one matrix of size N·K.

With the curvature of the loss B = SSᵀ a flow's stiff Jacobian is A = N − U W, where
W v = Sᵀ read(v) and U w = c drive(S w), and N is what is left without outputs, −σ or a
damped oscillator. W U = c SᵀΘS, with inertia of U as if it drove positions, is
symmetric, positive semidefinite and of size N·K whatever the number of parameters.
Functions of A need products with U and W and functions of that small matrix alone,
never the inverse of Θ.
"""

from collections.abc import Collection
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..flows import Feedback, Packed
from ..kernels import kernel_of
from ..problem import Problem, SquaredError
from ._free import Free
from ._term import FlowTerm

Modes = dict[str, Float[Array, "*components _"]]
"""One vector of N·K numbers a flow, or one a component of its state."""


class Base(NamedTuple):
    """Where the flows are linearized; arrays only.

    Attributes:
        y: The packed state.
        roots: By kernel, S of the curvature; None where B is the identity.
    """

    y: Packed
    roots: dict[str, Float[Array, "N K K"] | None]


class GaussNewton:
    """The blocks A of coupled flows at one state; lives inside one trace.

    Flows that read one kernel share its curvature too, that of the first of them.

    Args:
        term: The flows.
        base: Where they are linearized.
    """

    def __init__(self, term: FlowTerm, base: Base):
        self._problem = term.problem
        self._coupled = term.coupled
        self._loops = term.feedback(base.y)
        self._roots = base.roots
        state = term.coupled.unpack(base.y, term.problem)
        self._unravel = {name: ravel_pytree(state[name])[1] for name in self._loops}

    @property
    def kernels(self) -> dict[str, str]:
        """The name of the kernel that each flow with a stiff part reads."""
        return {name: loop.kernel for name, loop in self._loops.items()}

    @property
    def free(self) -> dict[str, Free]:
        """N of each flow with a stiff part."""
        return {n: Free(loop.shift, loop.damping) for n, loop in self._loops.items()}

    def trace(self) -> None:
        """Traces the linearizations now, so that a loop may close over them."""
        for loop in self._loops.values():
            loop.point.trace()

    def cores(
        self, kernels: Collection[str] | None = None
    ) -> dict[str, Float[Array, "m m"]]:
        """C SᵀΘS of every kernel, or of some.

        Args:
            kernels: Names of the kernels; all if None.

        Returns:
            Symmetric matrices by kernel.
        """
        loops = _one_a_kernel(self._loops)
        names = loops if kernels is None else kernels
        return {name: self._core(loops[name]) for name in names}

    def _core(self, loop: Feedback) -> Float[Array, "m m"]:
        problem, root = self._problem, self._roots[loop.kernel]
        theta = kernel_of(problem, loop.point.params)
        if root is not None:
            theta = jnp.einsum(
                "iab,ibjc,jcd->iajd", root, theta, root, precision="highest"
            )
        size = loop.f.size
        return problem.time_scale * theta.reshape(size, size)

    def read(self, v: Packed) -> Modes:
        """W v.

        Args:
            v: A tangent of the state, or of some flows' states.

        Returns:
            Vectors by flow with a stiff part.
        """
        found = {}
        for name, loop in self._loops.items():
            if name not in v:
                continue
            read = loop.read(self._unravel[name](v[name]))
            found[name] = self._rooted(loop, read).reshape(-1)
        return found

    def drive(self, w: Modes) -> Packed:
        """U w.

        Args:
            w: Vectors by flow with a stiff part, or by some.

        Returns:
            Tangents of the states of the same flows.
        """
        c, found = self._problem.time_scale, {}
        for name, own in w.items():
            loop = self._loops[name]
            g = self._rooted(loop, own.reshape(loop.f.shape))
            found[name] = c * ravel_pytree(loop.drive(g))[0]
        return found

    def _rooted(self, loop: Feedback, g: Float[Array, "N K"]) -> Float[Array, "N K"]:
        root = self._roots[loop.kernel]
        if root is None:
            return g
        return jnp.einsum("iab,ib->ia", root, g, precision="highest")


def linearize(term: FlowTerm, y: Packed) -> Base:
    """Takes the curvature of the loss at a state.

    Args:
        term: The flows.
        y: The packed state.

    Returns:
        What `GaussNewton` is made from.
    """
    loops = _one_a_kernel(term.feedback(y))
    roots = {loop.kernel: _root(term.problem, loop.f) for loop in loops.values()}
    return Base(y, roots)


def _one_a_kernel(loops: dict[str, Feedback]) -> dict[str, Feedback]:
    first: dict[str, Feedback] = {}
    for loop in loops.values():
        first.setdefault(loop.kernel, loop)
    return first


def _root(problem: Problem, f: Float[Array, "N K"]) -> Float[Array, "N K K"] | None:
    # Of a loss that is not convex, the root of the convex part: what A leaves out goes
    # to a solver's remainder, so that its order does not depend on it.
    if isinstance(problem.loss, SquaredError):
        return None
    curvature = jax.vmap(jax.hessian(problem.loss))(f, problem.y)
    values, vectors = jnp.linalg.eigh(curvature)
    rooted = vectors * jnp.sqrt(jnp.clip(values, 0.0))[:, None, :]
    return jnp.einsum("iak,ibk->iab", rooted, vectors, precision="highest")
