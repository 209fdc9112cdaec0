"""What `on_segment` is told, and what becomes of what it raises."""

import equinox as eqx
import jax
import numpy as np
import pytest
import xarray as xr

from ntkflow.flows import Gradient, Residual
from ntkflow.models import MLP
from ntkflow.simulate import SegmentRecord, log_times, simulate
from tests.simulate.problems import tiny

pytestmark = pytest.mark.usefixtures("quickly_compiled")

TIMES = log_times(1e-2, 4, 5)
SETTINGS = {
    "flows": [Gradient(), Residual("evolving")],
    "measures": (),
    "segment_steps": 4,
    "progress": False,
}


def test_every_segment_of_the_run_is_told():
    told: list[SegmentRecord] = []
    problem = tiny()
    run = simulate(problem, TIMES, on_segment=told.append, **SETTINGS)
    steps = [record.steps for record in told]
    assert steps[0] == 1
    assert max(np.diff(steps)) <= 4
    last = told[-1]
    assert last.flows == ("gradient", "residual_evolving")
    assert last.t == TIMES[-1]
    for name in ("steps", "rejected", "gradients"):
        assert getattr(last, name) == run.stats[name], name
    assert last.seconds == run.stats["seconds"]
    assert last.loss == {
        "gradient": pytest.approx(float(run.dataset.loss_train[0, -1]))
    }
    assert [type(v) for v in last[1:6]] == [float, int, int, int, float]


def test_an_ensemble_tells_of_every_member():
    told = []
    keys = jax.random.split(jax.random.key(0), 2)
    models = eqx.filter_vmap(lambda k: MLP(3, 2, width=8, depth=1, key=k))(keys)
    run = simulate(tiny(), TIMES, ensemble=models, on_segment=told.append, **SETTINGS)
    last = told[-1]
    np.testing.assert_array_equal(last.t, [TIMES[-1]] * 2)
    assert last.steps.sum() == run.stats["steps"]
    assert last.gradients.sum() == run.stats["gradients"]
    np.testing.assert_allclose(last.loss["gradient"], run.dataset.loss_train[:, 0, -1])


def test_what_a_callback_raises_finds_the_run_on_disk(tmp_path):
    whole = simulate(tiny(), TIMES, **SETTINGS)
    kept = SETTINGS | {"checkpoint": tmp_path}
    seen = []

    def stop_at_the_third(record):
        seen.append(record.steps)
        if len(seen) == 3:
            raise RuntimeError("the logger is gone")

    with pytest.raises(RuntimeError, match="the logger is gone"):
        simulate(tiny(), TIMES, on_segment=stop_at_the_third, **kept)
    resumed = simulate(tiny(), TIMES, resume=True, on_segment=seen.append, **kept)
    # It goes on behind the segment that was told.
    assert seen[3].steps > seen[2]
    xr.testing.assert_identical(
        whole.dataset.drop_attrs(), resumed.dataset.drop_attrs()
    )
    assert resumed.stats["steps"] == whole.stats["steps"]
