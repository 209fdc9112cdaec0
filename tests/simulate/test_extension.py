"""A run that is extended to later times is the run that was asked for at once."""

import diffrax as dfx
import equinox as eqx
import jax
import numpy as np
import pytest
import xarray as xr

from ntkflow import measures
from ntkflow.flows import Descent, Gradient, Linearized, Residual
from ntkflow.models import MLP
from ntkflow.simulate import (
    DriftAbove,
    LossBelow,
    Reason,
    Trajectory,
    _auto,
    _plan,
    log_times,
    simulate,
)
from ntkflow.simulate._forecast import CHEBYSHEV, EXPLICIT
from ntkflow.solvers import Chebyshev, Explicit
from tests.simulate.problems import tiny

pytestmark = [
    pytest.mark.usefixtures("quickly_compiled"),
    # Claims of bits hold at any accuracy.
    pytest.mark.filterwarnings("ignore:The outputs may be wrong"),
]

TIMES = log_times(1e-2, 5, 7)
MODELS = eqx.filter_vmap(lambda key: MLP(3, 2, width=8, depth=1, key=key))(
    jax.random.split(jax.random.key(0), 2)
)
RUNS = {
    "auto": {"rtol": 1e-3},
    "descent": {"flows": [Descent(0.05)], "ts": np.linspace(0.3, 1.93, 7)},
    "fixed": {
        "solver": dfx.Heun(),
        "dt0": 0.13,
        "controller": dfx.ConstantStepSize(),
    },
    "event": {"solver": dfx.Dopri8(), "events": [LossBelow(0.25)]},
    "costly event": {"solver": dfx.Dopri8(), "events": [DriftAbove(0.15)]},
    "explicit": {
        "solver": dfx.Dopri8(),
        "flows": [Gradient(), Residual("evolving")],
        "measures": [measures.KernelDrift(), measures.KernelStep()],
    },
    "apart": {
        "flows": [Gradient(), Linearized()],
        "measures": [measures.LinearizationGap()],
        "solver": {"gradient": dfx.Dopri8(), "linearized": dfx.Tsit5()},
    },
}


@pytest.fixture
def changes(monkeypatch):
    """`auto` takes Chebyshev at its first decision."""
    monkeypatch.setattr(_auto.Auto, "choose", lambda *_: CHEBYSHEV)
    methods = {EXPLICIT: Explicit(dfx.Dopri5()), CHEBYSHEV: Chebyshev()}
    monkeypatch.setattr(_plan, "_methods", lambda *args: methods)


def assert_same(one: Trajectory, other: Trajectory):
    xr.testing.assert_identical(one.dataset.drop_attrs(), other.dataset.drop_attrs())
    assert one.reason is other.reason
    for name, leaf in one.params.items():
        np.testing.assert_array_equal(leaf, other.params[name])


def given(kind):
    common = {"ts": TIMES, "flows": [Gradient()], "measures": (), "progress": False}
    return common | RUNS[kind]


@pytest.mark.usefixtures("changes")
@pytest.mark.parametrize("kind", RUNS)
def test_an_extended_run_is_the_run_to_its_end(kind, tmp_path):
    settings = given(kind)
    times = settings.pop("ts")
    whole = simulate(tiny(), times, **settings)
    settings |= {"checkpoint": tmp_path, "resume": True}
    simulate(tiny(), times[:2], **settings)
    simulate(tiny(), times[:6], **settings)
    extended = simulate(tiny(), times, **settings)
    assert_same(whole, extended)
    assert_same(whole, Trajectory.load(tmp_path))
    if kind == "costly event":
        # It is seen after a segment that goes on beyond it.
        return
    for name in ("steps", "rejected", "gradients", "solver"):
        assert extended.stats[name] == whole.stats[name], name


def test_an_extended_ensemble_is_the_one_to_its_end_but_for_rounding(tmp_path):
    """Mapped over members, a step's end is computed twice, and may be rounded twice."""
    settings = given("apart") | {"flows": [Gradient()], "measures": ()}
    settings |= {"solver": dfx.Tsit5(), "ensemble": MODELS, "rtol": 1e-3}
    times = settings.pop("ts")
    whole = simulate(tiny(), times, **settings).dataset
    settings |= {"checkpoint": tmp_path, "resume": True}
    simulate(tiny(), times[:6], **settings)
    extended = simulate(tiny(), times, **settings).dataset
    np.testing.assert_allclose(extended.f_train, whole.f_train, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("changes")
def test_an_extension_may_be_cut_and_resumed(tmp_path):
    settings = given("auto")
    times = settings.pop("ts")
    whole = simulate(tiny(), times, **settings)
    kept = settings | {"checkpoint": tmp_path, "throw": False, "resume": True}
    simulate(tiny(), times[:4], **kept)
    before = Trajectory.load(tmp_path)
    for stop in (7, 8, 9, 1000):
        run = simulate(tiny(), times, max_steps=stop, **kept)
        loaded = Trajectory.load(tmp_path).dataset
        count = run.dataset.sizes["time"]
        part = whole.dataset.isel(time=slice(count)).drop_attrs()
        xr.testing.assert_identical(part, run.dataset.drop_attrs())
        xr.testing.assert_identical(part, loaded.drop_attrs())
    assert before.reason is Reason.COMPLETED
    assert whole.dataset.equals(Trajectory.load(tmp_path).dataset)


@pytest.mark.usefixtures("changes")
def test_auto_that_would_have_taken_another_solver_begins_anew(tmp_path, monkeypatch):
    settings = given("auto")
    times = settings.pop("ts")
    kept = settings | {"checkpoint": tmp_path}

    def by_end(self, log, *_):
        return CHEBYSHEV if self.end > times[-2] else log.name

    monkeypatch.setattr(_auto.Auto, "choose", by_end)
    whole = simulate(tiny(), times, **settings)
    assert CHEBYSHEV in whole.stats["solver"]
    simulate(tiny(), times[:-1], **kept)
    assert_same(whole, simulate(tiny(), times, resume=True, **kept))


def test_a_run_that_was_repeated_is_extended(tmp_path):
    settings = given("auto") | {"rtol": 1e-6, "atol": 1e-13}
    times = settings.pop("ts")
    whole = simulate(tiny(), times, **settings)
    kept = settings | {"checkpoint": tmp_path}
    simulate(tiny(), times[:4], **kept)
    assert_same(whole, simulate(tiny(), times, resume=True, **kept))


def test_times_that_do_not_begin_those_of_the_run_are_refused(tmp_path):
    settings = given("explicit") | {"measures": (), "checkpoint": tmp_path}
    settings.pop("ts")
    simulate(tiny(), TIMES[:4], **settings)
    with pytest.raises(ValueError, match="resume=True"):
        simulate(tiny(), TIMES, **settings)
    for times in (TIMES[:3], TIMES[1:], [*TIMES[:3], 1.0]):
        with pytest.raises(ValueError, match="Later ones can be added"):
            simulate(tiny(), times, resume=True, **settings)
