"""Predictions where eigenvalues of the kernel are below its rounding."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow import theory
from ntkflow.theory._decays import Ended, Flow
from ntkflow.theory._filters import apply_filter
from ntkflow.theory._shifted import Shifted

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

N, TEST = 30, 4
TIMES = np.array([1.0, 1e3, 1e6, 1e9, np.inf])
NOISE = 1e-5


def kernels():
    """Of five functions, which leave 25 eigenvalues zero, and with an error.

    Rounding the sums of a wide network leaves one of the same kind; here it is large
    enough to show as negative eigenvalues.
    """
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N + TEST, 2))
    features = np.cos(x @ rng.standard_normal((2, 5)) + rng.uniform(0, 6, 5))
    exact = features @ features.T / 5
    noise = rng.standard_normal(exact.shape)
    noise = NOISE * (noise + noise.T) / 2
    y = np.tanh(x[:N, :1] + x[:N, 1:])
    return exact, exact + noise, y


EXACT, NOISY, Y = kernels()
NOISY_RATES = np.linalg.eigvalsh(NOISY[:N, :N])
START = np.zeros((N, 1)), np.zeros((TEST, 1))


def single(*arrays):
    return [jnp.asarray(array, jnp.float32) for array in arrays]


def known(t):
    """Predictions of the exact kernel from the modes it has, by their definition."""
    rates, modes = np.linalg.eigh(EXACT[:N, :N])
    kept = rates > 1e-3
    rates, modes = rates[kept], modes[:, kept]
    parts = modes.T @ Y / rates[:, None]
    learned = 1 - np.exp(-np.where(rates * t < 700, rates * t, 700.0))
    return EXACT[N:, :N] @ modes @ (learned[:, None] * parts)


def flow(kernel, cross, y, t, off):
    return theory.frozen_flow(kernel, 0 * y, y, t, **off).test


def momentum(kernel, cross, y, t, off):
    return theory.frozen_momentum(kernel, 0 * y, y, t, damping=1.0, **off).test


def descent(kernel, cross, y, t, off):
    steps = jnp.asarray(10 * jnp.minimum(t, 1e8), jnp.int32)
    return theory.frozen_descent(kernel, 0 * y, y, steps, learning_rate=0.1, **off).test


def mean(kernel, cross, y, t, off):
    there = single(NOISY[N:, N:])[0]
    found = theory.ensemble(
        kernel, kernel, y, t, nngp_test_train=cross, nngp_test=there,
        ntk_test_train=cross,
    ).test  # fmt: skip
    variances = jnp.diagonal(found.covariance, axis1=-2, axis2=-1)
    assert float(jnp.min(variances)) > -10 * NOISE
    return found.mean


@pytest.mark.parametrize(
    "predict", [flow, descent, mean, pytest.param(momentum, marks=pytest.mark.slow)]
)
def test_rounding_off_the_sample_does_not_grow_with_time(predict):
    kernel, cross, y, f0 = single(NOISY[:N, :N], NOISY[N:, :N], Y, START[1])
    off = {"ntk_test_train": cross, "f0_test": f0}
    with pytest.warns(UserWarning, match="below its rounding in float32"):
        found = predict(kernel, cross, y, jnp.asarray(TIMES, jnp.float32), off)
    # What a mode moves is known to the kernel's error times A: one over the eigenvalue
    # for those that are kept, the time for others until they no longer count.
    rates, floor = np.linalg.eigvalsh(EXACT[:N, :N]), -2 * NOISY_RATES[0]
    moved = 1 / rates[rates > 1e-3].min() + np.minimum(TIMES, 1e30) * np.exp(
        -((floor * np.minimum(TIMES, 1e30)) ** 2)
    )
    tolerance = np.linalg.norm(NOISY - EXACT, 2) * moved * np.linalg.norm(Y)
    # Early on the heavy ball is behind, and few steps are not the flow.
    for i in range(2 if predict in (momentum, descent) else 0, len(TIMES)):
        np.testing.assert_allclose(found[i], known(TIMES[i]), atol=tolerance[i])


def test_training_outputs_do_not_learn_what_rounding_left():
    """Where the targets are noise they stay noise at every time, as at t = ∞."""
    rates, modes = np.linalg.eigh(EXACT[:N, :N])
    lost = modes[:, rates < 1e-10] @ np.ones((np.sum(rates < 1e-10), 1))
    train, f0, y = single(NOISY[:N, :N], 0 * lost, lost)
    with pytest.warns(UserWarning, match="below its rounding"):
        found = theory.frozen_flow(train, f0, y, jnp.asarray(TIMES, jnp.float32))
    # A perturbed eigenvector turns by the noise over the gap to the kept ones.
    gap = rates[rates > 1e-3].min()
    tolerance = 5 * np.linalg.norm(NOISY - EXACT, 2) / gap * np.linalg.norm(lost)
    np.testing.assert_allclose(found.train[2:], 0 * found.train[2:], atol=tolerance)


def test_early_times_count_every_mode():
    """While no mode below rounding could be learned, the flow is its power series."""
    train, test, y, *f0 = single(NOISY[:N, :N], NOISY[N:, :N], Y, *START)
    top = np.linalg.norm(NOISY[:N, :N], 2)
    t = 1e-3 / top
    found = theory.frozen_flow(
        train, f0[0], y, t, ntk_test_train=test, f0_test=f0[1]
    ).test
    k, cross = NOISY[:N, :N], NOISY[N:, :N]
    series = t * cross @ (Y - t / 2 * k @ Y + t**2 / 6 * k @ (k @ Y))
    scale = t * np.linalg.norm(cross, 2) * np.linalg.norm(Y)
    rounding = 20 * np.finfo(np.float32).eps * scale
    np.testing.assert_allclose(found, series, atol=rounding + 1e-9 * scale)


def test_modes_below_rounding_are_alike_at_late_times_and_at_the_end():
    """With their derivatives by the kernel, along which the rank stays."""
    rng = np.random.default_rng(3)
    factor, moved = rng.standard_normal((2, 10, 4))
    kernel = jnp.asarray(factor @ factor.T)
    change = jnp.asarray(moved @ factor.T + factor @ moved.T)
    unit = jnp.eye(10)

    @jax.jit
    def both(decay):
        filters = Shifted(decay, jnp.asarray(0.0))
        return jax.jvp(lambda k: apply_filter(filters, k, unit), (kernel,), (change,))

    late, end = both(Flow(jnp.asarray(1e30))), both(Ended())
    for found, expected in zip(late, end, strict=True):
        scale = float(jnp.max(jnp.abs(expected)))
        np.testing.assert_allclose(found, expected, atol=1e-12 * scale)


def test_warning_is_silent_where_nothing_depends_on_rounding():
    """Targets that the kernel can reach; a ridge; times too short; and none to come."""
    kernel = single(EXACT[:N, :N])[0]
    reached = single(EXACT[:N, :N] @ Y)[0]
    precise = jnp.asarray(EXACT[:N, :N])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        late = jnp.asarray(1e12)
        theory.frozen_flow(precise, jnp.zeros((N, 1)), precise @ Y, late)
        theory.frozen_flow(kernel, 0 * reached, reached, 1e6, ridge=1e-2)
        theory.frozen_flow(kernel, 0 * reached, reached, 10.0)
        theory.frozen_flow(kernel, 0 * reached, single(Y)[0], jnp.inf)


def test_gap_of_descent_does_not_grow_by_a_negative_eigenvalue():
    kernel = single(NOISY[:N, :N])[0].reshape(N, 1, N, 1)
    f0, y = single(START[0], Y)
    t = jnp.asarray([1e9], jnp.float32)
    assert NOISY_RATES[0] < -NOISE
    gap = theory.descent_gap(kernel, f0, y, t)
    np.testing.assert_array_equal(gap, 0 * gap)
