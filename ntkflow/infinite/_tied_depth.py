"""Neural ODEs of infinite width: one branch, with the same weights at every depth.

States at two depths are correlated through the shared weights, so that the kernels of
the end of depth follow from those between any two depths t and s. The two-depth NTK
Θ(t, s) = ⟨∂z(t)/∂θ, ∂z'(s)/∂θ⟩ obeys

    ∂²Θ/∂t∂s = D Θ + S,    Θ = Θ₀ where t = 0 or s = 0,

with D Θ + S what the branch makes of Θ, since the cross terms vanish with the width.
Its Riemann function is the inner product A(t, s) of the backward states, ∂²A/∂t∂s = D A
with A = 1 where t or s is the end, and Riemann's formula turns the end value into
A(0, 0)Θ₀ + ∫∫ A S, the form known from the adjoint method. Marched forward both kernels
need a few antidiagonals of the grid; A would need all of it.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ntkflow.infinite._activation import AbstractActivation
from ntkflow.infinite._checks import check_gaussian
from ntkflow.infinite._dense import Dense
from ntkflow.infinite._depth_checks import check_branch, check_shape, check_velocity
from ntkflow.infinite._goursat import extrapolate, march, march_own
from ntkflow.infinite._layer import AbstractLayer, Shape
from ntkflow.infinite._moments import Moments
from ntkflow.infinite._sequential import Sequential
from ntkflow.models import Depth, NeuralODE
from ntkflow.models._checks import check_positive, check_size

LEVELS: Final = 3
"""Grids that are extrapolated from, each with twice the cells of the one before."""

Pair = tuple[Float[Array, "..."], Float[Array, "..."]]
State = tuple[
    Float[Array, "N1 N2"], Float[Array, "N1 N2"], Float[Array, "N1"], Float[Array, "N2"]
]


@final
class TiedDepth(AbstractLayer):
    """A Neural ODE dz/dt = B(z), 0 ≤ t ≤ t1, with the branch's weights shared by all t.

        ∂²C/∂t∂s = Σ_B(C),    ∂²Θ/∂t∂s = Θ_B(C, Θ)

    for the kernels between depths t and s, which on both axes are those of what comes
    before; (Σ_B, Θ_B) is what the branch B makes of kernels and of the variances
    C(t, t; x, x) and C(s, s; x', x'), a problem of the same kind that is solved first.
    With the branch `Sequential([phi, Dense(w_std, b_std)])` that is

        Σ_B = w_std² κ(C) + b_std²,    Θ_B = w_std² κ̇(C) Θ + w_std² κ(C) + b_std²

    and further layers in the branch have weights of their own. No weight may meet its
    own transpose in the branch, which would break the limit: it consists of `Dense` and
    activations, whose weights do not. In front there must be Gaussian vectors.

    Solved on grids of `steps`, 2 `steps` and 4 `steps` cells along depth, and
    extrapolated; `error` tells how well. The work grows with the square of `steps`, the
    memory with `steps`.

    Args:
        branch: The vector field: a `Dense`, or several layers and activations as a
            `Sequential` that ends in one.
        t1: Where depth ends; it begins at 0.
        steps: Cells along depth of the coarsest grid.

    Raises:
        ValueError: The branch does not end in random weights or has other layers in it,
            or a number is not valid.

    Source: Chen, Rubanova, Bettencourt and Duvenaud (2018), eq. 2, for the network;
        Yang (2020), "Tensor Programs II", for limits with shared weights.

    Verified by:
    tests/infinite/test_tied_depth.py::test_linear_branch_gives_bessel,
    tests/infinite/test_tied_depth.py::test_kernel_is_that_of_backward_states,
    tests/infinite/test_tied_depth.py::test_wide_neural_odes_approach_these_kernels
    """

    branch: AbstractLayer
    t1: float = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    def __init__(self, branch: AbstractLayer, t1: float | int = 1.0, *, steps: int = 8):
        check_branch("TiedDepth", branch)
        _refuse_others(branch)
        check_size("TiedDepth", "steps", steps)
        self.branch = branch
        self.t1 = check_positive("TiedDepth", "t1", t1)
        self.steps = steps

    @property
    def is_linear(self) -> bool:
        """Whether the branch is, and with it the state at any depth."""
        return self.branch.is_linear

    @property
    def is_random(self) -> bool:
        """What enters is added to what the branch makes of it."""
        return False

    def needs_pairs(self, after: bool) -> bool:
        """There are no positions.

        Args:
            after: Whether what follows asks for all pairs of positions.

        Returns:
            The same.
        """
        return after

    def propagate(self, moments: Moments) -> Moments:
        """The moments at the end of depth.

        Args:
            moments: Those at its beginning.

        Returns:
            Those at its end, Gaussian.

        Raises:
            ValueError: The units are not Gaussian, have positions, or are not as many
                as the branch returns.
        """  # ruff: ignore[docstring-extraneous-exception]
        state, _ = self._solve(moments)
        return moments.with_moments(*state, gaussian=True)

    def error(
        self, moments: Moments
    ) -> tuple[Float[Array, "N1 N2"], Float[Array, "N1 N2"]]:
        """Estimates of the error of both kernels at the end of depth.

        Args:
            moments: Those at its beginning.

        Returns:
            How far the NNGP kernel and the NTK are from what one grid less in the
            extrapolation gives; more than the error where that falls with `steps`.

        Verified by: tests/infinite/test_tied_depth.py::test_error_is_not_underestimated
        """
        _, error = self._solve(moments)
        return error[0], error[1]

    def build(
        self, shape: Shape, width: int, *, key: PRNGKeyArray
    ) -> tuple[Callable[[Any], Any], Shape]:
        """The finite Neural ODE.

        Args:
            shape: Units of one input.
            width: Units of the branch's layers that do not say how many they have.
            key: Random key.

        Returns:
            A `ntkflow.models.NeuralODE`, and the same shape.
        """
        branch, after = self.branch.build(shape, width, key=key)
        check_shape("TiedDepth", shape, after)
        return NeuralODE(Autonomous(branch), depth=Depth(self.t1)), shape

    def _solve(self, moments: Moments) -> tuple[State, State]:
        check_gaussian("TiedDepth", moments)
        if moments.positions:
            raise ValueError(
                f"TiedDepth takes vectors, and meets units with positions "
                f"{moments.positions}: put Flatten and a Dense in front of it."
            )
        check_velocity("TiedDepth", moments, self.branch.propagate(moments))
        counts = [self.steps * 2**level for level in range(LEVELS)]
        return extrapolate([self._on_grid(moments, n) for n in counts])

    def _on_grid(self, moments: Moments, n: int) -> State:
        """The kernels at the end of depth, on one grid."""
        rows = moments.own1.shape[0]
        own = jnp.concatenate([moments.own1, moments.own2])
        branch = _Branch(self.branch, moments.channels)
        middles, end = march_own(branch.own, own, n, self.t1)
        q1, q2 = middles[:, :rows], middles[:, rows:]

        def rate(i: Int[Array, " n"], j: Int[Array, " n"], state: Pair) -> Pair:
            # Only at equal depths are two states of one example the same.
            same = moments.same[None] & (i == j)[:, None, None]
            return jax.vmap(branch.pairs)(*state, q1[i], q2[j], same)

        start = (moments.nngp, moments.ntk)
        nngp, ntk = march(rate, start, n, self.t1)
        return nngp, ntk, end[:rows], end[rows:]


class _Branch(NamedTuple):
    """What a branch makes of kernels between two depths."""

    branch: AbstractLayer
    channels: int | None

    def pairs(
        self,
        nngp: Float[Array, "N1 N2"],
        ntk: Float[Array, "N1 N2"],
        own1: Float[Array, " N1"],
        own2: Float[Array, " N2"],
        same: Bool[Array, "N1 N2"],
    ) -> Pair:
        """The kernels of its output, from those of the state and the variances."""
        state = Moments(
            nngp, ntk, own1, own2, same, channels=self.channels, gaussian=True
        )
        rate = self.branch.propagate(state)
        return rate.nngp, rate.ntk

    def own(
        self,
        c: Float[Array, "n N"],
        q1: Float[Array, "n N"],
        q2: Float[Array, "n N"],
    ) -> Float[Array, "n N"]:
        """The same of each example by itself, without the NTK."""

        def one(c: Array, q1: Array, q2: Array) -> Array:
            c, never = c[None, None], jnp.zeros((1, 1), bool)
            return self.pairs(c, jnp.zeros_like(c), q1[None], q2[None], never)[0][0, 0]

        return jax.vmap(jax.vmap(one))(c, q1, q2)


@final
class Autonomous(eqx.Module):
    """A module of the state alone as the vector field of a Neural ODE.

    Attributes:
        branch: Maps a state to its velocity.
    """

    branch: Callable[[Any], Any]

    def __call__(
        self, t: Float[Array, ""], z: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """The velocity.

        Args:
            t: The depth, which it does not depend on.
            z: The state.

        Returns:
            dz/dt.
        """
        return self.branch(z)


def _refuse_others(layer: AbstractLayer) -> None:
    """Refuse layers for which the two-depth kernels are not known to hold."""
    if isinstance(layer, Sequential):
        for part in layer.layers:
            _refuse_others(part)
    elif not isinstance(layer, Dense | AbstractActivation):
        raise ValueError(
            f"TiedDepth: the branch may consist of Dense and activations, got "
            f"{type(layer).__name__}. The two-depth kernels hold where every layer's "
            "weights are independent of the others' and never meet their transpose, "
            "and no other randomness changes along depth. With weights that differ "
            "from depth to depth, UntiedDepth takes any branch."
        )
