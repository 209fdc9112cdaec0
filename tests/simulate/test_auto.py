"""`solver="auto"`: what it decides, and that deciding leaves no trace."""

import diffrax as dfx
import equinox as eqx
import jax
import numpy as np
import pytest
import xarray as xr

from ntkflow.flows import Descent, Gradient, Modified, Momentum, Residual
from ntkflow.models import MLP
from ntkflow.problem import CrossEntropy, Problem
from ntkflow.simulate import _auto, _integrate, _plan, log_times, simulate
from ntkflow.simulate._auto import Auto, Log, Seen
from ntkflow.simulate._forecast import (
    CHEBYSHEV,
    EXPLICIT,
    EXPONENTIAL,
    IMPLICIT,
    ROCK4,
    Prices,
)
from ntkflow.simulate._integrate import prepare
from ntkflow.simulate._plan import plan_solves
from ntkflow.solvers import Chebyshev, Explicit
from tests.simulate.problems import tiny

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

ALL = (EXPLICIT, CHEBYSHEV, ROCK4, IMPLICIT, EXPONENTIAL)
NARROW = Prices(5.6e6, 33.0, 152.0, 1107.0, 1, 1)
MANY = Prices(1e7, 68.0, 680.0, 4960.0, 1, 1)
WIDE = Prices(2.3e8, 10.0, 3.7, 27.0, 1, 1)
TIMES = log_times(1e-2, 4, 9)
PLAN = {
    "solver": "auto",
    "controller": None,
    "dt0": None,
    "rtol": 1e-3,
    "atol": 1e-5,
    "events": (),
    "dense_steps": 0,
}
SETTINGS = {"flows": [Gradient()], "measures": (), "progress": False, "rtol": 1e-3}


