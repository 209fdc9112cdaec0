"""A simulation that something outside ends says how to go on, and does go on."""

import errno
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr

from ntkflow import measures
from ntkflow.flows import Gradient
from ntkflow.simulate import Trajectory, _run, log_times, simulate
from ntkflow.storage import DiskFullError, _publish
from tests.simulate.problems import tiny

TIMES = log_times(1e-2, 1, 3)
SETTINGS = {
    "flows": [Gradient()],
    "measures": [measures.ParameterDistance()],
    "rtol": 1e-2,
    "segment_steps": 2,
    "progress": False,
}

SCRIPT = """
import sys, jax
jax.config.update("jax_enable_x64", True)
import numpy as np
from ntkflow.flows import Gradient
from ntkflow.simulate import simulate
from tests.simulate.problems import tiny
import diffrax
simulate(tiny(), np.linspace(1, 1e6, 100_000), flows=[Gradient()], measures=[],
         controller=diffrax.ConstantStepSize(), solver=diffrax.Euler(), dt0=1e-3,
         max_steps=10**9, global_error=False, progress=False, checkpoint=sys.argv[1])
"""


def test_sigterm_says_how_to_go_on(tmp_path):
    folder = tmp_path / "checkpoint"
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, folder], stderr=subprocess.PIPE, text=True
    ) as process:
        while not (folder / "run.zarr.zip").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    how = f"Terminated. To go on: the same call with checkpoint={str(folder)!r}"
    assert how in said
    assert "Traceback" not in said
    Trajectory.load(folder)


def test_an_interruption_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(_run, "read_record", interrupted)
    for folder, said in ((tmp_path, "resume=True"), (None, "Nothing is kept")):
        with pytest.raises(KeyboardInterrupt):
            simulate(tiny(), TIMES, checkpoint=folder, **SETTINGS)
        assert f"Interrupted. {'To go on' if folder else ''}" in (
            heard := capsys.readouterr().err
        )
        assert said in heard


def test_a_handler_of_the_script_is_kept(monkeypatch):
    found = []

    def handle(number, frame):
        found.append("handled")

    before = signal.signal(signal.SIGTERM, handle)
    try:
        read = _run.read_record
        monkeypatch.setattr(
            _run,
            "read_record",
            lambda *given: (os.kill(os.getpid(), signal.SIGTERM), read(*given))[1],
        )
        simulate(tiny(), TIMES, **SETTINGS)
        assert signal.getsignal(signal.SIGTERM) is handle
    finally:
        signal.signal(signal.SIGTERM, before)
    assert found == ["handled"] * len(TIMES)


@pytest.fixture(scope="module")
def whole():
    return simulate(tiny(), TIMES, **SETTINGS)


@pytest.mark.parametrize(
    ("code", "writes"),
    [(errno.ENOSPC, 0), (errno.EDQUOT, 1), (errno.EFBIG, 2), (errno.ENOSPC, 4)],
)
def test_a_full_disk_costs_nothing_that_was_saved(
    tmp_path, monkeypatch, whole, code, writes
):
    done = []

    def force(path):
        # Twice a part: its file, then the directory.
        if len(done) == 2 * writes:
            raise OSError(code, os.strerror(code))
        done.append(path)

    monkeypatch.setattr(_run, "_CHECKPOINT_SECONDS", -1.0)
    monkeypatch.setattr(_publish, "_force_to_disk", force)
    with pytest.raises(DiskFullError) as error:
        simulate(tiny(), TIMES, checkpoint=tmp_path, **SETTINGS)
    assert f"Make room first. To go on: the same call with {'checkpoint='}" in str(
        error.value
    )
    monkeypatch.undo()
    assert len(list(tmp_path.iterdir())) == writes
    if writes:
        Trajectory.load(tmp_path)
    resumed = simulate(tiny(), TIMES, checkpoint=tmp_path, resume=True, **SETTINGS)
    xr.testing.assert_identical(
        whole.dataset.drop_attrs(), resumed.dataset.drop_attrs()
    )
    for name, leaf in whole.params.items():
        np.testing.assert_array_equal(leaf, resumed.params[name])
