"""What `simulate` hands to measures: kernels, the save time before, the Hessian."""

import itertools

import equinox as eqx
import jax
import numpy as np
import pytest
import xarray as xr

from ntkflow import measures
from ntkflow.flows import Coupled, Gradient
from ntkflow.kernels import kernel_of
from ntkflow.models import MLP
from ntkflow.problem import Problem
from ntkflow.simulate import _reading, log_times, simulate

from ..tolerances import roundoff
from .problems import dense_kernel, tiny

TIMES = log_times(1e-2, 2, 5)
EVERY = [
    measures.KernelDrift(),
    measures.KernelDrift("trace"),
    measures.KernelStep(),
    measures.KernelStep("trace"),
    measures.KernelRegression(outputs="trace"),
    measures.Sharpness(),
]
SETTINGS = {"flows": [Gradient()], "rtol": 1e-6, "atol": 1e-8, "progress": False}


pytestmark = pytest.mark.usefixtures("cheaply_compiled")


@pytest.fixture(scope="module")
def run():
    # As the tests are, for the comparison bit for bit.
    jax.config.update("jax_disable_most_optimizations", True)
    found = simulate(tiny(), TIMES, measures=EVERY, **SETTINGS)
    jax.config.update("jax_disable_most_optimizations", False)
    return found


def kernels(run, problem):
    """Θ at t = 0 and at every save time, from explicit Jacobians."""
    n, k = problem.n_examples, problem.n_outputs
    models = [problem.model, *(run.model_at(i) for i in range(len(TIMES)))]
    moved = (
        Problem(m, problem.x, problem.y, x_test=problem.x_test, y_test=problem.y_test)
        for m in models
    )
    return [dense_kernel(at).reshape(n, k, n, k) for at in moved]


def trace_of(kernel):
    return np.einsum("ikjk->ij", kernel)


def test_both_readings_of_one_measure_run_together(run):
    every = kernels(run, tiny())
    start, end = every[0], every[-1]
    for name, a, b in (
        ("kernel_drift", start, end),
        ("kernel_drift_trace", trace_of(start), trace_of(end)),
    ):
        expected = np.linalg.norm(b - a) / np.linalg.norm(a)
        tolerance = roundoff(a.size)
        np.testing.assert_allclose(run.dataset[name][-1], expected, atol=tolerance)
    assert 'KernelDrift, KernelDrift("trace")' in run.dataset.attrs["measures"]


def test_steps_compare_with_the_save_time_before(run):
    every, times = kernels(run, tiny()), np.concatenate([[0.0], TIMES])
    for end, of in (("", np.asarray), ("_trace", trace_of)):
        unit = [of(k) / np.linalg.norm(of(k)) for k in every]
        steps = [0.5 * np.sum((b - a) ** 2) for a, b in itertools.pairwise(unit)]
        found = run.dataset[f"kernel_step_distance{end}"]
        np.testing.assert_allclose(found, steps, atol=roundoff(1) * np.max(steps))
        np.testing.assert_allclose(
            run.dataset[f"kernel_step_velocity{end}"], found / np.diff(times)
        )


@eqx.filter_jit
def dense_hessian(problem):
    flat, unravel = jax.flatten_util.ravel_pytree(problem.params)
    return jax.hessian(lambda p: problem.objective(unravel(p)))(flat)


def test_sharpness_follows_the_hessian(run):
    problem = tiny()
    for i in (0, len(TIMES) - 1):
        moved = Problem(run.model_at(i), problem.x, problem.y)
        largest = np.linalg.eigvalsh(dense_hessian(moved))[-1]
        found = run.dataset["sharpness"][i]
        assert abs(found - largest) <= run.dataset["sharpness_error"][i]


def test_what_looks_back_resumes_bit_for_bit(run, tmp_path):
    stopped = simulate(
        tiny(),
        TIMES,
        measures=EVERY,
        checkpoint=tmp_path,
        max_steps=12,
        segment_steps=4,
        throw=False,
        **SETTINGS,
    )
    assert 0 < stopped.dataset.sizes["time"] < len(TIMES)
    resumed = simulate(
        tiny(), TIMES, measures=EVERY, checkpoint=tmp_path, resume=True, **SETTINGS
    )
    xr.testing.assert_identical(resumed.dataset.drop_attrs(), run.dataset.drop_attrs())


def test_measures_of_the_trace_kernel_form_no_full_one(monkeypatch):
    formed = []

    def recorded(problem, params, x=None, *, outputs="full"):
        formed.append(outputs)
        return kernel_of(problem, params, x, outputs=outputs)

    monkeypatch.setattr(_reading, "kernel_of", recorded)
    chosen = [
        measures.Alignment("trace"),
        measures.KernelStep("trace"),
        measures.KernelRegression(outputs="trace"),
    ]
    reader = _reading.Reader(Coupled((Gradient(),)), tuple(chosen), (), None)
    eqx.filter_eval_shape(reader.reference, tiny())
    assert set(formed) == {"trace"}
    assert reader.kernels == 2


def test_trace_kernel_is_formed_from_arrays_smaller_than_the_full_one(key):
    n, k = 30, 10
    rng = np.random.default_rng(0)
    model = MLP(3, k, 8, 2, key=key)
    problem = Problem(model, rng.normal(size=(n, 3)), rng.normal(size=(n, k)))

    def largest(jaxpr):
        inner = jax.extend.core.jaxprs_in_params
        sizes = [v.aval.size for e in jaxpr.eqns for v in e.outvars]
        sizes += [largest(j) for e in jaxpr.eqns for j in inner(e.params)]
        return max(sizes, default=0)

    formed = {
        outputs: largest(
            jax.make_jaxpr(lambda p, o=outputs: kernel_of(problem, p, outputs=o))(
                problem.params
            ).jaxpr
        )
        for outputs in ("full", "trace")
    }
    assert formed["full"] >= (n * k) ** 2
    assert formed["trace"] < (n * k) ** 2 / 2
