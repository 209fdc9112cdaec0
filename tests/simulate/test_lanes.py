"""Ensembles, separate solves, dense output: other ways to the same numbers."""

import diffrax as dfx
import equinox as eqx
import jax
import numpy as np
import pytest

from ntkflow import measures
from ntkflow.flows import Descent, Gradient, Linearized, Modified, Momentum, Residual
from ntkflow.models import MLP, Scaled
from ntkflow.problem import Problem
from ntkflow.simulate import Trajectory, log_times, simulate
from tests.simulate.problems import tiny
from tests.tolerances import solver

pytestmark = pytest.mark.usefixtures("quickly_compiled")

RTOL = 1e-6
SETTINGS = {"rtol": RTOL, "atol": 1e-8, "progress": False}
TIMES = log_times(1e-1, 3, 5)


def test_an_ensemble_equals_single_runs(tmp_path):
    base = tiny()

    def make(key):
        return MLP(3, 2, width=8, depth=1, key=key)

    keys = jax.random.split(jax.random.key(5), 3)
    problem = Problem(
        make(keys[0]), base.x, base.y, x_test=base.x_test, y_test=base.y_test
    )
    settings = SETTINGS | {
        "flows": [Gradient(), Residual("frozen")],
        "measures": [measures.KernelDrift(), measures.EnergyDefect()],
    }
    run = simulate(
        problem,
        TIMES,
        ensemble=eqx.filter_vmap(make)(keys),
        checkpoint=tmp_path,
        segment_steps=8,
        **settings,
    )
    assert run.dataset.f_train.dims == ("seed", "flow", "time", "example", "output")
    assert run.dataset.kernel_drift.dims == ("seed", "time")
    for i, key in enumerate(keys):
        single = simulate(
            Problem(make(key), base.x, base.y, x_test=base.x_test, y_test=base.y_test),
            TIMES,
            **settings,
        )
        member = run.dataset.isel(seed=i)
        scale = float(np.abs(single.dataset.f_train).max())
        for name in ("f_train", "f_test", "kernel_drift"):
            gap = np.abs(member[name] - single.dataset[name]).max()
            assert gap <= solver(RTOL) * scale, name
    trained = eqx.filter_vmap(lambda m: jax.vmap(m)(base.x))(run.model)
    saved = run.dataset.f_train.sel(flow="gradient").isel(time=-1)
    np.testing.assert_allclose(trained, saved, rtol=1e-12, atol=1e-12)
    loaded = Trajectory.load(tmp_path)
    np.testing.assert_array_equal(loaded.dataset.f_train, run.dataset.f_train)


def stacked(model, count):
    """The same model as every member of an ensemble."""
    return jax.tree.map(
        lambda leaf: jax.numpy.stack([leaf] * count) if eqx.is_array(leaf) else leaf,
        model,
    )


def test_members_have_output_scales_of_their_own():
    base = tiny()
    alphas = np.asarray([0.3, 1.0, 4.0])
    problem = Problem(Scaled(base.model, 1.0), base.x, base.y, reduction="mean")
    settings = SETTINGS | {"measures": [measures.KernelDrift(), measures.Modes()]}
    ensemble = eqx.filter_vmap(lambda alpha: Scaled(base.model, alpha))(alphas)
    run = simulate(problem, TIMES, ensemble=ensemble, **settings)
    assert run.dataset.attrs["time_scale"] == pytest.approx(list(1 / alphas**2 / 6))
    for i, alpha in enumerate(alphas):
        alone = eqx.tree_at(
            lambda p: p.static.scale.tree, problem, jax.numpy.asarray(alpha)
        )
        single = simulate(alone, TIMES, **settings)
        np.testing.assert_allclose(alone.time_scale, 1 / alpha**2 / 6)
        scale = float(np.abs(single.dataset.f_train).max())
        for name in ("f_train", "kernel_drift", "mode_rate_current"):
            gap = np.abs(run.dataset[name].isel(seed=i) - single.dataset[name]).max()
            own = scale if name == "f_train" else np.abs(single.dataset[name]).max()
            assert gap <= solver(RTOL) * own, name


RATES, DAMPINGS = (0.01, 0.02, 0.04), (0.5, 1.0, 3.0)


@pytest.mark.parametrize(
    ("flow", "of_member"),
    [
        (Descent(np.asarray(RATES)), lambda i: Descent(RATES[i])),
        (Momentum(np.asarray(DAMPINGS)), lambda i: Momentum(DAMPINGS[i])),
        (
            Descent(np.asarray(RATES), momentum=np.asarray([0.3, 0.5, 0.7])),
            lambda i: Descent(RATES[i], momentum=(0.3, 0.5, 0.7)[i]),
        ),
        (
            Modified(Descent(np.asarray(RATES))),
            lambda i: Modified(Descent(RATES[i])),
        ),
    ],
    ids=["rates", "dampings", "momenta", "modified"],
)
def test_members_have_rates_of_their_own(flow, of_member):
    problem = tiny()
    settings = SETTINGS | {"measures": [measures.EnergyDefect()]}
    ensemble = stacked(problem.model, 3)
    run = simulate(problem, TIMES[:3], flows=[flow], ensemble=ensemble, **settings)
    for i in range(3):
        single = simulate(problem, TIMES[:3], flows=[of_member(i)], **settings)
        scale = float(np.abs(single.dataset.f_train).max())
        for name, size in (("f_train", scale), ("energy_defect", 1.0)):
            gap = np.abs(run.dataset[name].isel(seed=i) - single.dataset[name]).max()
            assert gap <= solver(RTOL) * size, name


