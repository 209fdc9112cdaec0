"""Global errors: held on plateaus, estimated, and told where they are too large.

Nothing here shares a mechanism with the error control of the solvers: the truth is a
closed form or scipy's integrator.
"""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.flows import Descent, Gradient, Momentum, Residual
from ntkflow.problem import CrossEntropy, Problem
from ntkflow.simulate import Reason, Trajectory, log_times, simulate
from ntkflow.solvers import (
    Chebyshev,
    KernelExponential,
    KernelImplicit,
    _function_space,
)
from tests.simulate.problems import tiny
from tests.simulate.truth import integrate, learned, rms, wrong_by

pytestmark = pytest.mark.usefixtures("cheaply_compiled")
quickly = pytest.mark.usefixtures("quickly_compiled")

SETTINGS = {"flows": [Gradient()], "measures": (), "progress": False}


class Product(eqx.Module):
    """f = w₁…w_depth x, with one more weight in the array that does nothing."""

    w: jax.Array

    def __call__(self, x):
        return jnp.prod(self.w[1:], keepdims=True) * x


def product(size: float, beside: float = 0.0, depth: int = 2) -> Problem:
    """All w = `size` with target 1; of depth 2 f = u with u̇ = 2u(1 − u)."""
    one = jnp.ones((1, 1))
    return Problem(Product(jnp.asarray([beside] + depth * [size])), one, one)


def escape(size: float) -> np.ndarray:
    """Save times around the end of the plateau, which is at −log(size)."""
    return -np.log(size) + np.linspace(-3, 5, 17)


@quickly
def test_plateaus_are_left_at_the_right_time():
    """Three tolerances at every save time, not aligned; growth is up to 2e11-fold."""
    for size in (1e-2, 1e-4, 1e-6):
        problem, times = product(size), escape(size)
        exact = learned(2, 1.0, size, times)[:, None, None]
        for rtol in (1e-2, 1e-4, 1e-6):
            run = simulate(problem, times, rtol=rtol, atol=0.01 * rtol, **SETTINGS)
            wrong, estimated = wrong_by(run, exact, problem, rtol)
            assert run.reason is Reason.COMPLETED
            assert wrong.max() <= 3, (size, rtol, wrong.max())
            assert wrong.max() <= 3 * estimated.max()
            # An estimate far too large would have made `auto` repeat the run.
            assert run.stats["error_over_tolerance"] <= 3
            assert run.stats["rtol_used"] == rtol
            # The loss is (f − 1)²/2.
            loss = np.asarray(run.dataset.loss_train[0])
            missed = np.abs(loss - (exact[:, 0, 0] - 1) ** 2 / 2).max()
            error = float(run.dataset.loss_train_error.max())
            assert missed <= 3 * max(error, 0.03 * rtol)
            assert error <= 30 * max(missed, 0.1 * rtol)


@quickly
def test_what_the_controller_cannot_see_is_repeated_by_auto():
    """Weights of 1e-5 beside one of 1 in the same array, which hides them."""
    problem, times, rtol = product(1e-5, 1.0), escape(1e-5), 1e-4
    exact = learned(2, 1.0, 1e-5, times)[:, None, None]
    settings = SETTINGS | {"rtol": rtol, "atol": 0.01 * rtol}
    run = simulate(problem, times, **settings)
    wrong, _ = wrong_by(run, exact, problem, rtol)
    assert run.reason is Reason.COMPLETED
    assert wrong.max() <= 3
    assert run.stats["rtol_used"] < rtol
    # Nothing but its own work is in the counts of the run.
    assert run.stats["error_gradients"] > run.stats["gradients"]


