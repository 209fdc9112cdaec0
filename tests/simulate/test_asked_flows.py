"""Results are those of the flows that the caller named, in the order named."""

import equinox as eqx
import jax
import numpy as np
import pytest

from ntkflow import measures
from ntkflow.flows import Descent, Gradient, Modified, Momentum, Residual
from ntkflow.simulate import LossBelow, simulate
from tests.simulate.problems import dense_kernel, frozen_outputs, tiny
from tests.tolerances import roundoff, solver

pytestmark = [
    pytest.mark.usefixtures("cheaply_compiled"),
    pytest.mark.usefixtures("quickly_compiled"),
]

ETA = 0.02


@pytest.mark.parametrize(
    "asked",
    [
        Momentum(1.0),
        pytest.param(Descent(ETA), marks=pytest.mark.slow),
        pytest.param(Modified(Descent(ETA)), marks=pytest.mark.slow),
    ],
)
def test_measures_events_and_model_follow_the_first_flow_named(asked):
    """A residual flow brings gradient flow along, which is not what was asked for."""
    problem, times = tiny(), ETA * np.array([2, 400])
    start = float(problem.objective(problem.params))
    run = simulate(
        problem,
        times,
        flows=[asked, Residual("evolving")],
        measures=[measures.KernelDrift()],
        events=[LossBelow(0.5)],
        dense=True,
        progress=False,
    )
    assert run.dataset.attrs["measured_on"] == asked.name

    assert list(run.dataset.flow.values) == [
        asked.name,
        "residual_evolving",
        "gradient",
    ]
    last = run.dataset.f_train.sel(flow=asked.name).isel(time=-1)
    f = jax.vmap(run.model)(problem.x)
    np.testing.assert_allclose(f, last, rtol=0, atol=roundoff(100))
    params = eqx.filter(run.model, problem.trainable)
    moved = dense_kernel(problem.with_parts(params, problem.static))
    first = dense_kernel(problem)
    drift = np.linalg.norm(moved - first) / np.linalg.norm(first)
    np.testing.assert_allclose(run.dataset.kernel_drift[-1], drift, rtol=1e-9)
    # The event is the first flow's too: it is there that its loss is half.
    at_stop = run.evaluate(run.stats["stopped_at"])[asked.name].train
    loss = float(problem.loss_of(at_stop, problem.y))
    assert loss == pytest.approx(0.5 * start, rel=1e-6)


def test_the_flow_axis_is_in_the_order_asked():
    """Flows of several solves, the measured one last of them."""
    flows = [Gradient(), Descent(ETA), Residual("frozen")]
    run = simulate(tiny(), [0.1], flows=flows, measures=(), progress=False)
    assert list(run.dataset.flow.values) == [flow.name for flow in flows]
    problem = tiny()
    frozen = run.dataset.f_train.sel(flow="residual_frozen").isel(time=0)
    expected = frozen_outputs(problem, 0.1)
    np.testing.assert_allclose(frozen, expected, rtol=0, atol=solver(1e-4))
