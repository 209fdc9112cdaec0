"""Segments, checkpoints and resumption change nothing."""

import functools

import diffrax as dfx
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from ntkflow import measures
from ntkflow.flows import Gradient, Linearized, Residual, max_over_flows
from ntkflow.simulate import Reason, Trajectory, _run, log_times, simulate
from ntkflow.simulate._reading import read_record
from ntkflow.solvers import KernelImplicit
from tests.simulate.problems import tiny

TIMES = log_times(1e-2, 4, 9)
SETTINGS = {
    "flows": [Gradient(), Residual("evolving")],
    "measures": [measures.KernelDrift()],
    "rtol": 1e-6,
    "atol": 1e-8,
    "progress": False,
}


@pytest.fixture(scope="module")
def whole():
    return simulate(tiny(), TIMES, **SETTINGS)


def assert_same(one: xr.Dataset, other: xr.Dataset):
    xr.testing.assert_identical(one.drop_attrs(), other.drop_attrs())


def test_results_do_not_depend_on_the_length_of_segments(whole):
    for segment_steps in (1, 7):
        pieces = simulate(tiny(), TIMES, segment_steps=segment_steps, **SETTINGS)
        assert_same(whole.dataset, pieces.dataset)
        assert pieces.stats["steps"] == whole.stats["steps"]


def test_a_jumping_controller_is_cut_without_a_trace():
    controller = dfx.ClipStepSizeController(
        dfx.PIDController(rtol=1e-6, atol=1e-8, norm=max_over_flows),
        jump_ts=jnp.array([0.5, 1.0]),
    )
    settings = SETTINGS | {"measures": (), "controller": controller}
    one, many = (
        simulate(tiny(), TIMES, segment_steps=steps, **settings) for steps in (1000, 3)
    )
    assert_same(one.dataset, many.dataset)


def test_an_interrupted_run_resumes_bit_for_bit(whole, tmp_path):
    stopped = simulate(
        tiny(),
        TIMES,
        checkpoint=tmp_path,
        max_steps=10,
        segment_steps=5,
        throw=False,
        **SETTINGS,
    )
    assert stopped.reason is Reason.MAX_STEPS
    assert 0 < stopped.dataset.sizes["time"] < len(TIMES)
    readable = Trajectory.load(tmp_path)
    assert_same(readable.dataset, stopped.dataset)
    with pytest.raises(ValueError, match="resume=True"):
        simulate(tiny(), TIMES, checkpoint=tmp_path, **SETTINGS)
    resumed = simulate(tiny(), TIMES, checkpoint=tmp_path, resume=True, **SETTINGS)
    assert resumed.reason is Reason.COMPLETED
    assert_same(resumed.dataset, whole.dataset)
    for name, leaf in whole.params.items():
        np.testing.assert_array_equal(leaf, resumed.params[name])
    again = simulate(tiny(), TIMES, checkpoint=tmp_path, resume=True, **SETTINGS)
    assert_same(again.dataset, whole.dataset)
    assert again.stats["steps"] == whole.stats["steps"]


def test_what_was_read_before_an_interruption_is_kept(whole, tmp_path, monkeypatch):
    calls = []

    def read_until(allowed, *given):
        if len(calls) == allowed:
            raise KeyboardInterrupt
        calls.append(given)
        return read_record(*given)

    monkeypatch.setattr(_run, "_CHECKPOINT_SECONDS", -1.0)
    monkeypatch.setattr(_run, "read_record", functools.partial(read_until, 4))
    settings = SETTINGS | {"checkpoint": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        simulate(tiny(), TIMES, **settings)  # in its first and only segment
    kept = Trajectory.load(tmp_path)
    assert kept.reason is Reason.RUNNING
    assert_same(kept.dataset, whole.dataset.isel(time=slice(4)))

    calls.clear()
    monkeypatch.setattr(_run, "read_record", functools.partial(read_until, -1))
    resumed = simulate(tiny(), TIMES, resume=True, **settings)
    assert len(calls) == len(TIMES) - 4
    assert_same(resumed.dataset, whole.dataset)
    assert_same(Trajectory.load(tmp_path).dataset, whole.dataset)


def test_another_run_in_the_directory_is_refused(tmp_path):
    settings = SETTINGS | {"measures": (), "flows": [Gradient()]}
    simulate(tiny(), TIMES, checkpoint=tmp_path / "a", **settings)
    for change in ({"rtol": 1e-5}, {"flows": [Gradient(), Linearized()]}):
        with pytest.raises(ValueError, match="holds another run"):
            simulate(
                tiny(),
                TIMES,
                checkpoint=tmp_path / "a",
                resume=True,
                **(settings | change),
            )
    with pytest.raises(ValueError, match="holds another run"):
        simulate(tiny(n=5), TIMES, checkpoint=tmp_path / "a", resume=True, **settings)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty"):
        simulate(tiny(), TIMES, checkpoint=tmp_path / "b", **settings)


def test_a_run_killed_in_its_first_write_is_resumed(tmp_path):
    leftover = tmp_path / ".ntkflow-0123456789abcdef.tmp"
    leftover.mkdir()
    (leftover / "run.zarr.zip").write_text("half")
    settings = SETTINGS | {"measures": (), "flows": [Gradient()]}
    run = simulate(tiny(), TIMES, checkpoint=tmp_path, resume=True, **settings)
    assert not leftover.exists()
    assert_same(Trajectory.load(tmp_path).dataset, run.dataset)


def test_a_truncated_part_is_named(tmp_path):
    settings = SETTINGS | {"measures": (), "flows": [Gradient()]}
    simulate(tiny(), TIMES, checkpoint=tmp_path, **settings)
    part = max(tmp_path.glob("records-*"))
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(ValueError, match=part.name):
        Trajectory.load(tmp_path)


def test_kernels_formed_by_solver_and_readings_are_counted_once(tmp_path):
    settings = SETTINGS | {
        "flows": [Gradient()], "solver": KernelImplicit(), "rtol": 1e-3, "atol": 1e-5,
    }  # fmt: skip
    whole = simulate(tiny(), TIMES, **settings)
    # Every step forms one, every save time and the start reads one.
    read = len(TIMES)
    assert whole.stats["kernel_builds"] > whole.stats["steps"] + read - 1
    kept = settings | {"checkpoint": tmp_path, "throw": False, "segment_steps": 2}
    for steps in (3, 6, 1000):
        run = simulate(tiny(), TIMES, max_steps=steps, resume=steps > 3, **kept)
    assert run.reason is whole.reason
    assert run.stats["kernel_builds"] == whole.stats["kernel_builds"]