@quickly
def test_a_plateau_left_late_is_seen_between_save_times(monkeypatch, tmp_path):
    """At both save times the run is right, between them as wrong as it can be."""
    # Blind controllers: what accelerates is not held by its movement.
    monkeypatch.setattr(_function_space, "_MOVEMENTS", np.inf)
    # The plateau ends at 1/size.
    problem, times = product(1e-4, 1.0, depth=3), np.array([5e3, 2e4])
    exact = learned(3, 1.0, 1e-4, times)[:, None, None]
    settings = SETTINGS | {"rtol": 1e-3, "atol": 1e-5}
    with pytest.warns(UserWarning, match=r"may be wrong by .* at t ≈ 1\.\d+e\+04"):
        run = simulate(problem, times, solver=KernelImplicit(), **settings)
    assert wrong_by(run, exact, problem, 1e-3)[0].max() < 1e-3
    assert run.reason is Reason.ACCURACY
    assert run.stats["error_over_tolerance"] == pytest.approx(1e3, rel=0.02)
    # Seen in a stored run, too, when it is asked for again.
    kept = settings | {"checkpoint": tmp_path, "solver": KernelImplicit()}
    for resume in (False, True):
        with pytest.warns(UserWarning, match="may be wrong"):
            again = simulate(problem, times, resume=resume, **kept)
        assert again.reason is Reason.ACCURACY
        over = again.stats["error_over_tolerance"]
        assert over == run.stats["error_over_tolerance"]
    run = simulate(problem, times, **settings)
    assert run.reason is Reason.COMPLETED
    assert run.stats["rtol_used"] < 1e-3


@quickly
def test_a_named_solver_that_misses_its_tolerance_says_so():
    problem, times, rtol = product(1e-7, 1.0), escape(1e-7), 1e-3
    exact = learned(2, 1.0, 1e-7, times)[:, None, None]
    settings = SETTINGS | {"rtol": rtol, "atol": 0.01 * rtol, "solver": dfx.Tsit5()}
    with pytest.warns(UserWarning, match=r"may be wrong by .* times the tolerance"):
        run = simulate(problem, times, **settings)
    wrong, estimated = wrong_by(run, exact, problem, rtol)
    assert run.reason is Reason.ACCURACY
    assert not run.reason.failed
    assert "f_train_error" in run.reason.message
    assert wrong.max() > 3
    assert estimated.max() > 3
    assert run.dataset.attrs["reason"] == "accuracy"
    over = run.stats["error_over_tolerance"]
    assert over == pytest.approx(estimated.max(), rel=0.02)
    controller = dfx.PIDController(rtol=1e-3, atol=1e-6)
    with pytest.warns(UserWarning, match="have grown"):
        run = simulate(problem, times, controller=controller, **settings)
    # Held to a controller of the caller's, it is estimated and not judged.
    assert run.reason is Reason.COMPLETED
    assert run.stats["error_over_tolerance"] > 3


@quickly
def test_estimates_change_nothing_and_can_be_left_out():
    times = log_times(1e-2, 4, 5)
    settings = SETTINGS | {"flows": [Gradient(), Residual("frozen")]}
    run = simulate(tiny(), times, **settings)
    plain = simulate(tiny(), times, global_error=False, **settings)
    np.testing.assert_array_equal(run.dataset.f_train, plain.dataset.f_train)
    assert "f_train_error" not in plain.dataset
    assert plain.stats["error_gradients"] == 0
    assert run.stats["gradients"] == plain.stats["gradients"]
    for name in ("f_train_error", "loss_train_error"):
        assert run.dataset[name].dims == ("flow", "time")
        assert (run.dataset[name] > 0).all()
    assert 0 < run.stats["error_gradients"] < run.stats["gradients"]


