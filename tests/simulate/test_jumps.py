"""Bursts of speed at the ends of plateaus, and shifts between those of two runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.simulate._growth import GrowthMeter
from ntkflow.simulate._jumps import Jumps, shift

STEP = 0.25


def bursts(escapes, until, step=STEP):
    """What a meter sees of outputs that rise by one around each of some times."""

    def outputs(t):
        return jnp.stack([1 / (1 + jnp.exp(at - t)) for at in escapes])

    return watched(outputs, np.arange(until / step + 1) * step)


def watched(outputs, times):
    """The bursts of outputs that are a function of time, over steps between times."""
    meter = GrowthMeter(lambda y: outputs(y["t"][0]), 1.0, 1e-3)
    times = jnp.asarray(times)

    def step(growth, t):
        return meter.advance(growth, t, {"t": t[None]}), None

    begun = meter.begin(times[0], {"t": times[:1]})
    return jax.jit(lambda: jax.lax.scan(step, begun, times[1:])[0].jumps)()


def test_every_burst_is_told_with_its_time_and_speed():
    found = bursts([20.0, 60.0], 90)
    assert int(found.number) == 2
    np.testing.assert_allclose(found.times[:2], [20, 60], atol=STEP)
    # Each output rises at a rate of 1/4 at most; the root mean square is over two.
    np.testing.assert_allclose(found.speeds[:2], 0.25 / np.sqrt(2), rtol=0.01)
    np.testing.assert_allclose(found.steps[:2], STEP)
    # One that is under way is kept, and not counted before it is over.
    early = bursts([20.0, 60.0], 61)
    assert int(early.number) == 1
    np.testing.assert_allclose(early.times[1], 60, atol=STEP)


def test_what_relaxes_has_none():
    found = watched(lambda t: jnp.exp(-t)[None], np.arange(200) * 0.1)
    assert int(found.number) == 0
    assert not np.any(found.speeds)


@pytest.mark.parametrize(
    ("escape", "until", "late"),
    [(63.0, 90.0, 3.0), (57.0, 90.0, 3.0), (95.0, 80.0, 20.0), (60.5, 90.0, 0.0)],
    ids=["later", "earlier", "still to come", "within steps"],
)
def test_shifts_are_seen_beyond_the_length_of_steps(escape, until, late):
    run, companion = bursts([20.0, 60.0], 90), bursts([20.0, escape], until)
    apart, at = shift(run, companion, until)
    np.testing.assert_allclose(apart, late * 0.25 / np.sqrt(2), rtol=0.2)
    assert at == (pytest.approx(60, abs=STEP) if late else 0)


def test_a_burst_is_compared_with_the_nearest_alone():
    """A companion's long step over a later burst covers the time of an earlier one."""

    def jumps(times, speeds, steps):
        kept = [
            jnp.pad(jnp.asarray(a), (0, 8 - len(a))) for a in (times, speeds, steps)
        ]
        return Jumps(jnp.asarray(0.0), jnp.asarray(len(times) - 1), *kept)

    # Of a network of depth 3 with three modes from 1e-6.
    run = jumps([333336.0, 500105.0, 0.0], [2.6, 0.96, 0.0], [0.09, 0.19, 0.0])
    steps = [0.18, 0.29, 505982.0]
    other = jumps([333336.1, 503517.0, 756509.0], [1.9, 0.86, 4e-7], steps)
    found = shift(run, other, 1.5e6)
    np.testing.assert_allclose(found, [(503517.0 - 500105.0) * 0.96, 500105.0])
