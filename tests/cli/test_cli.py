import json
import shlex
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import ntkflow as nf
from ntkflow import experiments
from ntkflow.cli import app

QUICK = [
    "--set",
    "data.n_train=20",
    "--set",
    "data.n_test=10",
    "--set",
    "data.classes=[0, 1]",
    "--set",
    "model.width=8",
    "--set",
    "model.depth=1",
    "--set",
    "simulation.t_last=1.0",
    "--set",
    "simulation.n_times=4",
]


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_run_prints_answers_and_writes_a_report(tmp_path):
    out = tmp_path / "out"
    done = invoke("run", "digits", "--out", out, *QUICK)
    assert done.exit_code == 0, done.output
    assert "•" in done.output
    page = (out / "report.html").read_text("utf-8")
    assert "<html" in page
    for given in (out, out / "trajectory.zarr"):
        (out / "report.html").unlink()
        again = invoke("report", given)
        assert again.exit_code == 0, again.output
        assert (out / "report.html").exists()
    twice = invoke("run", "digits", "--out", out, *QUICK)
    assert twice.exit_code == 2
    assert f"ntkflow report {out}" in twice.output
    assert "Results:" not in twice.output


@pytest.mark.parametrize("title", ["[/b]", "[n=64]", ":smile:", "a\\[red]"])
def test_titles_and_paths_are_printed_as_they_are(title, tmp_path, monkeypatch):
    assert f"Unknown experiment {title!r}" in invoke("run", title).output

    def load(name):
        return {"title": title, "data": {"n_train": 100_000}}

    monkeypatch.setattr(experiments, "builtin_names", lambda: ["one"])
    monkeypatch.setattr(experiments, "load_builtin", load)
    assert invoke("list").output == f"one           {title}\n"
    out = tmp_path / title
    done = invoke("run", "one", "--out", out)
    assert f"{title}. Results: {out}\n" in done.output
    assert "Traceback" not in done.output
    assert done.exit_code == 2
    (out / "checkpoint").mkdir()
    done = invoke("run", "one", "--out", out)
    assert f"Error: {out} holds results (checkpoint)" in done.output


def test_version_is_that_of_the_package():
    done = invoke("--version")
    assert done.exit_code == 0
    assert done.output == f"ntkflow {nf.__version__}\n"


def test_schema_is_printed_as_json():
    done = invoke("schema")
    assert done.exit_code == 0
    assert json.loads(done.output) == experiments.schema()


def test_list_names_every_experiment():
    done = invoke("list")
    assert done.exit_code == 0
    for name in ("digits", "digits-rich", "deep-linear", "digits-cnn"):
        assert name in done.output


def test_doctor_names_device_precision_and_speed():
    done = invoke("doctor")
    assert done.exit_code == 0, done.output
    for word in ("cpu", "float64", "GFLOP/s", "digits"):
        assert word in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "digit"], "Did you mean 'digits'"),
        (["run", "none.toml"], "cannot be read"),
        (["run", "digits", "--set", "model.widht=3"], "Did you mean 'width'"),
        (["run", "digits", "--set", "data.n_train=100000"], "1797"),
        (["run", "digits", "--set", "title.x=1"], "title which is no table"),
        (["run", "digits", "--set", "model=3", "--set", "model.width=4"], "no table"),
        (["run", "digits", "--set", "model=3"], "expected a table [model]"),
        (["run", "digits", "--set", "simulation.t_last=inf"], "finite number got inf"),
        (
            ["run", "digits", "--set", "simulation.measures=kernel_drft"],
            "Did you mean 'kernel_drift'?",
        ),
        (
            ["run", "digits", "--set", "data={name='file', path='none.npz'}"],
            "data.path = 'none.npz' cannot be read: No such file or directory",
        ),
        (["run", "digits", "--set", "solver.name=rok4"], "Did you mean 'rock4'?"),
        (["report", "nowhere"], "holds no run"),
        (["report", "."], "holds no run"),
        (["run", "digits", "--out", __file__], "is a file"),
    ],
)
def test_wrong_calls_end_with_one_clear_error(arguments, message, tmp_path):
    if arguments[0] == "run" and "--out" not in arguments:
        arguments += ["--out", tmp_path / "out"]
    done = invoke(*arguments)
    assert done.exit_code == 2
    assert message in done.output.replace("\n", " ").replace(",", "")
    assert "Traceback" not in done.output


def start(arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "ntkflow", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_an_interrupted_run_says_how_to_go_on(number, status, tmp_path):
    out = tmp_path / "out"
    settings = [*QUICK, "--set", 'simulation.measures=["kernel_drift"]']
    arguments = ["run", "digits", "--out", str(out), *settings]
    with start(arguments) as process:
        # Computations are compiled and started for seconds after this.
        while "compiling" not in process.stderr.readline():
            assert process.poll() is None
        # Another one is refused there meanwhile, and so is the same one.
        second = invoke(*arguments, "--set", "model.width=9")
        assert second.exit_code == 2
        again = invoke(*arguments, "--resume")
        for refused in (second, again):
            assert f"Another run is going on in {out}" in refused.output
            assert refused.exit_code == 2
        process.send_signal(number)
        _, message = process.communicate(timeout=120)
    assert process.returncode == status, message
    assert "Traceback" not in message
    (said,) = [line for line in message.splitlines() if "To go on:" in line]
    assert said.endswith(f" ntkflow {shlex.join([*arguments, '--resume'])}")
