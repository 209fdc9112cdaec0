"""Ensembles, separate solves, dense output: other ways to the same numbers."""

import diffrax as dfx
import equinox as eqx
import jax
import numpy as np
import pytest

from ntkflow import measures
from ntkflow.flows import Gradient, Linearized, Residual
from ntkflow.models import MLP
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
