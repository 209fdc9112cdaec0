import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow import measures
from ntkflow.flows import Gradient, Residual
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
    assert list(run.dataset.time) == [t for t in TIMES if t <= stop]
    assert not run.dataset.isnull().any().to_array().any()
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
    assert list(run.dataset.time) == [t for t in TIMES if t < stop]
    assert (run.dataset.kernel_drift < 0.1).all()
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
