import jax
import numpy as np
import pytest

from ntkflow.measures import KernelDistance, KernelDrift, KernelVelocity
from ntkflow.models import DeepLinear

from ..tolerances import roundoff
from .snapshots import (
    K,
    N,
    dense_velocity,
    make_problem,
    move,
    random_kernel,
    read,
    snapshot,
)


@pytest.fixture(scope="module")
def problem():
    return make_problem()


def loop_norm(kernel: np.ndarray) -> float:
    total = 0.0
    for value in kernel.ravel().tolist():
        total += value**2
    return total**0.5


def test_drift_matches_the_loop(problem):
    kernel0, kernel = random_kernel(seed=0), random_kernel(seed=1)
    now = snapshot(problem, kernel=kernel, kernel0=kernel0)
    drift = read(KernelDrift(), now)["kernel_drift"]
    expected = loop_norm(kernel - kernel0) / loop_norm(kernel0)
    np.testing.assert_allclose(drift, expected, rtol=roundoff((N * K) ** 2))


def test_distance_matches_the_quotient(problem):
    kernel0, kernel = random_kernel(seed=0), random_kernel(seed=1)
    now = snapshot(problem, kernel=kernel, kernel0=kernel0)
    cosine = np.vdot(kernel, kernel0) / (loop_norm(kernel) * loop_norm(kernel0))
    distance = read(KernelDistance(), now, snapshot(problem, kernel0=kernel0))
    np.testing.assert_allclose(
        distance["kernel_distance"], 1 - cosine, atol=roundoff((N * K) ** 2)
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distance_ignores_the_scale(dtype):
    kernel0 = random_kernel()
    now = snapshot(make_problem(dtype=dtype), kernel=3.7 * kernel0, kernel0=kernel0)
    distance = read(KernelDistance(), now)["kernel_distance"]
    # Entries of two unit kernels that differ by round-off, squared and summed.
    assert 0 <= distance <= roundoff(1, dtype) ** 2


def test_small_distance_keeps_its_digits(problem):
    kernel0 = random_kernel(seed=0)
    step = random_kernel(seed=1)
    step -= kernel0 * np.vdot(step, kernel0) / np.vdot(kernel0, kernel0)
    ratio = 1e-6  # the sine is 1e-6, so the quotient's 1 − cos would keep four digits
    step *= ratio * loop_norm(kernel0) / loop_norm(step)
    now = snapshot(problem, kernel=kernel0 + step, kernel0=kernel0)
    slant = np.sqrt(1 + ratio**2)
    expected = ratio**2 / (slant * (slant + 1))
    distance = read(KernelDistance(), now)["kernel_distance"]
    np.testing.assert_allclose(distance, expected, rtol=roundoff(4) / ratio)


def test_velocity_matches_the_loop(problem):
    velocity = random_kernel(seed=2)
    now = snapshot(problem, velocity=velocity)
    expected = loop_norm(velocity) / loop_norm(np.asarray(now.kernel0))
    np.testing.assert_allclose(
        read(KernelVelocity(), now)["kernel_velocity"],
        expected,
        rtol=roundoff((N * K) ** 2),
    )


def test_kernel_of_a_linear_model_does_not_move(key):
    problem = make_problem(DeepLinear(3, 2, width=1, depth=0, key=key))
    params = move(problem)
    now = snapshot(problem, params, 1.0, velocity=dense_velocity(problem, params))
    first = snapshot(problem)
    assert read(KernelDrift(), now, first)["kernel_drift"] <= roundoff(1)
    assert read(KernelDistance(), now, first)["kernel_distance"] <= roundoff(1) ** 2
    assert read(KernelVelocity(), now, first)["kernel_velocity"] == 0


def test_drift_grows_at_the_speed_of_the_kernel(problem):
    # Over a short time h the drift is h·speed + O(h²); halving h halves the error.
    params = problem.params
    velocity = dense_velocity(problem, params)
    speed = read(KernelVelocity(), snapshot(problem, velocity=velocity))
    gaps = []
    for h in (1e-3, 5e-4):
        stepped = jax.tree.map(
            lambda p, g, h=h: p - h * problem.time_scale * g,
            params,
            problem.gradient(params),
        )
        now = snapshot(problem, stepped, h)
        drift = read(KernelDrift(), now)["kernel_drift"]
        gaps.append(abs(drift / h - speed["kernel_velocity"]))
    assert 1.9 <= gaps[0] / gaps[1] <= 2.1


def test_measure_without_its_quantity_says_what_is_missing(problem):
    with pytest.raises(ValueError, match="no 'velocity'"):
        read(KernelVelocity(), snapshot(problem))
