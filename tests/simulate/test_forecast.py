"""The model of work that `auto` decides by, against work that was measured."""

import numpy as np
import pytest

from ntkflow.flows import Gradient, Linearized, Residual
from ntkflow.kernels import plan
from ntkflow.simulate import _forecast
from ntkflow.simulate._forecast import (
    CHEBYSHEV,
    EXPLICIT,
    EXPONENTIAL,
    IMPLICIT,
    ROCK4,
    Prices,
    Stand,
    forecast,
    forecast_lazy,
    price,
)
from ntkflow.simulate._integrate import prepare
from ntkflow.simulate._plan import plan_solves
from tests.simulate.problems import tiny

NARROW = Prices(5.6e6, 33.0, 152.0, 1107.0, 1, 1)
"""A network of width 64 on 100 digits."""


def stand(stiffness, rtol):
    return Stand(0.0, 1.0, stiffness, 0.0, rtol)


@pytest.mark.parametrize(
    ("name", "stiffness", "rtol", "measured"),
    [
        (EXPLICIT, 1.5e4, 1e-3, 41_904),
        (CHEBYSHEV, 1.5e4, 1e-2, 712),
        (CHEBYSHEV, 1.5e4, 1e-3, 1_016),
        (CHEBYSHEV, 1.5e4, 1e-5, 3_587),
        (CHEBYSHEV, 1.5e4, 1e-6, 8_286),
        (CHEBYSHEV, 1e6, 1e-3, 5_213),
        (ROCK4, 1.5e4, 1e-5, 4_000),
        (ROCK4, 1.5e4, 1e-7, 7_400),
        (IMPLICIT, 1.5e4, 1e-3, 38 * (12 + 33 + 152)),
        (IMPLICIT, 1.5e4, 1e-4, 73 * (12 + 33 + 152)),
    ],
)
def test_forecasts_are_within_a_factor_of_two(name, stiffness, rtol, measured):
    """Digits, width 64; the measurements are in docs/choosing-a-solver.md."""
    found = forecast(name, stand(stiffness, rtol), NARROW)
    assert measured / 2 < found < 2 * measured


def test_work_grows_with_stiffness_as_was_measured():
    for name, exponent in ((EXPLICIT, 1.0), (CHEBYSHEV, 0.39), (IMPLICIT, 0.02)):
        stiffness = np.asarray([1e5, 1e6, 1e7])
        work = [forecast(name, stand(value, 1e-3), NARROW) for value in stiffness]
        slope = np.polyfit(np.log(stiffness), np.log(work), 1)[0]
        assert abs(slope - exponent) < 0.1, name


def test_a_flow_that_softens_stays_cheap_for_the_explicit_method():
    constant = Stand(1.0, 1e4, 3.0, 0.0, 1e-3)
    falling = constant._replace(decay=1.0)
    assert forecast(EXPLICIT, constant, NARROW) > 1e4
    steps = 4.0 * np.log(1e4)
    np.testing.assert_allclose(
        forecast(EXPLICIT, falling, NARROW), 6 * steps, rtol=1e-6
    )


def test_a_lazy_run_costs_little_more_than_a_decomposition():
    assert forecast_lazy(NARROW) < 1.5 * (33 + 1107) + 200
    assert forecast_lazy(NARROW) < forecast(EXPONENTIAL, stand(1e4, 1e-3), NARROW)


def prices_of(flows, problem):
    planned = plan_solves(
        flows,
        problem,
        solver="auto",
        controller=None,
        dt0=None,
        rtol=1e-3,
        atol=1e-5,
        events=(),
        dense_steps=0,
    )
    solve = planned[0].solve
    state = solve.coupled.pack(solve.coupled.init(problem))
    return price(solve, problem, prepare(solve, problem), state)


def test_prices_count_operations():
    problem = tiny()
    flows = (Gradient(), Residual("evolving"), Residual("frozen"), Linearized())
    many, one = prices_of(flows, problem), prices_of(flows[:1], problem)
    assert (one.moving, one.all) == (1, 1)
    assert (many.moving, many.all) == (1, 2)
    assert many.evaluation > one.evaluation
    built = plan(problem.model, problem.x, outputs="full").flops
    np.testing.assert_allclose(one.kernel, built / one.evaluation)
    assert one.eigen > one.cholesky > 0


def test_prices_are_found_once_for_runs_of_one_shape(monkeypatch):
    """To plan a kernel takes longer than many a run."""
    asked = []

    def counted(*given, **more):
        asked.append(None)
        return plan(*given, **more)

    monkeypatch.setattr(_forecast, "plan", counted)
    sizes = (11, 11, 13)
    found = [prices_of((Gradient(),), tiny(n=n)) for n in sizes]
    assert len(asked) == 2
    assert found[0] == found[1] != found[2]
