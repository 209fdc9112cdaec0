"""Numbers are arrays: runs that differ in them alone share their compiled programs."""

from collections.abc import Generator
from contextlib import contextmanager

import jax
import numpy as np
import pytest

from ntkflow.flows import Descent, Gradient, Linearized, Modified, Momentum
from ntkflow.models import Scaled
from ntkflow.problem import Decay, Problem
from ntkflow.simulate import simulate
from tests.simulate.problems import tiny

BASE = tiny()
TIMES = np.asarray([0.05, 0.2])
FLOWS = (Gradient(), Linearized())
QUIET = {"progress": False, "throw": False}
COMPILED = "/jax/core/compile/backend_compile_duration"


@contextmanager
def compilations() -> Generator[list[str], None, None]:
    """The programs that are compiled, or read from a cache on disk."""
    found: list[str] = []

    def note(event: str, seconds: float, **kwargs: object) -> None:
        del seconds
        if event == COMPILED:
            found.append(str(kwargs.get("fun_name", "")))

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(note)


def problem(alpha=0.7, **options) -> Problem:
    """Six examples, with another output scale."""
    model = Scaled(BASE.model, alpha)
    return Problem(model, BASE.x, BASE.y, **options)


def of_alpha(value):
    return simulate(problem(value), TIMES, flows=FLOWS, **QUIET)


def of_rtol(value):
    options = {**QUIET, "rtol": 1e-4 * value, "atol": 1e-7 * value}
    return simulate(problem(), 20 * TIMES, flows=FLOWS, **options)


def of_time_scale(value):
    return simulate(problem(time_scale=value), TIMES, flows=FLOWS, **QUIET)


def of_decay(value):
    decayed = problem(decay=Decay(value, "initial"))
    return simulate(decayed, TIMES, flows=FLOWS, **QUIET)


def of_damping(value):
    return simulate(problem(), TIMES, flows=(Momentum(value),), **QUIET)


def of_learning_rate(value):
    flows = (Descent(0.05 * value), Modified(Descent(0.05 * value)))
    return simulate(problem(), TIMES, flows=flows, **QUIET)


def of_momentum(value):
    flows = (Descent(1e-3, momentum=value / 2),)
    return simulate(problem(), TIMES, flows=flows, **QUIET)


EACH = [
    of_alpha, of_rtol, of_time_scale, of_decay, of_damping, of_learning_rate,
    of_momentum,
]  # fmt: skip


@pytest.mark.parametrize("run", EACH)
def test_other_numbers_compile_nothing(run):
    values = np.geomspace(0.3, 1.5, 10 if run in {of_alpha, of_rtol} else 3)
    first = run(float(values[0])).dataset.f_train
    with compilations() as found:
        others = [run(float(value)).dataset.f_train for value in values[1:]]
    assert found == []
    # The number has an effect, so that the program was given it.
    for other in others:
        assert float(abs(other - first).max()) > 0
