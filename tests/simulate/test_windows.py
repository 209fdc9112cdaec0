"""Save times that do not all fit in a segment, as of models whose states are large."""

import diffrax as dfx
import numpy as np
import pytest

from ntkflow.flows import Descent, Gradient, Linearized, Momentum
from ntkflow.simulate import _integrate, simulate
from ntkflow.solvers import Chebyshev
from tests.simulate.problems import tiny
from tests.tolerances import solver

pytestmark = pytest.mark.usefixtures("quickly_compiled")

RTOL = 1e-3
SETTINGS = {"measures": (), "progress": False, "rtol": RTOL, "atol": 1e-6}
# Six in a cluster that one step passes, and single ones before and behind.
TIMES = np.asarray([0.01, 0.5, 0.501, 0.502, 0.503, 0.504, 0.505, 1.0, 1.5])
FIXED = {"solver": dfx.Euler(), "controller": dfx.ConstantStepSize(), "dt0": 0.05}


@pytest.mark.parametrize(
    "options",
    [
        {"flows": [Gradient(), Linearized()]},
        {"flows": [Gradient()], "solver": dfx.Tsit5()},
        {"flows": [Gradient()], "solver": Chebyshev()},
        {"flows": [Momentum(1.0)]},
        {"flows": [Descent(0.05)]},
        {"flows": [Gradient()], **FIXED},
    ],
    ids=["auto", "explicit", "stabilized", "heavy ball", "descent", "fixed"],
)
@pytest.mark.parametrize("count", [1, 3])
def test_save_times_beyond_a_segment_are_all_there(options, count, monkeypatch):
    problem = tiny()
    whole = simulate(problem, TIMES, **SETTINGS | options).dataset
    monkeypatch.setattr(_integrate, "_WINDOW_BYTES", count * 8 * problem.n_params)
    narrow = simulate(problem, TIMES, **SETTINGS | options).dataset
    np.testing.assert_array_equal(narrow.time, TIMES)
    wrong = np.abs(narrow.f_train - whole.f_train).max()
    assert wrong <= solver(RTOL) * float(np.abs(whole.f_train).max())
    assert np.isfinite(narrow.f_train).all()


def test_segments_do_not_matter_where_save_times_are_many(monkeypatch):
    problem = tiny()
    monkeypatch.setattr(_integrate, "_WINDOW_BYTES", 2 * 8 * problem.n_params)
    runs = [
        simulate(problem, TIMES, flows=[Gradient()], segment_steps=n, **SETTINGS)
        for n in (1, 3, 256)
    ]
    for run in runs[1:]:
        np.testing.assert_array_equal(run.dataset.f_train, runs[0].dataset.f_train)
