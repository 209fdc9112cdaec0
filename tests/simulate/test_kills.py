"""Runs killed at random moments are readable, and end bit-equal.

Twenty kills in all, half of them by SIGTERM, each after the process has kept a part
of the run, at any moment of integrating, reading and writing.
"""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from ntkflow.simulate import Reason, Trajectory
from tests.simulate import killed

pytestmark = pytest.mark.slow

KILLS = {"auto": 6, "exponential": 4, "descent": 6, "ensemble": 4}
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
