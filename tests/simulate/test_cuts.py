"""A run cut by max_steps after any number of steps goes on as if it had not been."""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from ntkflow.flows import Descent, Gradient
from ntkflow.problem import Problem
from ntkflow.simulate import Reason, _auto, _plan, log_times, simulate
from ntkflow.simulate._forecast import CHEBYSHEV, EXPLICIT
from ntkflow.solvers import Chebyshev, Explicit
from tests.simulate.problems import tiny

pytestmark = [
    pytest.mark.usefixtures("quickly_compiled"),
    pytest.mark.filterwarnings("ignore:The outputs may be wrong"),
]

TIMES = log_times(1e-2, 5, 7)


RUNS = {
    "auto": {"rtol": 1e-3, "flows": [Gradient()]},
    "explicit": {"rtol": 1e-3, "solver": dfx.Dopri8(), "flows": [Gradient()]},
    "descent": {"flows": [Descent(0.25)], "ts": [0.2, 0.5, 0.6, 2.3]},
}


class Linear(eqx.Module):
    """A linear map, read out with a gain."""

    weights: Any
    readout: Any

    def __call__(self, x):
        return self.readout @ (self.weights @ x)


@pytest.mark.parametrize("kind", RUNS)
def test_a_run_goes_on_after_every_number_of_steps(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(_auto.Auto, "choose", lambda *_: CHEBYSHEV)
    methods = {EXPLICIT: Explicit(dfx.Dopri5()), CHEBYSHEV: Chebyshev()}
    monkeypatch.setattr(_plan, "_methods", lambda *args: methods)
    given = {"ts": TIMES, "measures": (), "progress": False} | RUNS[kind]
    whole = simulate(tiny(), **given)
    assert ("Chebyshev" in whole.stats["solver"]) == (kind == "auto")
    given |= {"checkpoint": tmp_path, "throw": False}
    for stop in range(1, int(whole.stats["steps"]) + 1):
        run = simulate(tiny(), max_steps=stop, resume=stop > 1, **given)
        kept = whole.dataset.isel(time=slice(run.dataset.sizes["time"]))
        if run.dataset.sizes["time"] > 0:
            xr.testing.assert_identical(kept.drop_attrs(), run.dataset.drop_attrs())
    assert run.reason is whole.reason
    assert run.dataset.sizes == whole.dataset.sizes
    for name in ("steps", "rejected", "gradients", "solver"):
        assert run.stats[name] == whole.stats[name], name


def test_members_go_on_where_one_has_diverged():
    """It has gone further than the save times that count, which the next ones lack."""
    base = tiny()
    # Learning rates times curvatures of a half, and of four: 3 times as far a step.
    scales = jnp.sqrt(jnp.asarray([1.0, 8.0])).reshape(2, 1, 1)
    models = Linear(jnp.zeros((2, 2, 3)), scales * jnp.eye(2)[None])
    problem = Problem(
        Linear(models.weights[0], models.readout[0]),
        base.x,
        base.y,
        trainable=Linear(True, False),
    )
    step = 0.5 / float(jnp.linalg.norm(base.x, 2)) ** 2
    run = simulate(
        problem,
        step * np.arange(1, 25),
        flows=[Descent(step)],
        measures=(),
        ensemble=models,
        segment_steps=4,
        progress=False,
        throw=False,
    )
    assert run.reason is Reason.DIVERGED
    assert np.isfinite(run.dataset.f_train[0]).all()
    assert np.isfinite(run.dataset.f_train[1, 0, 3]).all()
    assert np.isnan(run.dataset.f_train[1, 0, -1]).all()
