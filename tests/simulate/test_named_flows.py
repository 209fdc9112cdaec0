"""Flows of one kind side by side, each under a name of its own."""

import diffrax as dfx
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from ntkflow import measures
from ntkflow.flows import (
    Coupled,
    Descent,
    Gradient,
    Linearized,
    Modified,
    Momentum,
    Residual,
    kind_of,
)
from ntkflow.simulate import Trajectory, simulate
from ntkflow.simulate._plan import complete_flows
from tests.simulate.problems import frozen_outputs, tiny
from tests.simulate.test_descent import loop
from tests.tolerances import roundoff

pytestmark = [
    pytest.mark.usefixtures("cheaply_compiled"),
    pytest.mark.usefixtures("quickly_compiled"),
]

ETA = 0.02


def test_descents_of_two_rates_run_in_one_call(tmp_path):
    """Each equals its loop; a name may be anything that a person would write."""
    problem, times = tiny(), 8 * ETA * np.array([1, 5])
    rates = {"slow": ETA, "η = 0.08, it's [fast]": 4 * ETA}
    run = simulate(
        problem,
        times,
        flows=[Descent(rate, name=name) for name, rate in rates.items()],
        measures=(),
        checkpoint=tmp_path / "checkpoint",
        progress=False,
    )
    run.save(tmp_path / "run")
    for kept in (
        run,
        Trajectory.load(tmp_path / "run"),
        Trajectory.load(tmp_path / "checkpoint"),
    ):
        dataset = kept.dataset
        assert list(dataset.flow.values) == list(rates)
        assert list(dataset.flow_kind.values) == ["descent", "descent"]
        assert dataset.attrs["measured_on"] == "slow"
        for name, rate in rates.items():
            updates = np.round(times / rate).astype(int)
            _, unravel = ravel_pytree(problem.params)
            for i, theta in enumerate(loop(problem, rate, updates[-1])[updates]):
                expected = problem.outputs(unravel(theta), problem.x)
                found = dataset.f_train.sel(flow=name).isel(time=i)
                np.testing.assert_allclose(found, expected, rtol=0, atol=roundoff(1000))


def test_a_named_linearized_flow_serves_its_measure():
    """Its gap to itself under another solver is that of the solvers."""
    problem = tiny()
    run = simulate(
        problem,
        [0.5],
        flows=[Gradient(name="network"), Residual(), Linearized(name="tangent")],
        solver={"tangent": dfx.Dopri8()},
        measures=[measures.LinearizationGap()],
        progress=False,
    )
    dataset = run.dataset
    assert list(dataset.flow.values) == ["network", "residual_evolving", "tangent"]
    f = dataset.f_train.isel(time=0)
    gap = f.sel(flow="network") - f.sel(flow="tangent")
    rms = np.sqrt((gap**2).mean()) / np.sqrt((dataset.y_train**2).mean())
    np.testing.assert_allclose(dataset.linearization_gap[0], rms, rtol=1e-12)
    exact = frozen_outputs(problem, 0.5)
    np.testing.assert_allclose(f.sel(flow="tangent"), exact, atol=1e-3)
    assert np.abs(f.sel(flow="network") - f.sel(flow="residual_evolving")).max() < 1e-3


def test_a_residual_flow_runs_along_the_gradient_flow_that_is_there():
    def along(*flows):
        completed = complete_flows(flows, ())
        return [flow.name for flow in completed], completed[0].along

    residual = Residual("evolving", name="r")
    assert along(residual) == (["r", "gradient"], "gradient")
    assert along(residual, Gradient(name="g")) == (["r", "g"], "g")
    assert along(residual, Gradient(), Gradient(name="g"))[1] == "gradient"
    both = Residual("evolving", along="b"), Gradient(name="a"), Gradient(name="b")
    assert along(*both)[1] == "b"
    with pytest.raises(
        ValueError, match=r"runs along nf\.flows\.Gradient\(\), not 'a'"
    ):
        along(Residual("evolving", along="a"), Momentum(name="a"))
    with pytest.raises(ValueError, match="flow for r to run along 'c'"):
        along(Residual("evolving", along="c", name="r"), Gradient(name="d"))


FLOWS = (
    Gradient(),
    Momentum(),
    Descent(ETA),
    Modified(Descent(ETA)),
    Residual("evolving"),
    Residual("frozen"),
    Linearized(),
)


def test_kinds_are_the_names_that_flows_begin_with():
    assert [kind_of(flow) for flow in FLOWS] == [flow.name for flow in FLOWS]
    named = (
        Gradient(name="a"),
        Momentum(name="b"),
        Descent(ETA, name="c"),
        Modified(Descent(ETA), name="d"),
        Residual("evolving", "a", name="e"),
        Residual("frozen", name="f"),
        Linearized(name="g"),
    )
    assert [flow.name for flow in named] == list("abcdefg")
    assert [kind_of(flow) for flow in named] == [kind_of(flow) for flow in FLOWS]
    assert Coupled(FLOWS + named).names == [flow.name for flow in FLOWS + named]


@pytest.mark.parametrize("flow", FLOWS, ids=kind_of)
def test_two_flows_of_one_name_are_refused_with_the_remedy(flow):
    gradient = () if flow.along is None else (Gradient(),)
    remedy = rf"{type(flow).__name__}\(\.\.\., name=\"{flow.name}_2\"\)"
    with pytest.raises(ValueError, match=rf"'{flow.name}' is given twice.*{remedy}"):
        Coupled((*gradient, flow, flow))


@pytest.mark.parametrize("name", ["", "a/b", "origin", "events", "quadrature"])
def test_names_that_mean_something_else_are_refused(name):
    with pytest.raises(ValueError, match="name must be a text"):
        Coupled((Momentum(name=name),))
