"""Members of an ensemble end at stop conditions of their own."""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from ntkflow import measures
from ntkflow.flows import Gradient, Linearized
from ntkflow.models import MLP
from ntkflow.plots import answers, overview
from ntkflow.problem import Problem
from ntkflow.simulate import (
    DriftAbove,
    LossBelow,
    Reason,
    Trajectory,
    _auto,
    _integrate,
    _plan,
    concat,
    simulate,
)
from ntkflow.simulate._forecast import CHEBYSHEV, EXPLICIT
from ntkflow.solvers import Chebyshev, Explicit
from tests.simulate.problems import tiny

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SCALES = np.array([0.5, 1.0, 2.0, 4.0])
FRACTION = 0.1
STOPS = np.log(1 / FRACTION) / (2 * SCALES**2)
"""Where the loss, which falls as exp(−2s²t), is a tenth of its start."""


class Line(eqx.Module):
    """f(x) = s·Wx, of which W is trained."""

    weight: Any
    scale: Any

    def __call__(self, x):
        return self.scale * self.weight @ x


def lines(dtype=np.float64, scales=SCALES):
    """The problem of one line, whose kernel is s²·1, and an ensemble of them."""
    spec = Line(weight=True, scale=False)

    def make(scale):
        return Line(jnp.zeros((1, 2), dtype), scale)

    x, y = jnp.eye(2, dtype=dtype), jnp.array([[1.0], [2.0]], dtype)
    problem = Problem(make(jnp.asarray(1, dtype)), x, y, trainable=spec)
    return problem, eqx.filter_vmap(make)(jnp.asarray(scales, dtype))


def run_lines(ts, dtype=np.float64, scales=SCALES, **options):
    problem, ensemble = lines(dtype, scales)
    rtol = 1e-8 if dtype == np.float64 else 1e-5
    given = {
        "flows": [Gradient()],
        "measures": (),
        "solver": dfx.Tsit5(),
        "events": [LossBelow(FRACTION)],
        "rtol": rtol,
        "atol": rtol / 100,
        "progress": False,
        "ensemble": ensemble,
    }
    return simulate(problem, ts, **(given | options))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_stops_are_where_the_closed_form_has_them(dtype, tmp_path):
    """One member does not stop, and one does before the first save time."""
    times, dense = np.linspace(0.2, 2.0, 7), dtype == np.float32
    run = run_lines(times, dtype, checkpoint=tmp_path / "kept", dense=dense)
    data, rtol = run.dataset, 1e-6 if dtype == np.float64 else 1e-4
    expected = np.where(times[-1] > STOPS, STOPS, np.nan)
    assert expected[-1] < times[0]
    np.testing.assert_allclose(data.stop_time, expected, rtol=rtol)
    by = ["", *[str(LossBelow(FRACTION))] * 3]
    assert data.stopped_by.values.tolist() == by
    assert data.attrs["member_reasons"] == ["completed", *["event"] * 3]
    assert run.reason is Reason.EVENT
    # Nothing behind a stop, and everything before it, the member that goes on included.
    np.testing.assert_array_equal(data.time, times)
    before = ~(times[None] > expected[:, None])
    loss = 2.5 * np.exp(-2 * SCALES[:, None] ** 2 * times)
    found = data.loss_train.isel(flow=0).values
    np.testing.assert_allclose(found, np.where(before, loss, np.nan), rtol=10 * rtol)
    at_stop = data.loss_train_at_stop.isel(flow=0)
    np.testing.assert_allclose(at_stop, [np.nan] + 3 * [0.25], rtol=10 * rtol)
    # The models are each at their own end.
    end = np.where(np.isnan(expected), times[-1], expected)
    weight = (1 - np.exp(-(SCALES**2) * end)) / SCALES
    found = run.model.weight[:, 0]
    np.testing.assert_allclose(found, np.outer(weight, [1, 2]), rtol=10 * rtol)
    if dense:
        later = run.evaluate(1.9)["gradient"].train
        assert np.isnan(later).any(axis=(1, 2)).tolist() == [False, True, True, True]
    run.save(tmp_path / "saved")
    like = lines(dtype)[1]
    for folder in ("kept", "saved"):
        loaded = Trajectory.load(tmp_path / folder, like=like)
        xr.testing.assert_identical(loaded.dataset.drop_attrs(), data.drop_attrs())
        assert eqx.tree_equal(loaded.model, run.model)
        for name in ("stopped_at", "stopped_by", "member_reasons"):
            assert loaded.stats[name] == run.stats[name], name