def choose(stiffness, rtol, prices):
    """The choice after eight explicit steps of a run to t = 1, as far as they get."""
    log = Log()
    auto = Auto(ALL, 1.0, rtol, quadratic=True)
    seen = Seen(
        min(20 / stiffness, 0.5), 8, 8, stiffness, (48.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    )
    auto.note(log, seen)
    return auto.choose(log, seen, prices)


@pytest.mark.parametrize(
    ("stiffness", "rtol", "prices", "expected"),
    [
        (10.0, 1e-3, NARROW, EXPLICIT),
        (1.5e4, 1e-3, NARROW, CHEBYSHEV),
        (3e4, 1e-7, MANY, ROCK4),
        (1e6, 1e-3, NARROW, CHEBYSHEV),
        (1e5, 1e-3, WIDE, EXPONENTIAL),
    ],
)
def test_choice_is_the_cheapest_of_what_was_measured(stiffness, rtol, prices, expected):
    assert choose(stiffness, rtol, prices) == expected


def test_a_kernel_that_moves_is_left_to_the_implicit_solver():
    log = Log(EXPONENTIAL, since=8, t=0.01, kept=8, tried=True)
    auto = Auto(ALL, 1.0, 1e-3, quadratic=True)
    # Eight steps with a decomposition each, for a third of an e-fold.
    seen = Seen(0.014, 16, 16, 1e7, (32.0, 0.0, 64.0, 8.0, 8.0, 0.0))
    auto.note(log, seen)
    assert auto.choose(log, seen, MANY) == IMPLICIT


def test_a_change_that_saves_little_is_not_made():
    dear, cheap = NARROW, NARROW._replace(evaluation=1.2e6)
    assert choose(5e2, 1e-3, dear) == CHEBYSHEV
    assert choose(5e2, 1e-3, cheap) == EXPLICIT


def test_a_loss_that_may_flatten_has_to_stay_stiff_first():
    auto = Auto(ALL, 1.0, 1e-3, quadratic=False)
    log = Log()
    for i, step in enumerate((1e-5, 3e-4, 3e-4)):
        seen = Seen(log.t + 8 * step, 8 * (i + 1), 8 * (i + 1), 1e4, (0.0,) * 6)
        auto.note(log, seen)
        assert auto.stays_explicit(log) == (i < 2)
        log.turn(seen)


@pytest.mark.parametrize("power", [0.0, 0.7, 1.0])
def test_how_stiffness_falls_with_time_is_noticed(power):
    log, auto = Log(), Auto(ALL, 1.0, 1e-3, quadratic=True)
    for t in (1e-3, 4e-3, 9e-3):
        seen = Seen(t, 8, 8, 100.0 * t**-power, (0.0,) * 6)
        auto.note(log, seen)
        log.turn(seen)
    assert log.decay == pytest.approx(power, abs=1e-12)


def test_decisions_are_taken_often_at_first_and_rarely_later():
    log, due = Log(), []
    for _ in range(30):
        due.append(log.due)
        log.turn(Seen(0.0, log.due, log.due, 1.0, (0.0,) * 6))
    gaps = np.diff(due)
    assert due[0] == gaps[0] == 8
    assert (np.diff(gaps) >= 0).all()
    assert gaps[-1] > due[-1] // 6


@pytest.fixture
def eager(monkeypatch):
    """Changes solvers however little that saves, on problems of any size."""
    monkeypatch.setattr(_auto, "_WORTH", 0.0)


def only(monkeypatch, **methods):
    methods = {EXPLICIT: Explicit(dfx.Dopri5()), **methods}
    monkeypatch.setattr(_plan, "_methods", lambda *args: methods)


def stiff(model=None):
    base = tiny()
    return Problem(
        base.model if model is None else model,
        base.x,
        base.y,
        x_test=base.x_test,
        y_test=base.y_test,
        time_scale=1e3,
    )


def test_an_easy_run_stays_explicit():
    run = simulate(tiny(), TIMES, **SETTINGS)
    steps = run.stats["steps"]
    assert run.stats["solver"] == f"gradient: auto: {EXPLICIT} for {steps} steps"
    assert run.dataset.attrs["solver"] == run.stats["solver"]


@pytest.mark.usefixtures("eager", "quickly_compiled")
def test_a_stiff_run_keeps_its_tolerance_with_far_fewer_gradients():
    problem = stiff()
    run = simulate(problem, TIMES, **SETTINGS)
    tight = {"solver": dfx.Tsit5(), "rtol": 1e-6, "global_error": False}
    plain = simulate(problem, TIMES, **SETTINGS | tight)
    assert run.stats["gradients"] < plain.stats["gradients"] / 20
    assert f"{EXPLICIT} for 8 steps, " in run.stats["solver"]
    error = np.abs(run.dataset.f_train - plain.dataset.f_train).max()
    assert error < 3e-3 * np.sqrt(np.mean(np.asarray(problem.y) ** 2)) * 3


@pytest.mark.usefixtures("eager")
def test_changing_solvers_leaves_no_trace_of_segments_or_interruptions(
    monkeypatch, tmp_path
):
    only(monkeypatch, Chebyshev=Chebyshev())
    settings = SETTINGS | {"flows": [Gradient(), Residual("evolving")]}
    problem = stiff()
    whole = simulate(problem, TIMES, **settings)
    assert "Chebyshev" in whole.stats["solver"]
    pieces = simulate(problem, TIMES, segment_steps=3, **settings)
    for stop in (5, whole.stats["steps"] // 2):
        simulate(
            problem,
            TIMES,
            checkpoint=tmp_path / str(stop),
            max_steps=stop,
            throw=False,
            **settings,
        )
        resumed = simulate(
            problem, TIMES, checkpoint=tmp_path / str(stop), resume=True, **settings
        )
        for other in (pieces, resumed):
            xr.testing.assert_identical(
                whole.dataset.drop_attrs(), other.dataset.drop_attrs()
            )
            assert other.stats["solver"] == whole.stats["solver"]
            assert other.stats["gradients"] == whole.stats["gradients"]


@pytest.mark.usefixtures("eager", "quickly_compiled")
def test_a_solver_that_fails_gives_way(monkeypatch):
    only(monkeypatch, Chebyshev=Chebyshev(max_products=2))
    base = stiff()
    problem = Problem(base.model, base.x, base.y, time_scale=20.0)
    run = simulate(problem, TIMES, **SETTINGS)
    assert not run.reason.failed
    names = [part.split()[0] for part in run.stats["solver"].split(": ")[2].split(", ")]
    assert names == [EXPLICIT, CHEBYSHEV, EXPLICIT]
    plain = simulate(problem, TIMES, **SETTINGS | {"solver": dfx.Tsit5(), "rtol": 1e-7})
    error = np.abs(run.dataset.f_train - plain.dataset.f_train).max()
    assert error < 3e-2


@pytest.mark.usefixtures("eager", "fully_compiled")
def test_the_lanes_of_an_ensemble_wait_for_each_other_and_change_together(monkeypatch):
    only(monkeypatch, Chebyshev=Chebyshev())
    problem = stiff()
    keys = jax.random.split(jax.random.key(0), 2)
    models = eqx.filter_vmap(lambda key: MLP(3, 2, width=8, depth=1, key=key))(keys)
    whole = simulate(problem, TIMES, ensemble=models, **SETTINGS)
    assert "Chebyshev" in whole.stats["solver"]
    # Segments that end at every save time, which the lanes reach in different steps.
    monkeypatch.setattr(_integrate, "_WINDOW_BYTES", 1)
    pieces = simulate(problem, TIMES, ensemble=models, **SETTINGS)
    xr.testing.assert_identical(whole.dataset.drop_attrs(), pieces.dataset.drop_attrs())
    assert pieces.stats["solver"] == whole.stats["solver"]
    for i, key in enumerate(keys):
        lane = stiff(MLP(3, 2, width=8, depth=1, key=key))
        plain = simulate(lane, TIMES, **SETTINGS | {"solver": dfx.Tsit5()})
        error = np.abs(whole.dataset.f_train[i] - plain.dataset.f_train).max()
        assert error < 1e-2


@pytest.mark.usefixtures("eager", "quickly_compiled")
def test_dense_output_spans_a_change_of_solver(monkeypatch):
    only(monkeypatch, Chebyshev=Chebyshev())
    problem = stiff()
    run = simulate(problem, TIMES, dense=True, **SETTINGS)
    assert "Chebyshev" in run.stats["solver"]
    for i in (0, 4, -1):
        dense = run.evaluate(float(run.dataset.time[i]))["gradient"].train
        np.testing.assert_allclose(dense, run.dataset.f_train[0, i], atol=1e-9)


def test_a_solver_that_takes_over_goes_on_with_the_step_proposed():
    problem, end = stiff(), jax.numpy.asarray(4.0)
    planned = plan_solves([Gradient()], problem, **PLAN)[0]
    first, second = planned.solve, planned.choices[CHEBYSHEV]
    constants = prepare(first, problem)
    state = first.start(problem, constants, end)
    taken = second.take_over(problem, constants, state, end)
    assert taken.t == state.t
    assert taken.controller.tnext == state.controller.tnext > 0


def test_the_heavy_ball_has_no_choice():
    run = simulate(tiny(), TIMES, **SETTINGS | {"flows": [Momentum(1.0)]})
    assert run.stats["solver"] == f"momentum: auto: {EXPLICIT}"


@pytest.mark.usefixtures("eager", "quickly_compiled")
@pytest.mark.parametrize(
    ("descent", "chooses"),
    [(Descent(1e-5), True), (Descent(1e-7, momentum=0.9), False)],
)
def test_the_modified_flow_is_given_what_can_take_it(descent, chooses):
    flows = [Gradient(), Modified(descent)]
    run = simulate(stiff(), TIMES, **SETTINGS | {"flows": flows})
    assert not run.reason.failed
    assert ("from t =" in run.stats["solver"]) == chooses


@pytest.mark.usefixtures("eager", "quickly_compiled")
def test_cross_entropy_that_flattens_stays_explicit():
    base = tiny()
    labels = np.asarray([0, 1, 0, 1, 1, 0])
    problem = Problem(
        base.model, base.x, jax.numpy.asarray(labels), loss=CrossEntropy()
    )
    ts = log_times(1e-2, 300, 9)
    run = simulate(problem, ts, **SETTINGS)
    plain = simulate(problem, ts, **SETTINGS | {"solver": dfx.Dopri5()})
    assert run.stats["gradients"] <= 1.05 * plain.stats["gradients"]
