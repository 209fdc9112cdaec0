"""How much a flow makes errors grow, measured from its own speed.

Gradient flow is autonomous, so its velocity solves its variational equation: an error
that is a shift of time, ε·ḟ(s), has become ε·ḟ(t) at time t and has grown
‖ḟ(t)‖/‖ḟ(s)‖-fold. Where the flow is contractive, speed falls and nothing grows. On a
plateau the flow is slow and at its end fast, and what grows there is mostly such a
shift: the run escapes a little too early or too late. The speed is that at which the
outputs move from step to step.
"""

from collections.abc import Callable
from typing import NamedTuple, final

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float

from .._types import BoolScalar, Scalar
from ..flows import Packed
from ._jumps import Jumps

_ROUNDINGS = 100
"""Roundings of the outputs after which a movement is known to a few percent."""

_TOLERANCES = 10
"""Tolerances after which a movement is real: each of its ends is wrong by up to three,
which leaves four."""

_WORTH_A_WARNING = 10.0
"""Growth from which the tolerance says too little about the outputs."""


class Mark(NamedTuple):
    """Where a movement begins.

    Attributes:
        t: Training time.
        f: Training outputs there.
    """

    t: Scalar
    f: Float[Array, "..."]


class Growth(NamedTuple):
    """What a solve has seen of the growth of its errors.

    Attributes:
        slow: Where the movement begins that may turn out the slowest.
        fast: Where the movement begins that may turn out the fastest.
        slowest: The lowest speed so far, in units of output/time.
        largest: The largest ratio of a speed to a lower one before it; at least one.
        at: Training time of that, half-way through the fast movement.
        jumps: When plateaus were left.
    """

    slow: Mark
    fast: Mark
    slowest: Scalar
    largest: Scalar
    at: Scalar
    jumps: Jumps


@final
class GrowthMeter(eqx.Module):
    """Measures growth from the outputs at the ends of steps.

    Speeds are means over movements of one step or more. One counts as slow once it is
    above rounding, as fast once it is above what the tolerance leaves uncertain: near
    convergence steps differ by errors alone, and what follows there no longer matters.

    Attributes:
        outputs: Takes a state to the training outputs of the flow that is watched.
        scale: Size below which outputs count as small.
        rtol: Relative tolerance of the run.

    Source: Hairer, Nørsett & Wanner (1993), section I.14, eq. 14.5: the derivative of
        the solution is a solution of the variational equation.
    Verified by: tests/simulate/test_growth.py::test_growth_is_the_ratio_of_speeds
    """

    outputs: Callable[[Packed], Float[Array, "..."]]
    scale: float | Array
    rtol: float | Array

    def begin(self, t: Scalar, y: Packed) -> Growth:
        """Nothing has grown yet.

        Args:
            t: Training time at the start.
            y: The state there.

        Returns:
            The measurement.
        """
        mark = Mark(t, self.outputs(y))
        slowest = jnp.asarray(jnp.inf, mark.f.dtype)
        jumps = Jumps.begin(t, slowest)
        return Growth(mark, mark, slowest, jnp.ones_like(slowest), t, jumps)

    def advance(self, growth: Growth, t: Scalar, y: Packed) -> Growth:
        """Takes the end of an accepted step into account.

        Args:
            growth: The measurement before the step.
            t: Training time at its end.
            y: The state there.

        Returns:
            The measurement after it.
        """
        here = Mark(t, self.outputs(y))
        size = jnp.maximum(_rms(here.f), jnp.asarray(self.scale, here.f.dtype))
        rounding = _ROUNDINGS * jnp.finfo(here.f.dtype).eps * size
        doubt = jnp.maximum(_TOLERANCES * self.rtol * size, rounding)
        slowly = moved, speed = _movement(growth.slow, here, rounding)
        slowest = jnp.where(moved, jnp.minimum(growth.slowest, speed), growth.slowest)
        slow = _where(moved, here, growth.slow)
        quickly = moved, speed = _movement(growth.fast, here, doubt)
        ratio = jnp.where(moved, speed / slowest, 0)
        middle = 0.5 * (growth.fast.t + t)
        return Growth(
            slow,
            _where(moved, here, growth.fast),
            slowest,
            jnp.maximum(growth.largest, ratio),
            jnp.where(ratio > growth.largest, middle, growth.at),
            growth.jumps.advance(slowly, quickly, middle, t - growth.fast.t),
        )


def growth_warning(growth: float, at: float, rtol: float) -> str:
    """What a person should know of a run whose errors grew.

    Args:
        growth: How many-fold.
        at: Training time of the fastest movement after the slowest.
        rtol: Relative tolerance of the run.

    Returns:
        A sentence; empty if errors hardly grew.
    """
    if growth <= _WORTH_A_WARNING:
        return ""
    tighter = ""
    if rtol / growth > np.finfo(np.float64).eps:
        tighter = (
            f", or tighten the tolerance {growth:.2g}-fold (rtol={rtol / growth:.1g})"
        )
    return (
        f"Errors made on the plateau before t ≈ {at:.3g} have grown {growth:.2g}-fold, "
        "mostly as a shift of the time at which it is left: compare runs after "
        f"aligning these times{tighter}."
    )


def _rms(f: Float[Array, "..."]) -> Scalar:
    return jnp.sqrt(jnp.mean(f**2))


def _movement(begin: Mark, end: Mark, least: Scalar) -> tuple[BoolScalar, Scalar]:
    """Whether outputs have moved far enough, and their mean speed if so."""
    distance = _rms(end.f - begin.f)
    moved = jnp.isfinite(distance) & (distance >= least)
    duration = jnp.where(moved, end.t - begin.t, 1)
    return moved, distance / duration.astype(distance.dtype)


def _where(condition: BoolScalar, new: Mark, old: Mark) -> Mark:
    return jtu.tree_map(lambda a, b: jnp.where(condition, a, b), new, old)