def test_integration_ends_with_the_last_stop():
    told = []
    times = [0.5, 1.0, 5.0, 1e5, 1e6]
    run = run_lines(times, on_segment=told.append, segment_steps=8)
    np.testing.assert_allclose(told[-1].t, STOPS, rtol=1e-6)
    # The first save time behind the last stop has the models at their ends.
    assert run.dataset.time.values.tolist() == times[:3]
    np.testing.assert_allclose(run.stats["t_reached"], STOPS[-1], rtol=1e-6)
    alone = run_lines([6.0])
    np.testing.assert_allclose(alone.dataset.stop_time, STOPS, rtol=1e-6)
    assert np.isnan(alone.dataset.loss_train).all()
    np.testing.assert_allclose(alone.model.weight, run.model.weight, rtol=1e-6)
    early = run.member(-1).dataset
    np.testing.assert_allclose(early.time, STOPS[-1:], rtol=1e-6)
    assert early.stopped.values.tolist() == [True]


def test_a_run_cut_between_stops_has_the_same_stops(tmp_path):
    times = np.linspace(0.2, 2.0, 7)
    whole = run_lines(times)
    kept = {"checkpoint": tmp_path, "throw": False, "resume": True, "segment_steps": 2}
    stopped = []
    for cut in [*range(2, 24, 3), 1000]:
        run = run_lines(times, max_steps=cut, **kept)
        stopped.append(int(np.isfinite(run.dataset.stop_time).sum()))
        loaded = Trajectory.load(tmp_path).dataset.drop_attrs()
        xr.testing.assert_identical(loaded, run.dataset.drop_attrs())
    assert (stopped[0], stopped[-1]) == (0, 3)
    cut_and_resumed = Trajectory.load(tmp_path)
    for other in (cut_and_resumed, run_lines(times, **kept)):
        xr.testing.assert_allclose(
            other.dataset.drop_attrs(), whole.dataset.drop_attrs(), rtol=1e-9, atol=1e-9
        )
    # Members that have stopped are not extended.
    longer = np.append(times, [3.0, 6.0])
    extended, whole = run_lines(longer, **kept), run_lines(longer)
    assert np.isfinite(extended.dataset.stop_time).all()
    xr.testing.assert_allclose(
        extended.dataset.drop_attrs(), whole.dataset.drop_attrs(), rtol=1e-9, atol=1e-9
    )


def test_members_that_do_not_stop_have_no_stop():
    run = run_lines([0.01, 0.02])
    plain = run_lines([0.01, 0.02], events=())
    assert run.reason is plain.reason is Reason.COMPLETED
    assert np.isnan(run.dataset.stop_time).all()
    assert np.isnan(run.dataset.loss_train_at_stop).all()
    assert run.dataset.attrs["member_reasons"] == ["completed"] * 4
    np.testing.assert_allclose(run.dataset.f_train, plain.dataset.f_train, rtol=1e-12)
    assert "stop_time" not in plain.dataset.coords
    with pytest.raises(ValueError, match=r"member\(4\).*has 4"):
        run.member(4)


def test_a_member_that_fails_leaves_the_stops_of_others():
    settings = {"max_steps": 8, "throw": False, "segment_steps": 3}
    settings |= {"controller": dfx.ConstantStepSize(), "dt0": 0.02}
    run = run_lines([0.1, 2.0], global_error=False, **settings)
    assert run.reason is Reason.MAX_STEPS
    reasons = run.dataset.attrs["member_reasons"]
    assert (reasons[0], reasons[-1]) == ("max_steps", "event")
    assert run.member(3).reason is Reason.EVENT
    assert run.member(0).reason is Reason.MAX_STEPS


def test_a_condition_that_holds_at_the_start_of_a_member_names_it():
    problem, ensemble = lines()
    ensemble = eqx.tree_at(lambda m: m.weight, ensemble, ensemble.weight.at[2].set(1.0))
    ensemble = eqx.tree_at(lambda m: m.scale, ensemble, jnp.ones(4))
    problem = eqx.tree_at(lambda p: p.y, problem, jnp.ones((2, 1)))
    with pytest.raises(ValueError, match="at t = 0 of member 2"):
        simulate(
            problem, [1.0], ensemble=ensemble, events=[LossBelow(0.5)], progress=False
        )


