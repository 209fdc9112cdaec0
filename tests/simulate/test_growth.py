"""The growth of errors on plateaus: measured, reported and warned of."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.flows import Gradient, Momentum
from ntkflow.models import DeepLinear
from ntkflow.problem import CrossEntropy, Problem
from ntkflow.simulate import Trajectory, log_times, simulate
from ntkflow.solvers import Chebyshev, KernelExponential
from tests.simulate.problems import tiny

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

quickly = pytest.mark.usefixtures("quickly_compiled")
plateau = pytest.mark.filterwarnings("ignore:Errors made on the plateau")
SETTINGS = {
    "flows": [Gradient()],
    "measures": (),
    "progress": False,
    "global_error": False,
}


def logistic(start: float, dtype: object = jnp.float64) -> Problem:
    """f = ab with a = b and target 1: u̇ = 2u(1 − u), u(0) = `start`."""
    model = DeepLinear(1, 1, width=1, depth=1, key=jax.random.key(0), dtype=dtype)
    weights = tuple(jnp.full((1, 1), start**0.5, dtype) for _ in range(2))
    model = eqx.tree_at(
        lambda m: (m.layers[0].weight, m.layers[1].weight), model, weights
    )
    one = jnp.ones((1, 1), dtype)
    return Problem(model, one, one)


def stepwise(strengths: list[float], w_std: float) -> Problem:
    """Two-layer linear network of small weights, which learns its modes in turn."""
    rng = np.random.default_rng(0)
    x = np.linalg.qr(rng.standard_normal((8, 3)))[0]
    y = x[:, :2] * np.array(strengths)
    model = DeepLinear(3, 2, width=4, depth=1, w_std=w_std, key=jax.random.key(0))
    return Problem(model, x, y)


def rms(f: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean(f**2, axis=(1, 2)))


@quickly
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("start", [1e-2, 1e-3])
def test_growth_is_the_ratio_of_speeds(start, dtype):
    """Slowest at the start, 2u₀(1 − u₀); fastest at u = 1/2, at log(1/u₀ − 1)/2."""
    with pytest.warns(UserWarning, match="have grown"):
        run = simulate(logistic(start, dtype), [20.0], rtol=3e-6, **SETTINGS)
    grown = 0.25 / (start * (1 - start))
    # A mean over a step h falls short of the largest by the factor tanh(h/2)/(h/2), and
    # by less than a tenth for h < 1.1; steps here are below 1.
    assert 0.9 * grown <= run.stats["error_growth"] <= 1.01 * grown
    when = np.log(1 / start - 1) / 2
    assert abs(run.stats["error_growth_at"] - when) < 0.4
    assert run.dataset.attrs["error_growth"] == run.stats["error_growth"]


@quickly
@plateau
def test_a_perturbation_along_the_flow_grows_as_reported():
    problem = stepwise([2.0, 1.9], 0.1)
    times = np.linspace(0.02, 5, 250)
    settings = SETTINGS | {"solver": dfx.Dopri8(), "rtol": 1e-10, "atol": 1e-12}

    def outputs(problem):
        found = simulate(problem, times, **settings)
        return found, np.asarray(found.dataset.f_train[0])

    whole, f = outputs(problem)
    slowest = int(np.argmin(rms(np.gradient(f, times, axis=0))[:100]))
    model = whole.model_at(slowest)
    here = Problem(model, problem.x, problem.y)
    shift = 1e-5
    moved = jax.tree.map(
        lambda p, g: p - shift * problem.time_scale * g,
        here.params,
        here.gradient(here.params),
    )
    _, right = outputs(here)
    _, wrong = outputs(here.with_parts(moved, here.static))
    error = rms(wrong - right)
    at_first = rms((wrong - right)[:1])
    # The first save time is one of 250 past the perturbation.
    assert error.max() / at_first == pytest.approx(whole.stats["error_growth"], rel=0.1)


@quickly
@pytest.mark.parametrize(
    ("solver", "dtype"),
    [(dfx.Tsit5(), jnp.float32), (KernelExponential(), jnp.float64)],
)
def test_contractive_runs_are_not_warned_of(solver, dtype):
    """Far past convergence, where steps differ by errors alone."""
    settings = SETTINGS | {"solver": solver, "rtol": 1e-4, "atol": 1e-6}
    run = simulate(tiny(dtype=dtype), log_times(1e-2, 100, 3), **settings)
    assert 1 <= run.stats["error_growth"] < 2


@quickly
def test_cross_entropy_and_the_heavy_ball_are_not_warned_of():
    base = tiny()
    labels = jnp.argmax(base.y, axis=1)
    problem = Problem(base.model, base.x, labels, loss=CrossEntropy())
    run = simulate(problem, [100.0], rtol=1e-3, **SETTINGS)
    assert run.stats["error_growth"] < 2
    settings = SETTINGS | {"flows": [Momentum()]}
    run = simulate(stepwise([2.0, 1.0], 0.1), [3.0], rtol=1e-3, **settings)
    assert run.stats["error_growth"] == 1


@quickly
@plateau
@pytest.mark.parametrize(
    "solver", [pytest.param(dfx.Dopri5(), marks=pytest.mark.slow), Chebyshev()]
)
def test_escapes_from_plateaus_are_at_the_right_time(solver):
    """Outputs within three tolerances at the same times, where errors grow 870-fold."""
    problem = stepwise([3.0, 1.0], 0.02)
    times, rtol = np.linspace(0.05, 12, 240), 1e-3
    exact = simulate(
        problem, times, solver=dfx.Dopri8(), rtol=1e-10, atol=1e-12, **SETTINGS
    )
    run = simulate(
        problem, times, solver=solver, rtol=rtol, atol=0.01 * rtol, **SETTINGS
    )
    assert run.stats["error_growth"] > 500
    wrong = np.asarray(run.dataset.f_train[0] - exact.dataset.f_train[0])
    size = np.sqrt(np.mean(np.asarray(problem.y) ** 2))
    assert rms(wrong).max() <= 3 * rtol * size


@plateau
def test_growth_does_not_depend_on_segments_and_interruptions(tmp_path):
    problem, times = stepwise([3.0, 1.0], 0.1), [1.0, 4.0]
    settings = SETTINGS | {"rtol": 1e-3, "throw": False}

    def growth(run):
        assert run.stats["error_growth"] > 10
        return run.stats["error_growth"], run.stats["error_growth_at"]

    whole = simulate(problem, times, **settings)
    pieces = simulate(problem, times, segment_steps=3, **settings)
    kept = settings | {"checkpoint": tmp_path, "segment_steps": 2}
    simulate(problem, times, max_steps=8, **kept)
    resumed = simulate(problem, times, resume=True, **kept)
    again = simulate(problem, times, resume=True, **kept)
    for run in (pieces, resumed, again, Trajectory.load(tmp_path)):
        assert growth(run) == growth(whole)


@quickly
@plateau
def test_of_an_ensemble_the_largest_growth_is_told():
    problem = stepwise([3.0, 1.0], 0.1)
    small = jax.tree.map(
        lambda leaf: 0.5 * leaf if eqx.is_inexact_array(leaf) else leaf, problem.model
    )
    models = [problem.model, small]
    stacked = jax.tree.map(
        lambda *leaves: jnp.stack(leaves) if eqx.is_array(leaves[0]) else leaves[0],
        *models,
    )
    settings = SETTINGS | {"rtol": 1e-3}
    both = simulate(problem, [4.0], ensemble=stacked, **settings)
    # The smaller its weights at the start, the longer a model stays on its plateau.
    alone = simulate(Problem(small, problem.x, problem.y), [4.0], **settings)
    largest = alone.stats["error_growth"]
    assert both.stats["error_growth"] == pytest.approx(largest, rel=1e-6)
    assert largest > 2 * simulate(problem, [4.0], **settings).stats["error_growth"]


@quickly
def test_a_run_that_reports_says_it_there(capsys):
    settings = SETTINGS | {"progress": True}
    simulate(logistic(1e-2), [20.0], rtol=1e-5, **settings)
    said = capsys.readouterr().err
    assert "Warning: Errors made on the plateau before t ≈" in said
