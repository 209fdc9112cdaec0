import diffrax as dfx
import jax.tree_util as jtu
import numpy as np

from ntkflow.flows import Gradient
from ntkflow.simulate import simulate
from tests.simulate.problems import tiny
from tests.tolerances import roundoff


def test_explicit_euler_equals_gradient_descent():
    problem = tiny()
    eta, steps = 0.02, 100
    run = simulate(
        problem,
        eta * np.arange(10, steps + 1, 10),
        flows=[Gradient()],
        measures=(),
        solver=dfx.Euler(),
        controller=dfx.ConstantStepSize(),
        dt0=eta,
        progress=False,
    )
    params = problem.params
    for _ in range(steps):
        gradient = problem.gradient(params)
        params = jtu.tree_map(lambda p, g: p - eta * g, params, gradient)
    found = run.model
    for name, leaf in run.params.items():
        assert leaf.shape[0] == 10, name
    for a, b in zip(
        jtu.tree_leaves(problem.model_of(params)), jtu.tree_leaves(found), strict=True
    ):
        if hasattr(a, "dtype"):
            np.testing.assert_allclose(a, b, rtol=roundoff(steps), atol=roundoff(steps))
    assert run.stats["evaluations"] == run.stats["steps"] == steps
