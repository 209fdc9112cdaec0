"""Runs killed at random moments are readable, and end bit-equal.

Twenty-two kills in all, half of them by SIGTERM, each after the process has kept a part
of the run, at any moment of integrating, reading and writing.
"""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from ntkflow.simulate import Reason, Trajectory
from tests.simulate import killed

pytestmark = pytest.mark.slow

KILLS = {"auto": 5, "explicit": 4, "exponential": 3, "descent": 4, "ensemble": 4}
"""By kind of run; fewer where a process takes long to begin. Every other is SIGTERM."""

STATUS = {signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}
COUNTS = ("steps", "rejected", "gradients", "kernel_builds", "error_gradients")


@pytest.fixture(scope="module")
def processes():
    """Forks processes from a server that has imported what they need."""
    with pytest.MonkeyPatch.context() as patch:
        # Equinox's checks of the save times call Python, and a program that does is
        # not kept on disk.
        patch.setenv("EQX_ON_ERROR", "off")
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([
            "ntkflow.simulate", "ntkflow.storage._archive", killed.__name__,
        ])  # fmt: skip
        yield context


def assert_beginning(part: xr.Dataset, whole: xr.Dataset) -> None:
    # Of a run without a reading yet there are the targets alone.
    if count := part.sizes["time"]:
        kept = whole.isel(time=slice(count))
        if "seed" in part.dims:
            # What a member has not been read at yet, where others have, is NaN.
            read = part.f_train.notnull().all(["flow", "example", "output"])
            for name, values in kept.data_vars.items():
                if {"seed", "time"} <= {*values.dims}:
                    kept[name] = values.where(read)
        xr.testing.assert_identical(kept.drop_attrs(), part.drop_attrs())


def assert_same(one: Trajectory, whole: Trajectory) -> None:
    assert one.reason is whole.reason is Reason.COMPLETED
    xr.testing.assert_identical(one.dataset.drop_attrs(), whole.dataset.drop_attrs())
    assert one.params.keys() == whole.params.keys()
    for name, leaf in one.params.items():
        np.testing.assert_array_equal(leaf, whole.params[name])
    for name in (*COUNTS, "solver"):
        assert one.stats[name] == whole.stats[name], name


@pytest.mark.parametrize("kind", KILLS)
def test_kills_at_random_moments_leave_no_trace(kind, processes, tmp_path):
    cache, rng = tmp_path / "cache", random.Random(0)

    def start(folder: Path):
        going = processes.Event()
        process = processes.Process(
            target=killed.go_on, args=(kind, folder, cache, going)
        )
        process.start()
        while process.is_alive() and not going.wait(0.01):
            pass
        return process

    def finish(process) -> None:
        process.join()
        assert process.exitcode == 0

    process = start(tmp_path / "whole")
    began = time.perf_counter()
    finish(process)
    # As long as it takes to go through most of the run from kill to kill.
    longest = 1.5 * (time.perf_counter() - began) / KILLS[kind]
    whole = Trajectory.load(tmp_path / "whole")
    assert ("Chebyshev" in whole.stats["solver"]) == (kind == "auto")

    run, runs, kills = tmp_path / "killed0", 0, 0
    while kills < KILLS[kind]:
        process = start(run)
        process.join(rng.uniform(0.0, longest))
        if process.is_alive():
            number = (signal.SIGTERM, signal.SIGKILL)[kills % 2]
            os.kill(process.pid, number)
            process.join()
            left = Trajectory.load(run)
            assert_beginning(left.dataset, whole.dataset)
            # A run that is over leaves signals to Python.
            over = {0, -number} if left.reason is Reason.COMPLETED else set()
            assert process.exitcode in {STATUS[number], *over}
            kills += process.exitcode != 0
        else:
            assert process.exitcode == 0
        if process.exitcode == 0:
            assert_same(Trajectory.load(run), whole)
            runs += 1
            run = tmp_path / f"killed{runs}"
    finish(start(run))
    assert_same(Trajectory.load(run), whole)


EXPERIMENT = """
[data]
n_train = 20
n_test = 10
[model]
width = 8
[simulation]
flows = ["gradient"]
measures = ["kernel_drift"]
t_last = 10.0
n_times = 40
rtol = 1e-9
atol = 1e-11
segment_steps = 1
"""


def wait_until(told: Callable[[], bool], process: subprocess.Popen) -> None:
    while process.poll() is None and not told():
        time.sleep(0.01)


def test_commands_killed_at_random_moments_leave_no_trace(tmp_path):
    """Each in a process that has nothing of the one before, hash seeds included."""
    description, rng = tmp_path / "experiment.toml", random.Random(1)
    description.write_text(EXPERIMENT)
    env = os.environ | {
        "EQX_ON_ERROR": "off",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, "-m", "ntkflow", "run", description, "--resume", "--out"]

    def start(out: Path) -> subprocess.Popen:
        return subprocess.Popen(
            [*command, out], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    def finish(process: subprocess.Popen) -> None:
        _, message = process.communicate()
        assert process.returncode == 0, message.decode()

    def written(checkpoint: Path) -> int:
        states = checkpoint.glob("state-*.zarr.zip")
        return max((path.stat().st_mtime_ns for path in states), default=0)

    finish(start(tmp_path / "whole"))
    whole = Trajectory.load(tmp_path / "whole" / "trajectory.zarr")
    run, runs, numbers = tmp_path / "killed0", 0, [signal.SIGTERM, signal.SIGKILL]
    while numbers:
        checkpoint = run / "checkpoint"
        before = written(checkpoint)
        process = start(run)
        wait_until(lambda at=checkpoint, t=before: written(at) > t, process)
        time.sleep(rng.uniform(0.0, 0.5))
        process.send_signal(numbers[0])
        _, message = process.communicate()
        expected = {STATUS[numbers[0]], -numbers[0], 0}
        assert process.returncode in expected, message.decode()
        if process.returncode == 0:
            assert_same(Trajectory.load(run / "trajectory.zarr"), whole)
            runs += 1
            run = tmp_path / f"killed{runs}"
        else:
            numbers.pop(0)
            assert_beginning(Trajectory.load(checkpoint).dataset, whole.dataset)
    finish(start(run))
    assert_same(Trajectory.load(run / "trajectory.zarr"), whole)
