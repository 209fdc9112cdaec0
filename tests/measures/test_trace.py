"""Measures of the trace kernel, against sums over outputs taken in loops."""

import jax
import numpy as np
import pytest

from ntkflow.kernels import ntk
from ntkflow.measures import (
    Alignment,
    EffectiveRank,
    KernelDistance,
    KernelDrift,
    KernelVelocity,
    Spectrum,
)
from ntkflow.problem import CrossEntropy

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
    trace_of,
)

TOLERANCE = roundoff((N * K) ** 2)
BY_OUTPUTS = (
    KernelDrift,
    KernelDistance,
    KernelVelocity,
    Alignment,
    Spectrum,
    EffectiveRank,
)


@pytest.fixture(scope="module")
def problem():
    return make_problem()


def cka(kernel: np.ndarray, target: np.ndarray, *, centered: bool) -> float:
    """The cosine of two Gram matrices, from whole matrices."""
    n = len(kernel)
    c = np.eye(n) - np.full((n, n), 1 / n) * centered
    a, b = c @ kernel @ c, c @ target @ c
    return float(np.sum(a * b) / (np.linalg.norm(a) * np.linalg.norm(b)))


@pytest.mark.parametrize("labels", [False, True])
def test_alignment_of_the_trace_kernel_is_that_of_the_literature(labels):
    if labels:
        classes = np.array([0, 1, 1, 0, 1])
        options = {"y": classes, "loss": CrossEntropy(), "test": False}
        problem, y = make_problem(**options), np.eye(K)[classes]
    else:
        problem = make_problem()
        y = np.asarray(problem.y)
    kernel = random_kernel()
    found = read(Alignment("trace"), snapshot(problem, kernel=kernel, kernel0=None))
    for name, centered in (("alignment", False), ("alignment_centered", True)):
        expected = cka(trace_of(kernel), y @ y.T, centered=centered)
        np.testing.assert_allclose(found[f"{name}_trace"], expected, rtol=TOLERANCE)


def test_kernel_that_treats_outputs_alike_is_aligned_in_its_trace_alone():
    y = np.eye(K)[[0, 1, 1, 0, 1]]
    kernel = np.einsum("ij,kl->ikjl", y @ y.T, np.eye(K))
    now = snapshot(make_problem(y=y, test=False), kernel=kernel, kernel0=None)
    trace = read(Alignment("trace"), now)
    np.testing.assert_allclose(trace["alignment_trace"], 1, rtol=TOLERANCE)
    np.testing.assert_allclose(trace["alignment_centered_trace"], 1, rtol=TOLERANCE)
    full = read(Alignment(), now)
    assert full["alignment"] <= 1 / np.sqrt(K) * (1 + TOLERANCE)


def test_measures_of_the_trace_kernel_match_dense_sums(problem):
    kernel0, kernel, velocity = (random_kernel(seed=s) for s in range(3))
    now = snapshot(problem, kernel=kernel, kernel0=kernel0, velocity=velocity)
    start, end = trace_of(kernel0), trace_of(kernel)
    norm = np.linalg.norm
    values = np.linalg.eigvalsh(end)[::-1]
    expected = {
        KernelDrift("trace"): norm(end - start) / norm(start),
        KernelDistance("trace"): 1 - np.vdot(start, end) / norm(start) / norm(end),
        KernelVelocity("trace"): norm(trace_of(velocity)) / norm(start),
        EffectiveRank("trace"): values.sum() ** 2 / (values**2).sum(),
        Spectrum(3, "trace"): values[:3],
        Spectrum(None, "trace"): values,
    }
    for measure, value in expected.items():
        (found,) = read(measure, now).items()
        assert found[0].endswith("_trace")
        np.testing.assert_allclose(found[1], value, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("measure", BY_OUTPUTS)
def test_of_one_output_both_readings_agree(measure, key):
    from ntkflow.models import MLP

    problem = make_problem(MLP(3, 1, 4, 1, key=key), test=False)
    params = move(problem)
    now = snapshot(problem, params, 1.0, velocity=dense_velocity(problem, params))
    options = {"k": 3} if measure is Spectrum else {}
    full = read(measure(**options), now)
    trace = read(measure(**options, outputs="trace"), now)
    assert {f"{name}_trace" for name in full} == set(trace)
    for name, value in full.items():
        np.testing.assert_allclose(trace[f"{name}_trace"], value, rtol=roundoff(N**2))


@pytest.mark.parametrize("measure", BY_OUTPUTS)
def test_another_reading_of_outputs_is_refused(measure):
    with pytest.raises(ValueError, match="Did you mean 'trace'"):
        measure(outputs="trase")


def test_trace_spectrum_has_as_many_modes_as_examples(problem):
    with pytest.raises(ValueError, match=f"trace kernel .* has {N}. Use k={N}"):
        Spectrum(N + 1, "trace").variables(problem)


def test_trace_of_the_full_kernel_is_the_trace_kernel(problem):
    # What is summed where both are read is what is formed where one is.
    full = snapshot(problem).kernel_trace
    trace = ntk(problem.model, problem.x, outputs="trace")
    np.testing.assert_allclose(full, trace, rtol=0, atol=TOLERANCE * np.max(trace))
    assert jax.numpy.ndim(trace) == 2
