"""The command ends with a status that tells why, and a line to go on with."""

import errno
import os

import pytest
from typer.testing import CliRunner

from ntkflow.cli import app
from ntkflow.simulate import Reason, Trajectory
from ntkflow.storage import _publish

QUICK = [
    f"--set={entry}"
    for entry in (
        "data.n_train=8", "data.n_test=4", "data.classes=[0, 1]", "model.width=4",
        "model.depth=1", "simulation.t_last=1.0", "simulation.n_times=3",
        'simulation.flows=["gradient"]', 'simulation.measures=["parameter_distance"]',
    )
]  # fmt: skip


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    "fails", ["experiment.toml", "run.zarr.zip", "trajectory.zarr", "report.html"]
)
def test_a_full_disk_ends_with_a_line_to_go_on(tmp_path, monkeypatch, fails):
    out, force = tmp_path / "out", _publish._force_to_disk

    def full(path):
        if fails in path.parts:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        force(path)

    monkeypatch.setattr(_publish, "_force_to_disk", full)
    done = invoke("run", "digits", "--out", out, *QUICK)
    assert done.exit_code == 4, done.output
    assert f"{out}" in done.output
    assert f"{fails} could not be written: no space is left" in done.output
    assert "Traceback" not in done.output
    (line,) = [line for line in done.output.splitlines() if "To go on:" in line]
    assert line.endswith(" --resume")
    monkeypatch.undo()
    done = invoke("run", "digits", "--out", out, *QUICK, "--resume")
    assert done.exit_code == 0, done.output
    assert (out / "report.html").exists()
    assert Trajectory.load(out / "trajectory.zarr").reason is Reason.COMPLETED


def test_a_failed_integration_is_no_wrong_call(tmp_path):
    settings = [*QUICK, "--set=simulation.max_steps=2", "--set=simulation.t_first=0.5"]
    done = invoke("run", "digits", "--out", tmp_path / "out", *settings)
    assert done.exit_code == 3, done.output
    assert "max_steps" in done.output
    assert (tmp_path / "out" / "report.html").exists()
    assert invoke("run", "nothing").exit_code == 2


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]])
def test_help_tells_the_exit_statuses(arguments):
    said = " ".join(invoke(*arguments).output.split())
    for status in ("0 done", "2 a wrong call", "3 integration", "4 the", "130", "143"):
        assert status in said