def make(key):
    return MLP(3, 2, width=8, depth=1, key=key)


KEYS = jax.random.split(jax.random.key(5), 3)
TIMES = np.array([0.01, 0.1, 0.3, 0.7, 1.4])


def network(key):
    base = tiny()
    return Problem(make(key), base.x, base.y, x_test=base.x_test, y_test=base.y_test)


@pytest.mark.parametrize("event", [LossBelow(0.5), DriftAbove(0.1)])
def test_members_end_where_single_runs_do(event, tmp_path):
    """Those found at save times also in a run that is cut and resumed, or extended."""
    given = {
        "flows": [Gradient(), Linearized()],
        "measures": [measures.KernelDrift()],
        "events": [event],
        "solver": {"gradient": dfx.Dopri5(), "linearized": dfx.Tsit5()},
        "global_error": False,
        "rtol": 1e-8,
        "atol": 1e-10,
        "progress": False,
    }
    ensemble = eqx.filter_vmap(make)(KEYS)
    given_many = given | {"ensemble": ensemble}
    run = simulate(network(KEYS[0]), TIMES, **given_many)
    for i, key in enumerate(KEYS):
        single = simulate(network(key), TIMES, **given)
        member = run.member(i)
        assert member.reason is single.reason
        for name in ("stopped_at", "stopped_by", "t_reached"):
            expected = single.stats[name]
            if isinstance(expected, float):
                expected = pytest.approx(expected, rel=1e-7)
            assert member.stats[name] == expected, name
        assert set(member.dataset.variables) == set(single.dataset.variables)
        xr.testing.assert_allclose(member.dataset, single.dataset, rtol=1e-5, atol=1e-7)
        assert member.dataset.attrs.keys() == single.dataset.attrs.keys()
        for a, b in zip(
            jax.tree.leaves(eqx.filter(member.model, eqx.is_array)),
            jax.tree.leaves(eqx.filter(single.model, eqx.is_array)),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)
    overview(run)
    assert "3 of 3 networks stopped at t = " in answers(run)[0]
    table = run.to_dataframe()
    assert table["loss_train"].isna().sum() == run.dataset.loss_train.isnull().sum()
    assert concat([run, run], "run").stop_time.dims == ("seed",)
    if not event.costly:
        return
    kept = given_many | {"checkpoint": tmp_path, "throw": False, "segment_steps": 2}
    kept |= {"resume": True}
    for cut in (2, 5, 8, 1000):
        resumed = simulate(network(KEYS[0]), TIMES[:-1], max_steps=cut, **kept)
        loaded = Trajectory.load(tmp_path).dataset.drop_attrs()
        xr.testing.assert_identical(loaded, resumed.dataset.drop_attrs())
    assert np.isfinite(resumed.dataset.stop_time).sum() == 2
    extended = simulate(network(KEYS[0]), TIMES, **kept)
    xr.testing.assert_allclose(
        extended.dataset.drop_attrs(), run.dataset.drop_attrs(), rtol=1e-6, atol=1e-9
    )


def test_what_auto_sees_does_not_depend_on_where_segments_end(monkeypatch):
    """A member that is found to have stopped, of a save time passed, is not seen."""
    monkeypatch.setattr(_auto.Auto, "choose", lambda *_: EXPLICIT)
    methods = {EXPLICIT: Explicit(dfx.Dopri5()), CHEBYSHEV: Chebyshev()}
    monkeypatch.setattr(_plan, "_methods", lambda *_: methods)
    look, seen = _integrate.Integration._seen, []

    def noted(self, members):
        seen[-1].append(members.tolist())
        return look(self, members)

    monkeypatch.setattr(_integrate.Integration, "_seen", noted)
    for steps in (2, 256):
        seen.append([])
        simulate(
            network(KEYS[0]),
            np.linspace(0.05, 1.0, 12),
            ensemble=eqx.filter_vmap(make)(KEYS),
            flows=[Gradient()],
            measures=(),
            events=[DriftAbove(0.1)],
            global_error=False,
            segment_steps=steps,
            rtol=1e-9,
            atol=1e-11,
            progress=False,
        )
    assert seen[0] == seen[1]
    assert [all(members) for members in seen[0]] == [True, False, False]