def test_one_number_a_member_is_refused_without_members():
    problem = tiny()
    flows = [Descent(np.asarray(RATES))]
    with pytest.raises(ValueError, match=r"3 learning rates.*pass ensemble="):
        simulate(problem, TIMES, flows=flows, **SETTINGS)
    with pytest.raises(ValueError, match="the ensemble 2 members"):
        simulate(
            problem, TIMES, flows=flows, ensemble=stacked(problem.model, 2), **SETTINGS
        )
    with pytest.raises(ValueError, match="momentum must be positive for every member"):
        Descent(0.1, momentum=np.asarray([0.0, 0.5]))
    with pytest.raises(ValueError, match=r"shape \(1, 2\)"):
        Momentum(np.ones((1, 2)))
    scaled = Problem(Scaled(problem.model, 1.0), problem.x, problem.y)
    negative = eqx.filter_vmap(lambda a: Scaled(problem.model, a))(-np.ones(2))
    with pytest.raises(ValueError, match=r"alpha of every member .* positive"):
        simulate(scaled, TIMES, ensemble=negative, **SETTINGS)


def test_flows_with_their_own_solvers_are_merged():
    together = simulate(
        tiny(), TIMES, measures=[measures.LinearizationGap()], **SETTINGS
    )
    apart = simulate(
        tiny(),
        TIMES,
        measures=[measures.LinearizationGap()],
        solver={"gradient": dfx.Dopri5(), "linearized": dfx.Dopri8()},
        **SETTINGS,
    )
    assert list(apart.dataset.flow.values).count("linearized") == 1
    assert "linearized: Dopri8" in apart.stats["solver"]
    assert "gradient, residual_evolving: Dopri5" in apart.stats["solver"]
    scale = float(np.abs(together.dataset.f_train).max())
    gap = np.abs(apart.dataset.f_train - together.dataset.f_train).max()
    assert gap <= solver(RTOL) * scale
    gap = apart.dataset.linearization_gap - together.dataset.linearization_gap
    assert np.abs(gap).max() <= solver(RTOL)


def test_dense_output_passes_through_the_saved_states():
    run = simulate(
        tiny(),
        TIMES,
        flows=[Gradient(), Linearized()],
        measures=(),
        dense=True,
        segment_steps=6,
        **SETTINGS,
    )
    for i, t in enumerate(TIMES):
        found = run.evaluate(float(t))
        for name in ("gradient", "linearized"):
            saved = run.dataset.f_train.sel(flow=name).isel(time=i)
            np.testing.assert_allclose(found[name].train, saved, rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match="outside the run"):
        run.evaluate(4.0)


def test_members_have_dense_output_to_their_own_ends():
    problem = tiny()
    run = simulate(
        problem,
        TIMES[:3],
        flows=[Descent(np.asarray([0.01, 0.5]))],
        ensemble=stacked(problem.model, 2),
        measures=(),
        dense=True,
        segment_steps=4,
        **SETTINGS,
    )
    for i, t in enumerate(TIMES[:3]):
        found = run.evaluate(float(t))["descent"].train
        saved = run.dataset.f_train.sel(flow="descent").isel(time=i)
        np.testing.assert_allclose(found, saved, rtol=1e-10, atol=1e-12)


def test_a_saved_run_reads_back(tmp_path):
    problem = tiny()
    run = simulate(
        problem,
        TIMES,
        flows=[Gradient()],
        measures=[measures.KernelDrift()],
        **SETTINGS,
    )
    assert repr(run) == (
        "<Trajectory: flows gradient; "
        f"{len(TIMES)} save times from t = {TIMES[0]:.3g} to {TIMES[-1]:.3g}; "
        "measures KernelDrift; completed>"
    )
    run.save(tmp_path / "run")
    loaded = Trajectory.load(tmp_path / "run")
    for name in run.dataset.variables:
        np.testing.assert_array_equal(run.dataset[name], loaded.dataset[name])
        assert run.dataset[name].attrs == loaded.dataset[name].attrs
    assert loaded.dataset.attrs == run.dataset.attrs
    assert (loaded.reason, loaded.stats) == (run.reason, run.stats)
    with pytest.raises(ValueError, match="like=model"):
        _ = loaded.model
    again = Trajectory.load(tmp_path / "run", like=problem.model)
    np.testing.assert_array_equal(again.model(problem.x[0]), run.model(problem.x[0]))
    (tmp_path / "run" / "report.html").write_text("someone's")
    again = Trajectory.load(tmp_path / "run")
    np.testing.assert_array_equal(run.dataset.f_train, again.dataset.f_train)
    with pytest.raises(ValueError, match=f"a run in {tmp_path / 'run'}: load that"):
        Trajectory.load(tmp_path)
    (tmp_path / "run" / "f_train" / ".zarray").unlink()
    with pytest.raises(ValueError, match="f_train is no array"):
        Trajectory.load(tmp_path / "run")
    (tmp_path / "run" / "params" / "leaf0" / ".zarray").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        Trajectory.load(tmp_path / "run")
    with pytest.raises(ValueError, match="holds no run"):
        Trajectory.load(tmp_path / "nothing")


def test_dense_output_of_a_resumed_run_begins_where_it_was_resumed(tmp_path):
    settings = SETTINGS | {"flows": [Gradient()], "measures": (), "dense": True}
    settings |= {"segment_steps": 6, "checkpoint": tmp_path, "throw": False}
    simulate(tiny(), TIMES, max_steps=8, **settings)
    run = simulate(tiny(), TIMES, resume=True, **settings)
    dense = run.evaluate(float(TIMES[-1]))["gradient"].train
    np.testing.assert_allclose(dense, run.dataset.f_train[0, -1], atol=1e-12)
    with pytest.raises(ValueError, match="where it was resumed"):
        run.evaluate(1e-3)
