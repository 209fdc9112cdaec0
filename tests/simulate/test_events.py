import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from ntkflow import measures
from ntkflow.flows import Gradient, Linearized, Residual
from ntkflow.problem import Problem
from ntkflow.simulate import (
    DriftAbove,
    LossBelow,
    Reason,
    SteadyState,
    Trajectory,
    log_times,
    simulate,
)
from tests.simulate.problems import tiny

pytestmark = pytest.mark.usefixtures("quickly_compiled")

TIMES = log_times(1e-2, 20, 12)
SETTINGS = {"rtol": 1e-7, "atol": 1e-9, "progress": False}


def assert_same(one, other):
    xr.testing.assert_identical(one.drop_attrs(), other.drop_attrs())


def fine(problem, measured=()):
    """The same run, saved densely around where things happen."""
    return simulate(
        problem, np.linspace(0.02, 6, 300), flows=[Gradient()], measures=measured,
        **SETTINGS,
    ).dataset  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_loss_below_stops_where_the_loss_crosses(dtype):
    problem = tiny(dtype=dtype)
    rtol = 1e-7 if dtype == np.float64 else 1e-5
    run = simulate(
        problem,
        TIMES,
        flows=[Gradient()],
        measures=(),
        events=[SteadyState(1e-9), LossBelow(0.5)],
        **(SETTINGS | {"rtol": rtol, "atol": rtol / 100}),
    )
    assert run.reason is Reason.EVENT
    assert "LossBelow" in run.stats["stopped_by"]
    stop = run.stats["stopped_at"]
    assert run.stats["t_reached"] == stop
    assert list(run.dataset.time) == [t for t in TIMES if t < stop] + [stop]
    assert list(np.flatnonzero(run.dataset.stopped)) == [run.dataset.sizes["time"] - 1]
    known = run.dataset.drop_vars(["f_train_error", "loss_train_error"])
    assert not known.isnull().any().to_array().any()
    # The event's own state: integrate to the stop and read the loss there.
    at_stop = simulate(
        problem,
        [stop],
        flows=[Gradient()],
        measures=(),
        **(SETTINGS | {"rtol": rtol, "atol": rtol / 100}),
    )
    start = problem.objective(problem.params)
    ratio = float(at_stop.dataset.loss_train[0, -1] / start)
    assert ratio == pytest.approx(0.5, rel=100 * rtol)
    # The run's own state there, and its model.
    assert float(run.dataset.loss_train[0, -1] / start) == pytest.approx(0.5, rel=rtol)
    outputs = jax.vmap(run.model)(problem.x)
    np.testing.assert_allclose(
        outputs, run.dataset.f_train[0, -1], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("event", [LossBelow(0.5), DriftAbove(0.1)])
@pytest.mark.parametrize("first", [1e-2, 10.0])
def test_a_stop_is_kept_resumed_or_not(event, first, tmp_path):
    """Also one before the first save time, after which nothing else is known."""
    problem = tiny()
    settings = SETTINGS | {
        "ts": log_times(first, 20, 12),
        "flows": [Gradient(), Residual("evolving")],
        "measures": [measures.KernelDrift()],
        "events": [event],
    }
    run = simulate(problem, **settings)
    stop = run.stats["stopped_at"]
    times = run.dataset.time
    assert times[-1:].values.tolist() == [stop]
    assert (times.size == 1) == (first > stop)
    if isinstance(event, DriftAbove):
        assert run.dataset.kernel_drift[-1] == pytest.approx(0.1, rel=1e-4)
    outputs = np.asarray(jax.vmap(run.model)(problem.x))
    for flow in range(2):
        np.testing.assert_allclose(outputs, run.dataset.f_train[flow, -1], atol=1e-6)
    kept = settings | {"checkpoint": tmp_path, "throw": False}
    simulate(problem, max_steps=3, **kept)
    resumed = simulate(problem, resume=True, **kept)
    again = simulate(problem, resume=True, **kept)
    loaded = Trajectory.load(tmp_path, like=problem.model)
    for other in (resumed, again, loaded):
        assert_same(run.dataset, other.dataset)
        assert eqx.tree_equal(run.model, other.model)
    resumed.save(tmp_path / "saved")
    saved = Trajectory.load(tmp_path / "saved", like=problem.model)
    assert_same(run.dataset, saved.dataset)
    assert eqx.tree_equal(run.model, saved.model)


def test_flows_of_other_solves_are_unknown_at_a_stop():
    run = simulate(
        tiny(),
        TIMES,
        flows=[Gradient(), Linearized()],
        measures=[measures.LinearizationGap()],
        events=[LossBelow(0.5)],
        solver={"linearized": dfx.Tsit5()},
        **SETTINGS,
    )
    at_stop = run.dataset.isel(time=-1)
    assert np.isfinite(at_stop.f_train.sel(flow="gradient")).all()
    assert np.isnan(at_stop.f_train.sel(flow="linearized")).all()
    assert np.isnan(at_stop.linearization_gap)
    before = run.dataset.isel(time=slice(-1))
    assert np.isfinite(before.f_train).all()
    assert np.isfinite(before.linearization_gap).all()


def test_a_run_cut_before_its_first_save_time_does_not_blame_the_flows():
    run = simulate(
        tiny(), TIMES + 1.0, flows=[Gradient()], measures=(), max_steps=1, throw=False,
        **SETTINGS,
    )  # fmt: skip
    with pytest.raises(ValueError, match="gradient ended before the first save time"):
        _ = run.model


def test_drift_above_is_located_between_save_times(capfd, tmp_path):
    problem = tiny()
    run = simulate(
        problem,
        TIMES,
        flows=[Gradient(), Residual("evolving")],
        measures=[measures.KernelDrift()],
        events=[DriftAbove(0.1)],
        checkpoint=tmp_path,
        **(SETTINGS | {"progress": True}),
    )
    assert "costly" in capfd.readouterr().err
    assert run.reason is Reason.EVENT
    stop = run.stats["stopped_at"]
    assert list(run.dataset.time) == [t for t in TIMES if t < stop] + [stop]
    assert (run.dataset.kernel_drift[:-1] < 0.1).all()
    assert run.dataset.kernel_drift[-1] == pytest.approx(0.1, rel=1e-4)
    drift = fine(problem, [measures.KernelDrift()]).kernel_drift
    crossing = float(np.interp(0.1, drift.values, drift.time.values))
    # Linear interpolation between times 0.02 apart.
    assert stop == pytest.approx(crossing, abs=2e-3)
    # The segment in which it was found went on to the end.
    for kept in (run, Trajectory.load(tmp_path)):
        assert kept.stats["t_reached"] == kept.dataset.attrs["t_reached"] == stop


def test_an_event_that_holds_at_the_start_is_refused():
    with pytest.raises(ValueError, match="holds already at t = 0"):
        simulate(tiny(), TIMES, events=[LossBelow(2.0)], **SETTINGS)
    still = jax.tree.map(jnp.zeros_like, tiny().params)
    resting = Problem(eqx.combine(still, tiny().model), tiny().x, 0 * tiny().y)
    with pytest.raises(ValueError, match="at rest"):
        simulate(resting, TIMES, events=[LossBelow(0.5)], **SETTINGS)
    with pytest.raises(ValueError, match="must be positive"):
        DriftAbove(-1.0)
    with pytest.raises(ValueError, match=r"add nf\.flows\.Gradient"):
        simulate(
            tiny(), TIMES, flows=[Residual("frozen")], measures=(),
            events=[LossBelow(0.5)], **SETTINGS,
        )  # fmt: skip
