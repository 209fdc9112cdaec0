import jax
import numpy as np
import pytest

from ntkflow import measures
from ntkflow.flows import Momentum
from ntkflow.models import MLP
from ntkflow.problem import Problem
from ntkflow.simulate import simulate
from ntkflow.solvers import KernelImplicit
from tests.simulate.problems import dense_kernel
from tests.tolerances import solver

pytestmark = pytest.mark.usefixtures("cheaply_compiled")


@pytest.mark.parametrize(
    ("damping", "method", "rtol"),
    [(0.4, "auto", 1e-7), (8.0, "auto", 1e-7), (0.4, KernelImplicit(), 1e-4)],
)
def test_heavy_ball_of_a_linear_model_matches_damped_oscillators(damping, method, rtol):
    """Each mode of f̈ + γḟ = −Kr from rest is a damped oscillator."""
    key = jax.random.key(2)
    x = jax.random.normal(key, (4, 3))
    y = jax.random.normal(jax.random.fold_in(key, 1), (4, 2))
    problem = Problem(MLP(3, 2, width=1, depth=0, key=key), x, y)
    times = [0.5, 2.0, 6.0]
    run = simulate(
        problem,
        times,
        flows=[Momentum(damping)],
        measures=[measures.EnergyDefect()],
        solver=method,
        rtol=rtol,
        atol=0.01 * rtol,
        progress=False,
    )
    rates, modes = np.linalg.eigh(dense_kernel(problem))
    r0 = np.asarray(problem.outputs(problem.params, x) - y).ravel()
    for t, f in zip(times, run.dataset.f_train.values[0], strict=True):
        root = np.sqrt(damping**2 / 4 - rates + 0j)
        decay = np.exp(-damping * t / 2)
        shape = np.cosh(root * t) + damping / 2 * np.sinh(root * t) / root
        expected = modes @ ((decay * shape).real * (modes.T @ r0))
        found = (f - np.asarray(y)).ravel()
        atol = solver(rtol) * np.linalg.norm(r0)
        np.testing.assert_allclose(found, expected, atol=atol)
    assert np.abs(run.dataset.energy_defect).max() <= solver(rtol)
