"""The claims of the flows, checked on whole simulations."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
import scipy.linalg

from ntkflow import measures
from ntkflow.data import digits
from ntkflow.flows import Gradient, Linearized, Residual
from ntkflow.models import MLP, Antisymmetric
from ntkflow.problem import CrossEntropy, Decay, Problem
from ntkflow.simulate import LossBelow, Reason, log_times, simulate
from tests.simulate.problems import dense_kernel, tiny
from tests.tolerances import solver

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

quickly = pytest.mark.usefixtures("quickly_compiled")
RTOL, ATOL = 1e-6, 1e-8


def norm(residual):
    return np.sqrt((residual**2).sum(["example", "output"]))


def residuals(dataset):
    return dataset.f_train - dataset.y_train


def initial_norm(problem):
    f0 = problem.outputs(problem.params, problem.x)
    return float(jnp.linalg.norm(jnp.ravel(f0 - problem.y)))


@pytest.fixture(scope="module")
def coupled():
    """All four flows on the tiny problem."""
    problem = tiny()
    run = simulate(
        problem,
        log_times(1e-2, 5, 12),
        measures=[measures.EnergyDefect()],
        rtol=RTOL,
        atol=ATOL,
        progress=False,
    )
    return problem, run


def test_evolving_residual_equals_that_of_the_network(coupled):
    problem, run = coupled
    r = residuals(run.dataset)
    gap = norm(r.sel(flow="residual_evolving") - r.sel(flow="gradient"))
    assert gap.max() <= solver(RTOL) * initial_norm(problem)
    test = run.dataset.f_test
    gap = test.sel(flow="residual_evolving") - test.sel(flow="gradient")
    assert np.abs(gap).max() <= solver(RTOL) * initial_norm(problem)


def test_energy_identity_holds_along_gradient_flow(coupled):
    _, run = coupled
    assert np.abs(run.dataset.energy_defect).max() <= solver(RTOL)


def test_frozen_residual_equals_linearized_flow(coupled):
    problem, run = coupled
    scale = initial_norm(problem)
    for outputs in (run.dataset.f_train, run.dataset.f_test):
        gap = outputs.sel(flow="residual_frozen") - outputs.sel(flow="linearized")
        assert np.abs(gap).max() <= solver(RTOL) * scale


def test_frozen_residual_matches_matrix_exponential(coupled):
    problem, run = coupled
    kernel = dense_kernel(problem)
    cross = dense_kernel(problem, problem.x_test)
    f0 = np.asarray(problem.outputs(problem.params, problem.x))
    f0_test = np.asarray(problem.outputs(problem.params, problem.x_test))
    r0 = (f0 - problem.y).ravel()
    frozen = run.dataset.sel(flow="residual_frozen")
    times = run.dataset.time.values
    saved = zip(times, frozen.f_train.values, frozen.f_test.values, strict=True)
    for t, train, test in saved:
        decayed = scipy.linalg.expm(-kernel * t) @ r0
        expected = np.asarray(problem.y) + decayed.reshape(6, 2)
        scale = solver(RTOL) * np.linalg.norm(r0)
        np.testing.assert_allclose(train, expected, atol=scale)
        moved = cross @ np.linalg.solve(kernel, r0 - decayed)
        np.testing.assert_allclose(test, f0_test - moved.reshape(3, 2), atol=scale)


@quickly
def test_frozen_residual_of_a_singular_kernel_matches_matrix_exponential():
    problem = tiny()
    twice = Problem(problem.model, problem.x[jnp.array([0, 0, 1])], problem.y[:3])
    kernel = dense_kernel(twice)
    assert np.linalg.matrix_rank(kernel) < 6
    run = simulate(
        twice,
        [0.5, 2.0],
        flows=[Residual("frozen")],
        rtol=RTOL,
        atol=ATOL,
        progress=False,
    )
    r0 = np.asarray(twice.outputs(twice.params, twice.x) - twice.y).ravel()
    for t, f in zip([0.5, 2.0], run.dataset.f_train.values[0], strict=True):
        expected = twice.y + (scipy.linalg.expm(-kernel * t) @ r0).reshape(3, 2)
        atol = solver(RTOL) * np.linalg.norm(r0)
        np.testing.assert_allclose(f, expected, atol=atol)


@quickly
@pytest.mark.parametrize("towards", ["zero", "initial"])
def test_frozen_flow_with_decay_equals_the_decayed_linear_model(towards):
    problem = tiny(decay=Decay(0.3, towards))
    run = simulate(
        problem,
        [0.3, 3.0],
        flows=[Residual("frozen"), Linearized()],
        rtol=RTOL,
        atol=ATOL,
        progress=False,
    )
    for outputs in (run.dataset.f_train, run.dataset.f_test):
        gap = outputs.sel(flow="residual_frozen") - outputs.sel(flow="linearized")
        assert np.abs(gap).max() <= solver(RTOL) * initial_norm(problem)


@quickly
def test_decay_towards_the_start_ends_at_kernel_ridge_regression():
    problem = tiny(decay=Decay(0.5, "initial"))
    run = simulate(
        problem,
        [60.0],
        flows=[Residual("frozen")],
        rtol=RTOL,
        atol=ATOL,
        progress=False,
    )
    kernel = dense_kernel(problem)
    f0 = np.asarray(problem.outputs(problem.params, problem.x)).ravel()
    y = np.asarray(problem.y).ravel()
    ridge = f0 + kernel @ np.linalg.solve(kernel + 0.5 * np.eye(12), y - f0)
    found = run.dataset.f_train.values[0, -1].ravel()
    # e^{−0.5·60} is far below the solver's tolerance.
    np.testing.assert_allclose(found, ridge, atol=solver(RTOL) * np.linalg.norm(y))


@quickly
def test_cross_entropy_flows_agree_where_theory_says_so():
    base = tiny()
    labels = np.array([0, 1, 1, 0, 1, 0])
    problem = Problem(base.model, base.x, labels, loss=CrossEntropy())
    run = simulate(
        problem,
        [0.5, 4.0],
        rtol=RTOL,
        atol=ATOL,
        measures=[measures.EnergyDefect()],
        progress=False,
    )
    f = run.dataset.f_train
    for one, other in (
        ("gradient", "residual_evolving"),
        ("residual_frozen", "linearized"),
    ):
        gap = np.abs(f.sel(flow=one) - f.sel(flow=other)).max()
        assert gap <= solver(RTOL) * np.abs(f).max()
    assert np.abs(run.dataset.energy_defect).max() <= solver(RTOL)


@quickly
def test_output_scale_and_time_scale_leave_a_linear_model_unchanged():
    """The frozen flow of α(f − f₀) at c = 1/α² is that of f − f₀ at c = 1."""
    from ntkflow.models import Scaled

    problem = tiny()
    runs = [
        simulate(
            Problem(
                Scaled(problem.model, alpha),
                problem.x,
                problem.y,
            ),
            [0.5, 2.0],
            flows=[Residual("frozen")],
            rtol=RTOL,
            atol=ATOL,
            progress=False,
        )
        for alpha in (1.0, 20.0)
    ]
    gap = runs[0].dataset.f_train - runs[1].dataset.f_train
    assert np.abs(gap).max() <= solver(RTOL) * float(jnp.linalg.norm(problem.y))


def test_trained_model_reproduces_the_saved_outputs(coupled):
    problem, run = coupled
    for i in (0, 5, -1):
        f = jax.vmap(run.model_at(i))(problem.x)
        saved = run.dataset.f_train.sel(flow="gradient").isel(time=i)
        np.testing.assert_allclose(f, saved, rtol=1e-13, atol=1e-13)


def test_dataset_has_the_promised_shape(coupled):
    _, run = coupled
    dataset = run.dataset
    assert dataset.f_train.dims == ("flow", "time", "example", "output")
    assert dataset.f_test.dims == ("flow", "time", "example_test", "output")
    assert dataset.loss_train.dims == ("flow", "time")
    assert list(dataset.flow.values) == [
        "gradient",
        "residual_evolving",
        "residual_frozen",
        "linearized",
    ]
    np.testing.assert_array_equal(dataset.time, log_times(1e-2, 5, 12))
    assert run.reason is Reason.COMPLETED
    assert dataset.attrs["measured_on"] == "gradient"
    assert all("units" in variable.attrs for variable in dataset.data_vars.values())
    # Six a step, and the first slope, which later steps find made; two more where a
    # save time lies inside.
    looks = run.stats["evaluations"] - (6 * run.stats["steps"] + 1)
    assert looks in range(2, 2 * run.stats["steps"] + 1, 2)


@quickly
def test_user_modules_with_shared_integer_and_normalized_leaves_are_trained():
    class Tied(eqx.Module):
        shared: eqx.nn.Shared
        norm: eqx.nn.LayerNorm
        attention: eqx.nn.MultiheadAttention
        order: jax.Array

        def __init__(self, key):
            one, two = eqx.nn.Linear(4, 4, key=key), eqx.nn.Linear(4, 4, key=key)
            self.shared = eqx.nn.Shared(
                (one, two),
                where=lambda pair: pair[1].weight,
                get=lambda pair: pair[0].weight,
            )
            self.norm = eqx.nn.LayerNorm(4)
            self.attention = eqx.nn.MultiheadAttention(2, 4, key=key)
            self.order = jnp.array([2, 0, 1])

        def __call__(self, x):
            one, two = self.shared()
            tokens = jax.vmap(self.norm)(x[self.order])
            tokens = self.attention(tokens, tokens, tokens)
            return two(jnp.tanh(one(tokens.sum(0))))

    key = jax.random.key(1)
    x = jax.random.normal(key, (5, 3, 4))
    problem = Problem(Tied(key), x, jnp.ones((5, 4)))
    run = simulate(
        problem,
        [0.05, 0.5],
        flows=[Residual("evolving")],
        measures=(),
        rtol=RTOL,
        atol=ATOL,
        progress=False,
    )
    f = run.dataset.f_train
    gap = np.abs(f.sel(flow="residual_evolving") - f.sel(flow="gradient")).max()
    assert gap <= solver(RTOL) * initial_norm(problem)
    assert run.dataset.loss_train[0, -1] < 0.5 * problem.objective(problem.params)


@quickly
def test_float32_models_are_simulated_in_float32():
    problem = tiny(dtype=jnp.float32)
    run = simulate(problem, [0.5, 2.0], measures=(), rtol=1e-4, progress=False)
    assert run.dataset.f_train.dtype == np.float32
    assert {
        leaf.dtype for leaf in jtu.tree_leaves(eqx.filter(run.model, eqx.is_array))
    } == {np.dtype(np.float32)}
    f = run.dataset.f_train
    gap = np.abs(f.sel(flow="residual_evolving") - f.sel(flow="gradient")).max()
    assert gap <= solver(1e-4) * initial_norm(problem)


@pytest.mark.slow
def test_residual_equation_follows_200_digits_to_a_thousandth_of_the_loss():
    data = digits(n_train=200, n_test=50, seed=0, targets="onehot")
    model = Antisymmetric(MLP(64, 10, width=64, depth=2, key=jax.random.key(0)))
    problem = Problem(
        model, data.x_train, data.y_train, x_test=data.x_test, y_test=data.y_test
    )
    run = simulate(
        problem,
        log_times(1e-3, 300, 24),
        flows=[Gradient(), Residual("evolving")],
        measures=[measures.EnergyDefect()],
        rtol=RTOL,
        atol=ATOL,
        events=[LossBelow(1e-3)],
        progress=False,
        global_error=False,
    )
    assert run.reason is Reason.EVENT
    r = residuals(run.dataset)
    gap = norm(r.sel(flow="residual_evolving") - r.sel(flow="gradient"))
    assert gap.max() <= 10 * RTOL * initial_norm(problem)
    assert np.abs(run.dataset.energy_defect).max() <= 10 * RTOL
