"""Residual networks of infinitely many blocks, each with weights of its own.

Every block adds √(t1/L) times a branch that ends in random weights. The kernels of L
blocks are then Euler steps of an initial-value problem, which is solved here instead.
"""

import math
from collections.abc import Callable
from typing import Any, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ntkflow.infinite._checks import check_gaussian
from ntkflow.infinite._depth_checks import check_branch, check_shape, check_velocity
from ntkflow.infinite._layer import AbstractLayer, Shape
from ntkflow.infinite._moments import Moments
from ntkflow.models import Depth
from ntkflow.models._checks import check_size

State = tuple[
    Float[Array, "N1 N2 ..."],
    Float[Array, "N1 N2 ..."],
    Float[Array, "N1 ..."],
    Float[Array, "N2 ..."],
]
"""The NNGP kernel, the NTK, and the variances of rows and columns."""


@final
class UntiedDepth(AbstractLayer):
    """The limit L → ∞ of L blocks h + √(t1/L)·B(h), each with weights of its own.

        dΣ/dt = Σ_B(Σ),    dΘ/dt = Θ_B(Σ, Θ),    0 ≤ t ≤ t1

    with (Σ_B, Θ_B) what the branch B makes of (Σ, Θ). With the branch
    `Sequential([phi, Dense(w_std, b_std)])` that is

        dΣ/dt = w_std² κ(Σ) + b_std²,    dΘ/dt = w_std² κ̇(Σ) Θ + w_std² κ(Σ) + b_std²

    and with further layers in the branch their own recursion. It starts from the
    kernels of what precedes it, whose units must be Gaussian. The kernels of L blocks
    differ from these by O(1/L).

    All pairs of examples are one system, whose error is held at each of them. It can be
    differentiated in reverse mode; in both with `diffrax.DirectAdjoint()`.

    Args:
        branch: What a block adds: a layer, or several as a `Sequential`, that ends in
            random weights and keeps positions.
        t1: Where depth ends; it begins at 0.
        blocks: Number of blocks of the finite network that `build` returns.
        solver: A diffrax solver; Tsit5 by default.
        rtol: Relative tolerance of a step; by default 1e-8, or 16 roundings if the
            kernels are of a lower precision.
        atol: Absolute tolerance of a step; as `rtol`.
        adjoint: A diffrax adjoint; `RecursiveCheckpointAdjoint` by default.
        max_steps: The most steps of the solve, which is refused if it takes more.

    Raises:
        ValueError: The branch does not end in random weights, or a number is not valid.

    Source: Hayou et al. (2021) (branches scaled by 1/√L); the tangent kernel from the
        recursion of a block, Jacot, Gabriel & Hongler (2018), theorem 1.

    Verified by:
    tests/infinite/test_untied_depth.py::test_linear_branch_grows_exponentially_in_every_tile,
    tests/infinite/test_untied_depth.py::test_kernels_of_many_blocks_approach_those_of_depth
    """

    branch: AbstractLayer
    depth: Depth
    blocks: int = eqx.field(static=True)

    def __init__(
        self,
        branch: AbstractLayer,
        t1: float | int = 1.0,
        *,
        blocks: int = 64,
        solver: diffrax.AbstractSolver | None = None,
        rtol: float | None = None,
        atol: float | None = None,
        adjoint: diffrax.AbstractAdjoint | None = None,
        max_steps: int = 4096,
    ):
        check_branch("UntiedDepth", branch)
        check_size("UntiedDepth", "blocks", blocks)
        self.branch = branch
        self.depth = Depth(
            t1,
            solver=solver,
            rtol=rtol,
            atol=atol,
            adjoint=adjoint,
            max_steps=max_steps,
        )
        self.blocks = blocks

    @property
    def is_linear(self) -> bool:
        """Whether the branch is, and with it the state at any depth."""
        return self.branch.is_linear

    @property
    def is_random(self) -> bool:
        """What enters is added to what the branches make of it."""
        return False

    def needs_pairs(self, after: bool) -> bool:
        """The state is one along all of depth.

        Args:
            after: Whether what follows asks for all pairs of positions.

        Returns:
            Whether that or the branch does.
        """
        return after or self.branch.needs_pairs(after)

    def propagate(self, moments: Moments) -> Moments:
        """The moments at the end of depth.

        Args:
            moments: Those at its beginning.

        Returns:
            Those at its end, Gaussian.

        Raises:
            ValueError: The units are not Gaussian, the branch does not keep their
                shape, or a tolerance is below what the dtype can hold.
        """  # ruff: ignore[docstring-extraneous-exception]
        check_gaussian("UntiedDepth", moments)
        start = (moments.nngp, moments.ntk, moments.own1, moments.own2)
        depth = self._depth_of(moments.nngp.dtype)
        solution = depth.solve(_Rate(self.branch, moments), start)
        state = jax.tree.map(lambda y: y[-1], solution.ys)
        state = eqx.error_if(
            state,
            jnp.logical_not(diffrax.is_okay(solution.result)),
            "UntiedDepth: the kernels did not reach the end of depth: they took more "
            f"than max_steps={depth.max_steps} steps, or are not finite. Raise "
            "`max_steps`, loosen `rtol` and `atol`, or make `t1` or w_std smaller.",
        )
        return moments.with_moments(*state, gaussian=True)

    def build(
        self, shape: Shape, width: int, *, key: PRNGKeyArray
    ) -> tuple[Callable[[Any], Any], Shape]:
        """The residual network with `blocks` blocks.

        Args:
            shape: Units and positions of one input.
            width: Units of the branch's layers that do not say how many they have.
            key: Random key.

        Returns:
            The network, and the same shape.
        """
        branches = []
        for its_key in jax.random.split(key, self.blocks):
            branch, after = self.branch.build(shape, width, key=its_key)
            check_shape("UntiedDepth", shape, after)
            branches.append(branch)
        scale = math.sqrt(self.depth.t1 / self.blocks)
        return Blocks(tuple(branches), scale), shape

    def _depth_of(self, dtype: Any) -> Depth:
        """The solve, with the error of the worst pair in place of their mean."""
        rtol, atol = self.depth.tolerances(dtype) or (0.0, 0.0)
        return Depth(
            self.depth.t1,
            solver=self.depth.solver,
            controller=diffrax.PIDController(rtol=rtol, atol=atol, norm=_largest),
            adjoint=self.depth.adjoint,
            max_steps=self.depth.max_steps,
        )


@final
class Blocks(eqx.Module):
    """Residual blocks, one after the other, on one example.

    Attributes:
        branches: What the blocks add, first to last.
        scale: Factor of every branch.
    """

    branches: tuple[Callable[[Any], Any], ...]
    scale: float = eqx.field(static=True)

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Apply them.

        Args:
            x: The state at the beginning.

        Returns:
            That at the end.
        """
        for branch in self.branches:
            x = x + self.scale * branch(x)
        return x


@final
class _Rate(eqx.Module):
    """How fast the moments change along depth."""

    branch: AbstractLayer
    moments: Moments

    def __call__(self, t: Float[Array, ""], state: State) -> State:
        here = self.moments.with_moments(*state, gaussian=True)
        rate = self.branch.propagate(here)
        check_velocity("UntiedDepth", here, rate)
        return rate.nngp, rate.ntk, rate.own1, rate.own2


def _largest(error: PyTree[Float[Array, "..."]]) -> Float[Array, ""]:
    """The largest error: a mean would hide that of a few pairs among many."""
    sizes = [jnp.max(jnp.abs(leaf), initial=0.0) for leaf in jax.tree.leaves(error)]
    return jnp.max(jnp.stack(sizes))
