"""A run cut by max_steps after any number of steps goes on as if it had not been."""

import diffrax as dfx
import equinox as eqx
import jax
import numpy as np
import pytest
import xarray as xr

from ntkflow.flows import Descent, Gradient
from ntkflow.models import MLP
from ntkflow.simulate import Reason, _auto, _plan, log_times, simulate
from ntkflow.simulate._forecast import CHEBYSHEV, EXPLICIT
from ntkflow.solvers import Chebyshev, Explicit
from tests.simulate.problems import tiny

pytestmark = [
    pytest.mark.usefixtures("quickly_compiled"),
    pytest.mark.filterwarnings("ignore:The outputs may be wrong"),
]

TIMES = log_times(1e-2, 5, 7)


def ensemble(scales=(1.0, 1.0)):
    keys = jax.random.split(jax.random.key(0), len(scales))
    models = eqx.filter_vmap(lambda k: MLP(3, 2, width=8, depth=1, key=k))(keys)

    def scaled(leaf):
        return leaf * np.reshape(scales, (-1, *[1] * (leaf.ndim - 1)))

    return jax.tree.map(lambda a: scaled(a) if eqx.is_array(a) else a, models)


RUNS = {
    "auto": {"rtol": 1e-3, "flows": [Gradient()]},
    "explicit": {"rtol": 1e-3, "solver": dfx.Dopri8(), "flows": [Gradient()]},
    "descent": {"flows": [Descent(0.25)], "ts": [0.2, 0.5, 0.6, 2.3]},
}


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
    given = {"flows": [Descent(0.2)], "measures": (), "progress": False}
    given |= {"segment_steps": 4, "ts": np.linspace(0.2, 6.0, 12), "throw": False}
    models = ensemble((1.0, 40.0))
    run = simulate(tiny(), ensemble=models, **given)
    assert run.reason is Reason.DIVERGED
    assert np.isfinite(run.dataset.f_train[0]).all()
    assert np.isnan(run.dataset.f_train[1, 0, -1]).all()
