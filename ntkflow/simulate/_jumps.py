"""When a solve leaves its plateaus, to be compared with when its companion does.

Two runs that leave a plateau between the same save times agree at all of them, however
late they are. Each step therefore also tells how fast the outputs move, and the time of
every burst of speed is kept. Bursts that two runs do not share within the length of
their steps are a shift of time, which outputs of save times in between would show.

Verified by:
    tests/simulate/test_jumps.py::test_shifts_are_seen_beyond_the_length_of_steps
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._types import BoolScalar, IntScalar, Scalar

_MANY = 8
"""Bursts that are kept; a saddle for each of so many modes."""

_BURST = 10.0
"""Speed of a burst over that before it, and over that at which it is over."""

_STEPS = 2.0
"""Lengths of a step to which the time of a burst is known."""


class Jumps(NamedTuple):
    """Bursts of speed of a solve.

    Attributes:
        slowest: The lowest speed since the last burst, in units of output/time.
        number: Bursts that are over.
        times: Training time of the highest speed of each, and of the one under way.
        speeds: That speed; 0 where there is none.
        steps: Length of the step that had it.
    """

    slowest: Scalar
    number: IntScalar
    times: Float[Array, " J"]
    speeds: Float[Array, " J"]
    steps: Float[Array, " J"]

    @classmethod
    def begin(cls, t: Scalar, like: Scalar) -> "Jumps":
        """None yet.

        Args:
            t: Training time at the start.
            like: A number of the dtype of outputs.

        Returns:
            No bursts.
        """
        times = jnp.full(_MANY, t)
        speeds = jnp.zeros(_MANY, like.dtype)
        slowest = jnp.asarray(jnp.inf, like.dtype)
        count = jnp.zeros((), jnp.int32)
        return cls(slowest, count, times, speeds, jnp.zeros_like(times))

    def advance(
        self,
        slow: tuple[BoolScalar, Scalar],
        fast: tuple[BoolScalar, Scalar],
        middle: Scalar,
        length: Scalar,
    ) -> "Jumps":
        """Takes the movement of a step into account.

        Args:
            slow: Whether outputs have moved by more than rounding, and how fast.
            fast: Whether by more than the tolerance leaves uncertain, and how fast.
            middle: Training time half-way through the latter.
            length: Its duration.

        Returns:
            The bursts after the step.
        """
        at = self.number
        highest = self.speeds[at]
        moved, speed = fast
        rises = moved & (speed > _BURST * self.slowest) & (speed > highest)
        over = slow[0] & (highest > 0) & (_BURST * slow[1] < highest)

        def put(values: Array, new: Scalar) -> Array:
            return values.at[at].set(jnp.where(rises, new, values[at]))

        between = highest == 0
        lower = jnp.where(slow[0] & between, slow[1], self.slowest)
        slowest = jnp.where(over, slow[1], jnp.minimum(self.slowest, lower))
        count = jnp.minimum(at + over.astype(at.dtype), _MANY - 1)
        times, steps = put(self.times, middle), put(self.steps, length)
        return Jumps(slowest, count, times, put(self.speeds, speed), steps)


def shift(run: Jumps, companion: Jumps, t: float) -> tuple[float, float]:
    """By how much two runs differ in the time of a burst, times its speed.

    Args:
        run: Bursts of the run.
        companion: Those of its companion.
        t: Training time that the companion has reached.

    Returns:
        The largest such product, in units of output, and the time of the burst; 0 where
        all bursts are shared as far as steps tell.
    """
    count = int(run.number)
    times, speeds, steps = (
        np.asarray(a)[:count] for a in (run.times, run.speeds, run.steps)
    )
    there = np.asarray(companion.speeds) > 0
    others = np.asarray(companion.times)[there]
    reach = np.asarray(companion.steps)[there]
    largest, where = 0.0, 0.0
    for at, speed, step in zip(times, speeds, steps, strict=True):
        apart = np.abs(others - at)
        # With the nearest alone: a companion may have crossed a later one, the plateau
        # before it included, in one step as long as all of that.
        nearest = np.argsort(apart)[:1]
        if (apart[nearest] <= _STEPS * (step + reach[nearest])).any():
            continue
        # One that is still to come is late by the time that has passed.
        late = min([t - float(at), *apart.tolist()])
        product = late * float(speed)
        if late > _STEPS * step and product > largest:
            largest, where = product, float(at)
    return largest, where
