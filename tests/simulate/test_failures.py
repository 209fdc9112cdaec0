"""What cannot be done is refused at once; what fails keeps what it computed."""

import diffrax as dfx
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow import measures
from ntkflow.flows import Gradient, Linearized, Residual
from ntkflow.problem import Problem
from ntkflow.simulate import (
    Reason,
    SimulationError,
    Trajectory,
    log_times,
    simulate,
)
from ntkflow.simulate._plan import check_kinds, plan_solves
from ntkflow.simulate._reading import LOSS_FACTOR, Reference, has_diverged
from ntkflow.simulate._simulate import check_switches
from ntkflow.simulate._tally import Tally
from ntkflow.simulate._work import failure
from tests.simulate.problems import dense_kernel, tiny

pytestmark = pytest.mark.usefixtures("quickly_compiled")

TIMES = log_times(1e-2, 5, 8)


def test_a_step_beyond_the_stability_limit_ends_as_diverged(tmp_path):
    problem = tiny()
    limit = 2 / np.linalg.eigvalsh(dense_kernel(problem))[-1]
    settings = {
        "flows": [Linearized()],
        "measures": (),
        "solver": dfx.Euler(),
        "controller": dfx.ConstantStepSize(),
        "progress": False,
    }
    times = [0.5, 100.0, 20000.0]
    stable = simulate(problem, times[:2], dt0=0.95 * limit, **settings)
    assert stable.reason is Reason.COMPLETED
    with pytest.raises(SimulationError, match="became infinite") as caught:
        simulate(problem, times, dt0=1.3 * limit, checkpoint=tmp_path, **settings)
    run = caught.value.trajectory
    assert run.reason is Reason.DIVERGED
    assert 1 <= run.dataset.sizes["time"] < 3
    assert np.isfinite(run.dataset.f_train).all()
    kept = Trajectory.load(tmp_path).dataset
    np.testing.assert_array_equal(kept.f_train, run.dataset.f_train)


def test_a_blow_up_in_finite_time_ends_as_step_underflow():
    base = tiny()
    problem = Problem(base.model, base.x, base.y, loss=lambda f, y: -jnp.sum(f**4))
    run = simulate(
        problem,
        TIMES,
        flows=[Gradient()],
        measures=(),
        throw=False,
        progress=False,
    )
    assert run.reason is Reason.STEP_UNDERFLOW
    assert run.dataset.sizes["time"] >= 1
    assert run.result == dfx.RESULTS.dt_min_reached
    assert np.isfinite(run.dataset.f_train).all()


def test_too_few_steps_end_as_max_steps():
    run = simulate(
        tiny(),
        TIMES,
        flows=[Gradient()],
        measures=(),
        max_steps=5,
        throw=False,
        progress=False,
    )
    assert run.reason is Reason.MAX_STEPS
    assert run.stats["steps"] == 5
    assert "max_steps" in run.reason.message