@quickly
def test_errors_of_fixed_steps_are_those_of_richardson():
    """A linear model: the exact flow is a matrix exponential."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 3)), rng.standard_normal((4, 1))
    model = eqx.tree_at(
        lambda m: m.weight,
        eqx.nn.Linear(3, 1, use_bias=False, key=jax.random.key(0)),
        jnp.zeros((1, 3)),
    )
    problem, times = Problem(model, jnp.asarray(x), jnp.asarray(y)), np.array([0.2, 1])
    values, vectors = np.linalg.eigh(x @ x.T)
    left = np.exp(-times[:, None, None] * values[:, None])
    exact = y - vectors @ (left * (vectors.T @ y))
    settings = SETTINGS | {"controller": dfx.ConstantStepSize(), "dt0": 0.01}
    for solver in (dfx.Euler(), dfx.Heun()):
        run = simulate(problem, times, solver=solver, **settings)
        wrong = rms(np.asarray(run.dataset.f_train[0]) - exact)
        # The next term of the error is smaller by about dt0·λ, at most 0.2 here.
        np.testing.assert_allclose(run.dataset.f_train_error[0], wrong, rtol=0.2)


@quickly
def test_discrete_training_makes_no_error():
    flows = [Descent(0.01), Gradient()]
    run = simulate(tiny(), [1.0, 2.0], **SETTINGS | {"flows": flows})
    errors = run.dataset.f_train_error
    assert (errors.sel(flow="descent") == 0).all()
    assert (errors.sel(flow="gradient") > 0).all()


@quickly
def test_every_member_of_an_ensemble_has_its_errors():
    models = [product(size).model for size in (1e-1, 1e-3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)
    times = np.linspace(0.5, 12, 9)
    run = simulate(product(1e-1), times, ensemble=stacked, rtol=1e-4, **SETTINGS)
    for i, size in enumerate((1e-1, 1e-3)):
        found = np.asarray(run.dataset.f_train)[i, 0, :, 0, 0]
        wrong = np.abs(found - learned(2, 1.0, size, times))
        assert wrong.max() <= 3e-4
        assert wrong.max() <= 3 * float(run.dataset.f_train_error[i, 0].max())


@pytest.mark.parametrize("beside", [0.0, 1.0])
def test_errors_and_repeats_survive_interruptions(tmp_path, beside):
    problem, times = product(1e-5, beside), escape(1e-5)
    settings = SETTINGS | {"rtol": 1e-4, "throw": False}
    whole = simulate(problem, times, **settings)
    assert (whole.stats["rtol_used"] < 1e-4) is bool(beside)
    kept = settings | {"checkpoint": tmp_path, "segment_steps": 3}
    for steps in (5, 9, 16, 24, 40, 1000):
        run = simulate(problem, times, max_steps=steps, resume=steps > 5, **kept)
    for found in (run, Trajectory.load(tmp_path)):
        assert found.reason is Reason.COMPLETED
        for name in ("f_train", "f_train_error", "loss_train_error"):
            np.testing.assert_array_equal(found.dataset[name], whole.dataset[name])
        for name in ("error_over_tolerance", "kernel_builds"):
            assert found.stats[name] == whole.stats[name]
        # Where a level is given up depends on where segments end, its cost as well.
        spent = found.stats["error_gradients"] / whole.stats["error_gradients"]
        assert 0.7 < spent <= 1


CASES = {
    "plateau 1e-2": (lambda: product(1e-2), escape(1e-2), None),
    "plateau 1e-5": (lambda: product(1e-5), escape(1e-5), None),
    "tanh": (tiny, log_times(1e-2, 10, 9), None),
    "tanh, fast": (lambda: tiny(jax.random.key(1)), log_times(1e-2, 40, 9), None),
    "cross-entropy": (
        lambda: Problem(
            tiny().model, tiny().x, jnp.asarray([0, 1, 0, 1, 1, 0]), loss=CrossEntropy()
        ),
        log_times(1e-1, 1e3, 9),
        None,
    ),
    "heavy ball": (tiny, np.linspace(1, 15, 15), 0.5),
}
SOLVERS = {
    "auto": "auto",
    "Tsit5": dfx.Tsit5(),
    "Chebyshev": Chebyshev(),
    "KernelImplicit": KernelImplicit(),
    "KernelExponential": KernelExponential(),
}


@pytest.mark.slow
@quickly
@pytest.mark.filterwarnings("ignore:The outputs may be wrong")
def test_the_truth_is_within_three_estimates():
    """In at least 95 % of all problems, solvers and tolerances."""
    inside, missed = [], []
    for name, (make, times, damping) in CASES.items():
        problem = make()
        exact = integrate(problem, times, damping)
        flows = [Gradient() if damping is None else Momentum(damping)]
        for solver_name, solver in SOLVERS.items():
            if damping is not None and solver_name == "Chebyshev":
                continue
            for rtol in (1e-2, 1e-4, 1e-6):
                settings = SETTINGS | {"flows": flows, "solver": solver}
                run = simulate(problem, times, rtol=rtol, atol=0.01 * rtol, **settings)
                wrong, estimated = wrong_by(run, exact, problem, rtol)
                inside.append(wrong.max() <= 3 * estimated.max())
                if not inside[-1]:
                    missed.append((name, solver_name, rtol, wrong, estimated))
    assert len(inside) >= 60
    assert np.mean(inside) >= 0.95, missed
