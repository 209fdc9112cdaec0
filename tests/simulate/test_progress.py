"""What a run tells the person who waits."""

import sys
import types

import jax
import numpy as np
import pytest

from ntkflow import measures
from ntkflow._progress import Progress, duration
from ntkflow.flows import Gradient, Residual
from ntkflow.simulate import log_times, simulate
from ntkflow.simulate._compiling import CompileClock
from ntkflow.simulate._integrate import Tally
from ntkflow.simulate._pace import Pace
from tests.simulate.problems import tiny

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture
def pace():
    """After compiling, one unit of time took 2 s to integrate, and a reading 3 s."""
    pace = Pace(end=10.0, readings=20, done=0)
    pace.advance(0.1, 30.0, compiled=True)
    pace.read(40.0)
    assert pace.left() == ""
    pace.advance(4.1, 38.0, compiled=False)
    assert pace.left() == ""
    pace.read(3.0)
    return pace


def test_time_left_counts_both_works_and_no_compiling(pace):
    assert pace.left() == f" · about {duration(5.9 * 2 + 18 * 3)} left"
    pace.skip()
    assert pace.left() == f" · about {duration(5.9 * 2 + 17 * 3)} left"


def test_nothing_is_left_at_the_end(pace):
    pace.advance(10.0, 50.0, compiled=False)
    assert "left" in pace.left()
    for _ in range(18):
        pace.skip()
    assert pace.left() == ""


def test_compiling_the_next_solver_is_no_pace(pace):
    """One step of it and ten seconds of compiling once foretold hours."""
    pace.advance(4.2, 48.0, compiled=True)
    assert pace.left() == ""
    pace.advance(5.2, 49.0, compiled=False)
    assert pace.left() == f" · about {duration(4.8 * 1 + 18 * 3)} left"


def test_the_line_fits_a_narrow_terminal(pace):
    tally = Tally.zeros(1)
    tally.steps[:], tally.saved[:] = 123_456, 2
    line = pace.line(tally, " · loss 3.54 % of its start", 20)
    assert line.startswith("t = 4.1 of 10 · loss 3.54 % of its start · steps 123456")
    assert len(line) < 100


def test_functions_compiled_inside_another_count_once():
    clock = CompileClock()
    for event, start, end in (
        ("/jax/core/compile/a", 10.0, 11.0),
        ("/jax/core/compile/a", 11.5, 12.0),
        ("/jax/core/compile/b", 9.5, 13.0),
        ("/jax/something/else", 13.0, 20.0),
        ("/jax/core/compile/a", 15.0, 16.0),
    ):
        clock._note(event, start, end)
    assert clock.seconds == pytest.approx(4.5)


def test_the_clock_runs_while_jax_compiles():
    with CompileClock() as clock:
        jax.jit(lambda x: x + 1)(1.0)
        taken = clock.seconds
    jax.jit(lambda x: x + 2)(1.0)
    assert clock.seconds == taken > 0


def test_every_stage_is_told_from_the_start(capsys, monkeypatch):
    monkeypatch.setattr("ntkflow._progress._PLAIN_SECONDS", 0.0)
    run = simulate(
        tiny(),
        log_times(1e-2, 4, 9),
        flows=[Gradient(), Residual("evolving")],
        measures=[measures.KernelDrift()],
        segment_steps=5,
    )
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("Measures: ")
    assert said[1] == "compiling, once; about 20 s"
    assert "reading save time 1 of 9, compiling first" in said
    assert any(line.startswith("reading save time 8") for line in said)
    # The segment that compiles is one step; its pace would say nothing.
    assert " · steps 1 · " in next(line for line in said if line.startswith("t = "))
    assert "9 of 9 saved" in said[-1]
    whole = run.stats["seconds_total"]
    assert np.isfinite(whole)
    seconds, compiling = run.stats["seconds"], run.stats["seconds_compiling"]
    assert seconds + compiling < whole
    # Milliseconds of integrating, which tracing alone takes many times.
    assert seconds < compiling


def test_a_notebook_replaces_its_line(monkeypatch):
    """As IPython's display does it, in whose place a list stands here."""
    shown = []

    class Handle:
        def update(self, content, *, raw):
            assert raw
            shown[0] = content["text/plain"]

    def display(content, *, raw=False, display_id=False):
        assert raw
        assert display_id
        shown.append(content["text/plain"])
        return Handle()

    shell = type("ZMQInteractiveShell", (), {})
    monkeypatch.setattr("builtins.get_ipython", shell, raising=False)
    module = types.ModuleType("IPython.display")
    monkeypatch.setattr(module, "display", display, raising=False)
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    with Progress(enabled=True) as line:
        line.update("one")
        assert shown == ["one"]
        for text in ("two", "three"):
            line.update(text)
    # The last line stays, however soon after another it comes.
    assert shown == ["three"]