@pytest.mark.parametrize(
    ("start", "loss", "diverged"),
    [
        (2.0, 1.9 * LOSS_FACTOR, False),
        (2.0, 2.1 * LOSS_FACTOR, True),
        (2.0, np.inf, True),
        (2.0, np.nan, True),
        (2.0, -np.inf, True),
        (2.0, -2.1 * LOSS_FACTOR, False),  # it falls
        (0.0, 1.0, False),
        (np.inf, np.inf, False),  # as it was at the start
        (np.nan, np.nan, False),
    ],
)
def test_divergence_is_told_by_the_loss(start, loss, diverged):
    reference = Reference({}, {}, [], [], jnp.asarray(start), {})
    record = {"f_train/a": np.array(1e9), "loss_train/a": np.asarray(1.0)}
    assert not has_diverged(record, reference)
    record["loss_train/b"] = np.asarray(loss)
    assert has_diverged(record, reference) is diverged


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ts": [1.0, 0.5]}, "ts must increase"),
        ({"ts": [1.0, 1.0]}, "ts must increase"),
        ({"ts": [-1.0, 1.0]}, "not negative"),
        ({"ts": [0.0]}, "end after zero"),
        ({"ts": [1.0, np.nan]}, "finite"),
        ({"ts": np.ones((2, 2))}, "vector of save times"),
        ({"rtol": 1e-16}, "below what float64 can hold"),
        ({"atol": 0.0}, "must be positive"),
        ({"solver": "rk4"}, "got the text 'rk4'"),
        ({"solver": {"gradeint": dfx.Tsit5()}}, "Did you mean 'gradient'"),
        ({"solver": {"residual_evolving": dfx.Dopri8()}}, "share a solve"),
        ({"solver": dfx.Euler()}, "no error estimate"),
        ({"controller": dfx.ConstantStepSize()}, "needs its step"),
        ({"controller": dfx.StepTo(jnp.array([0.0, 5.0]))}, "StepTo"),
        ({"flows": []}, "flows is empty"),
        ({"flows": [Gradient(), Gradient()]}, "given twice"),
        ({"flows": [Residual("frozen")]}, "add nf.flows.Gradient"),
        ({"measures": [measures.LinearizationGap()]}, "add nf.flows.Linearized"),
        ({"measures": [measures.Spectrum(3), measures.Modes(2)]}, "the same k"),
        ({"measures": [measures.Alignment(), measures.Alignment()]}, "once"),
        ({"resume": True}, "needs checkpoint="),
        ({"segment_steps": 0}, "at least 1"),
        ({"ensemble": jnp.ones(3)}, "leading axis"),
    ],
)
def test_bad_input_is_refused_before_any_work(change, message):
    given = {
        "ts": TIMES,
        "flows": [Gradient(), Residual("evolving")],
        "measures": [measures.KernelDrift()],
        "progress": False,
    } | change
    with pytest.raises(ValueError, match=message):
        simulate(tiny(), **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((tiny().model, None, None), r"nf\.Problem\(model, x, y\).*got a MLP"),
        ((tiny(), Gradient(), None), r"flows must be a list: flows=\[Gradient\(\)\]"),
        ((tiny(), None, measures.KernelDrift()), "measures must be a list"),
    ],
)
def test_other_kinds_of_things_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        check_kinds(*given)


def test_switches_are_true_or_false():
    check_switches(dense=True, progress=np.bool_(False))
    for value in ("no", None, 1):
        with pytest.raises(ValueError, match=f"throw must be .* got {value!r}"):
            check_switches(dense=True, throw=value)


def test_float32_tolerances_have_their_own_reach():
    with pytest.raises(ValueError, match="float32 can hold"):
        simulate(tiny(dtype=jnp.float32), TIMES, rtol=1e-7)


def test_log_times_needs_an_increasing_positive_range():
    for bad in ((0.0, 1.0, 5), (2.0, 1.0, 5), (1.0, 2.0, 1)):
        with pytest.raises(ValueError, match="0 < first < last"):
            log_times(*bad)


def test_solves_that_fail_alike_are_explained_once():
    planned = plan_solves(
        [Gradient(), Linearized()],
        tiny(),
        solver={"gradient": dfx.Dopri5(), "linearized": dfx.Tsit5()},
        controller=None,
        dt0=None,
        rtol=1e-4,
        atol=1e-6,
        events=(),
        dense_steps=0,
    )
    assert len(planned) == 2
    tallies = [Tally.zeros(1) for _ in planned]
    for tally in tallies:
        tally.code[:] = Reason.MAX_STEPS
    said = failure(list(zip(planned, tallies, strict=True)))
    assert said.count("The solver took max_steps steps") == 1
    assert "gradient" in said.split(":")[0]
    assert "linearized" in said.split(":")[0]
    tallies[1].code[:] = Reason.DIVERGED
    said = failure(list(zip(planned, tallies, strict=True)))
    assert "The flow diverged" in said
    assert "The solver took max_steps steps" in said
