"""Solvers made for training, through the whole of `simulate`."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.data import digits
from ntkflow.flows import Gradient, Momentum, Residual, max_over_flows
from ntkflow.models import MLP, Scaled
from ntkflow.problem import CrossEntropy, Problem
from ntkflow.simulate import Reason, log_times, simulate
from ntkflow.solvers import Chebyshev, FunctionSpace, KernelExponential, KernelImplicit
from tests.simulate.problems import tiny

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

TIMES = log_times(1e-2, 4, 9)
SETTINGS = {"flows": [Gradient()], "measures": (), "progress": False}
SOLVERS = {
    "Tsit5": dfx.Tsit5(),
    "Chebyshev": Chebyshev(),
    "KernelExponential": KernelExponential(),
    "KernelImplicit": KernelImplicit(),
}


@pytest.fixture(scope="module")
def exact():
    settings = SETTINGS | {"solver": dfx.Dopri8()}
    return simulate(tiny(), TIMES, rtol=1e-11, atol=1e-13, **settings).dataset


@pytest.mark.usefixtures("quickly_compiled")
@pytest.mark.parametrize("name", SOLVERS)
def test_outputs_are_within_three_tolerances(name, exact):
    """The largest error of the outputs in time, where the flow is contractive."""
    targets = np.sqrt(np.mean(np.asarray(exact.y_train) ** 2))
    for rtol in (1e-2, 1e-5):
        run = simulate(
            tiny(), TIMES, solver=SOLVERS[name], rtol=rtol, atol=0.01 * rtol, **SETTINGS
        )
        for variable in ("f_train", "f_test"):
            right = np.asarray(exact[variable][0])
            wrong = np.asarray(run.dataset[variable][0]) - right
            size = np.sqrt(np.mean(right**2, axis=(1, 2)))
            error = np.sqrt(np.mean(wrong**2, axis=(1, 2)))
            assert (error <= 3 * rtol * np.maximum(size, targets)).all(), (rtol, error)


@pytest.mark.usefixtures("quickly_compiled")
def test_work_is_counted_alike_whatever_the_segments():
    settings = SETTINGS | {"solver": Chebyshev(refresh=5), "rtol": 1e-4}
    whole = simulate(tiny(), TIMES, **settings)
    pieces = simulate(tiny(), TIMES, segment_steps=3, **settings)
    np.testing.assert_array_equal(whole.dataset.f_train, pieces.dataset.f_train)
    for name in ("steps", "rejected", "evaluations", "gradients", "hvps"):
        assert whole.stats[name] == pieces.stats[name], name
    assert whole.stats["gradients"] >= 2 * whole.stats["steps"]
    assert whole.stats["hvps"] >= whole.stats["steps"] // 5
    assert whole.stats["factorizations"] == 0
    assert whole.stats["solver"] == "gradient: Chebyshev"


@pytest.mark.usefixtures("quickly_compiled")
def test_kernel_solver_counts_a_kernel_and_a_factorization_a_step():
    flows = [Gradient(), Residual("evolving")]
    settings = SETTINGS | {"flows": flows, "solver": KernelImplicit()}
    run = simulate(tiny(), TIMES, **settings)
    steps = run.stats["steps"]
    # Nothing stays of these flows that `init` could build.
    assert run.stats["kernel_builds"] == run.stats["factorizations"] == steps
    assert run.stats["gradients"] == run.stats["evaluations"] == 4 * steps


@pytest.mark.usefixtures("quickly_compiled")
def test_every_lane_pays_for_its_start():
    model = tiny().model
    both = jax.tree.map(lambda a: jnp.stack([a, a]) if eqx.is_array(a) else a, model)
    settings = SETTINGS | {"flows": [Residual("frozen")]}
    run = simulate(tiny(), TIMES, ensemble=both, solver=KernelExponential(), **settings)
    # A slope each, and the one kernel that serves all steps.
    assert run.stats["evaluations"] == 2 + 4 * run.stats["steps"]
    assert run.stats["kernel_builds"] == run.stats["factorizations"] == 2


def test_the_state_keeps_its_own_tolerances_when_asked():
    controller = dfx.PIDController(rtol=1e-3, atol=1e-6)
    run = simulate(tiny(), TIMES, controller=controller, **SETTINGS)
    assert "FunctionSpace" not in run.dataset.attrs["controller"]
    default = simulate(tiny(), TIMES, rtol=1e-3, **SETTINGS)
    assert "FunctionSpace" in default.dataset.attrs["controller"]
    wrapped = FunctionSpace(
        dfx.PIDController(rtol=1e-3, atol=1e-6, norm=max_over_flows)
    )
    again = simulate(tiny(), TIMES, controller=wrapped, **SETTINGS)
    np.testing.assert_allclose(again.dataset.f_train, default.dataset.f_train)


def test_too_few_stages_are_named_as_the_reason():
    base = tiny()
    problem = Problem(base.model, base.x, base.y, time_scale=1e6)
    solver = Chebyshev(max_stages=2)
    run = simulate(
        problem,
        TIMES,
        dt0=1.0,
        solver=solver,
        max_steps=5,
        throw=False,
        **SETTINGS,
    )
    assert run.reason is Reason.STAGES
    assert "max_stages" in run.reason.message


def test_a_spectrum_that_does_not_settle_is_named_as_the_reason():
    solver = Chebyshev(max_products=2)
    run = simulate(tiny(), TIMES, solver=solver, throw=False, **SETTINGS)
    assert run.reason is Reason.SPECTRUM
    assert np.isfinite(run.dataset.f_train).all()


def test_the_heavy_ball_is_refused():
    settings = SETTINGS | {"flows": [Momentum(1.0)], "solver": Chebyshev()}
    with pytest.raises(ValueError, match=r"diffrax\.Tsit5"):
        simulate(tiny(), TIMES, **settings)


@pytest.mark.usefixtures("quickly_compiled")
def test_cross_entropy_agrees_between_solvers():
    base = tiny()
    labels = jnp.asarray([0, 1, 0, 1, 1, 0])
    problem = Problem(base.model, base.x, labels, loss=CrossEntropy())
    found = [
        simulate(problem, TIMES, solver=solver, rtol=1e-5, **SETTINGS).dataset.f_train
        for solver in SOLVERS.values()
    ]
    for other in found[1:]:
        assert np.abs(other - found[0]).max() < 1e-4 * np.abs(found[0]).max()


@pytest.mark.usefixtures("quickly_compiled")
def test_saturating_cross_entropy_is_right():
    """The curvature falls by a factor of a thousand, far below where it was taken."""
    base = tiny()
    labels = jnp.asarray([0, 1, 0, 1, 1, 0])
    problem = Problem(base.model, base.x, labels, loss=CrossEntropy())
    times = log_times(10, 1e4, 5)
    right = simulate(problem, times, solver=dfx.Dopri8(), rtol=1e-8, **SETTINGS)
    right = np.asarray(right.dataset.f_train[0])
    size = np.sqrt(np.mean(right**2, axis=(1, 2)))
    solver = KernelExponential()
    for rtol in (1e-2, 1e-3):
        run = simulate(problem, times, solver=solver, rtol=rtol, **SETTINGS)
        wrong = np.asarray(run.dataset.f_train[0]) - right
        error = np.sqrt(np.mean(wrong**2, axis=(1, 2)))
        assert (error <= 3 * rtol * size).all(), (rtol, error / size)


def digits_problem(width):
    data = digits(
        n_train=100, n_test=100, seed=0, targets="centered", dtype=jnp.float64
    )
    return Problem(
        MLP(64, 10, width=width, depth=2, key=jax.random.key(0)),
        data.x_train,
        data.y_train,
        x_test=data.x_test,
        y_test=data.y_test,
    )


@pytest.mark.slow
def test_loose_tolerances_hold_at_the_limit_of_stability():
    problem, times = digits_problem(64), log_times(0.632, 632.0, 10)
    settings = SETTINGS | {"rtol": 1e-2, "atol": 1e-4, "global_error": False}
    explicit = (dfx.Tsit5(), dfx.Dopri5())
    runs = [simulate(problem, times, solver=solver, **settings) for solver in explicit]
    settings |= {"rtol": 1e-4, "atol": 1e-6}
    exact = simulate(problem, times, solver=Chebyshev(), **settings)
    targets = np.sqrt(np.mean(np.asarray(problem.y) ** 2))
    for run in runs:
        # Test outputs still move when those of training have settled.
        for variable in ("f_train", "f_test"):
            wrong = np.asarray(run.dataset[variable][0] - exact.dataset[variable][0])
            assert np.sqrt(np.mean(wrong**2, axis=(1, 2))).max() < 3e-2 * targets


@pytest.mark.slow
def test_wide_lazy_network_takes_ten_steps_and_two_decompositions():
    base = digits_problem(512)
    problem = Problem(
        Scaled(base.model, alpha=10.0),
        base.x,
        base.y,
        x_test=base.x_test,
        y_test=base.y_test,
    )
    runs = [
        simulate(
            problem, [60.0], solver=solver, rtol=rtol, global_error=False, **SETTINGS
        )
        for solver, rtol in ((KernelExponential(), 1e-3), (Chebyshev(), 1e-4))
    ]
    run, exact = runs
    assert run.dataset.loss_train[0, -1] < 1e-3 * problem.objective(problem.params)
    assert run.stats["steps"] <= 10
    assert run.stats["factorizations"] <= 2
    targets = np.sqrt(np.mean(np.asarray(problem.y) ** 2))
    error = run.dataset.f_train[0, -1] - exact.dataset.f_train[0, -1]
    assert np.sqrt(np.mean(np.asarray(error) ** 2)) < 3e-3 * targets
