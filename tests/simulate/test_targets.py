"""Targets of any shape: integrated, named, saved, drawn; and complex inputs."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.linalg

from ntkflow import flows, measures, plots
from ntkflow.problem import Problem
from ntkflow.simulate import Trajectory, simulate
from ntkflow.simulate._dataset import assemble
from ntkflow.simulate._stops import Stop
from tests.tolerances import solver

N, NT, K, RTOL = 4, 2, 2, 1e-6


@pytest.fixture(scope="module")
def weighted():
    """A linear network on targets [K] with a weight beside them, K + 1 numbers."""
    keys = jax.random.split(jax.random.key(1), 3)
    model = eqx.nn.Linear(3, K, use_bias=False, key=keys[0])
    x = jax.random.normal(keys[1], (N + NT, 3))
    y = jnp.abs(jax.random.normal(keys[2], (N + NT, K + 1)))

    def loss(f, y):
        return 0.5 * y[K] * jnp.sum((f - y[:K]) ** 2)

    problem = Problem(model, x[:N], y[:N], x_test=x[N:], y_test=y[N:], loss=loss)
    run = simulate(
        problem,
        [0.0, 0.5, 2.0],
        flows=[flows.Gradient()],
        measures=[measures.KernelDrift(), measures.Modes(2)],
        solver=diffrax.Tsit5(),
        rtol=RTOL,
        progress=False,
    )
    return problem, run


def test_a_weight_beside_the_targets_weighs(weighted):
    problem, run = weighted
    x, y, w = problem.x, np.asarray(problem.y)[:, :K], np.asarray(problem.y)[:, K:]
    f0 = np.asarray(problem.outputs(problem.params, x))
    for time in run.dataset.time.values:
        decayed = scipy.linalg.expm(-time * np.asarray(x @ x.T) * w.T) @ (f0 - y)
        found = run.dataset.f_train.sel(flow="gradient", time=time)
        scale = np.linalg.norm(f0 - y)
        np.testing.assert_allclose(found, y + decayed, atol=solver(RTOL) * scale)


class Parts(eqx.Module):
    """A linear map of real and imaginary parts."""

    linear: eqx.nn.Linear

    def __call__(self, x):
        return self.linear(jnp.concatenate([x.real, x.imag]))


def test_complex_inputs_are_trained_on(key):
    linear = eqx.nn.Linear(4, 1, use_bias=False, key=key)
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(3, 4))
    z, y = parts[:, :2] + 1j * parts[:, 2:], rng.normal(size=(3, 1))
    run = simulate(
        Problem(Parts(linear), z, y),
        [0.0, 0.5],
        flows=[flows.Gradient()],
        measures=[measures.KernelDrift()],
        solver=diffrax.Tsit5(),
        rtol=RTOL,
        progress=False,
    )
    r0 = parts @ np.asarray(linear.weight).T - y
    expected = y + scipy.linalg.expm(-0.5 * parts @ parts.T) @ r0
    found = run.dataset.f_train.sel(flow="gradient").isel(time=-1)
    scale = np.linalg.norm(r0)
    np.testing.assert_allclose(found, expected, atol=solver(RTOL) * scale)


def test_targets_of_another_shape_are_saved_and_loaded(weighted, tmp_path):
    problem, run = weighted
    run.save(tmp_path / "run")
    for dataset in (run.dataset, Trajectory.load(tmp_path / "run").dataset):
        assert dataset.y_train.dims == ("example", "target")
        assert dataset.y_test.dims == ("example_test", "target")
        np.testing.assert_array_equal(dataset.y_train, problem.y)
        np.testing.assert_array_equal(dataset.y_test, problem.y_test)
        assert {"kernel_drift", "mode_residual_initial"} <= set(dataset)


def test_targets_of_another_shape_are_reported(weighted, tmp_path):
    _, run = weighted
    plt.close(plots.overview(run))
    path = tmp_path / "report.html"
    plots.report(run, path)
    assert "<html" in path.read_text("utf-8")


@pytest.mark.parametrize(
    ("train", "test", "dims"),
    [
        ((), (), ((), ())),
        ((K,), (K,), (("output",), ("output",))),
        ((1,), (1,), (("target",), ("target",))),
        ((3, 3), (3, 3), (("target", "target_2"), ("target", "target_2"))),
        ((5,), (3,), (("target",), ("target_test",))),
        ((K,), (3,), (("output",), ("target_test",))),
        ((3,), (K,), (("target",), ("output",))),
        ((3,), (), (("target",), ())),
        ((0,), (0,), (("target",), ("target",))),
    ],
)
@pytest.mark.parametrize("dtype", [np.float64, np.int8, np.bool_])
def test_targets_that_are_no_outputs_have_dimensions_of_their_own(
    train, test, dims, dtype
):
    once = {
        "y_train": np.ones((N, *train), dtype),
        "y_test": np.ones((NT, *test), dtype),
    }
    description = {
        "lanes": None,
        "flows": ["gradient"],
        "kinds": ["gradient"],
        "variables": {},
        "coords": {},
        "attrs": {"n_outputs": K},
    }
    f = np.zeros((N, K))
    records = [[[{"f_train/gradient": f}]]]
    dataset = assemble(description, np.zeros(1), once, records, [Stop()])
    assert dataset.y_train.dims == ("example", *dims[0])
    assert dataset.y_test.dims == ("example_test", *dims[1])
    np.testing.assert_array_equal(dataset.y_train, once["y_train"])
    np.testing.assert_array_equal(dataset.y_test, once["y_test"])
