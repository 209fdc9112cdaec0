"""Flows that theory solves exactly."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import bootstrap

from ntkflow import measures
from ntkflow.data import digits
from ntkflow.flows import Gradient
from ntkflow.models import MLP, Antisymmetric, DeepLinear, DiagonalLinear
from ntkflow.problem import Problem
from ntkflow.simulate import log_times, simulate
from tests.tolerances import solver

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

quickly = pytest.mark.usefixtures("quickly_compiled")
RTOL = 1e-7
SETTINGS = {"flows": [Gradient()], "rtol": RTOL, "atol": 1e-10, "progress": False}


def orthonormal(rng, rows, columns):
    return np.linalg.qr(rng.standard_normal((rows, columns)))[0]


@quickly
@pytest.mark.filterwarnings("ignore:Errors made on the plateau")
def test_deep_linear_modes_follow_saxe():
    """u(t) = s e^{2st}/(e^{2st} − 1 + s/u₀) for aligned balanced weights; Saxe 2014."""
    rng = np.random.default_rng(0)
    strengths, start = np.array([3.0, 2.0, 1.0]), 1e-2
    left, right = orthonormal(rng, 4, 3), orthonormal(rng, 5, 3)
    inner = orthonormal(rng, 6, 3)
    x = orthonormal(rng, 12, 5)
    y = x @ (left @ np.diag(strengths) @ right.T).T
    model = DeepLinear(5, 4, width=6, depth=1, key=jax.random.key(0))
    weights = (
        jnp.asarray(np.sqrt(start) * inner @ right.T),
        jnp.asarray(np.sqrt(start) * left @ inner.T),
    )
    model = eqx.tree_at(
        lambda m: (m.layers[0].weight, m.layers[1].weight), model, weights
    )
    times = [0.3, 1.0, 2.0, 4.0]
    run = simulate(
        Problem(model, x, y), times, measures=[measures.Conservation()], **SETTINGS
    )
    for i, t in enumerate(times):
        trained = run.model_at(i)
        product = np.asarray(trained.layers[1].weight @ trained.layers[0].weight)
        grown = np.exp(2 * strengths * t)
        modes = strengths * grown / (grown - 1 + strengths / start)
        expected = left @ np.diag(modes) @ right.T
        # Growth from u₀ to s multiplies an early error by up to s/u₀.
        atol = solver(RTOL) * 3 / start
        np.testing.assert_allclose(product, expected, atol=atol)
    assert np.abs(run.dataset.conserved_drift).max() <= solver(RTOL)


@quickly
def test_bias_free_relu_conserves_each_neurons_balance():
    rng = np.random.default_rng(1)
    model = MLP(
        3, 2, width=6, depth=1, activation="relu", use_bias=False, key=jax.random.key(4)
    )
    problem = Problem(model, rng.standard_normal((4, 3)), rng.standard_normal((4, 2)))
    run = simulate(problem, [0.2, 1.0], measures=[measures.Conservation()], **SETTINGS)
    # The flow has kinks where a neuron switches; each costs a step's order.
    assert np.abs(run.dataset.conserved_drift).max() <= solver(RTOL, factor=100)


@quickly
@pytest.mark.parametrize("alpha", [0.1, 2.0])
def test_diagonal_linear_network_ends_at_its_implicit_bias(alpha):
    """Converged, asinh(β/2α²) is in the row space of X; Woodworth et al. (2020)."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((4, 8))
    y = x @ np.array([1.0, -0.5, 0, 0, 0, 0, 0, 0])
    problem = Problem(DiagonalLinear(8, alpha), x, y[:, None])
    run = simulate(problem, [300.0], measures=[measures.Conservation()], **SETTINGS)
    beta = np.asarray(run.model.beta)
    np.testing.assert_allclose(x @ beta, y, atol=solver(RTOL, factor=100))
    dual = np.arcsinh(beta / (2 * alpha**2))
    outside = dual - x.T @ np.linalg.lstsq(x.T, dual, rcond=None)[0]
    assert np.abs(outside).max() <= 1e-5 * np.abs(dual).max()
    assert np.abs(run.dataset.conserved_drift).max() <= solver(RTOL)


@pytest.mark.slow
def test_kernel_drift_falls_as_one_over_width():
    """Lee et al. (2019) bound it by n^(−1/2); smooth networks drift as n^(−1)."""
    data = digits(n_train=16, n_test=0, seed=0, targets="regression")
    widths, seeds = [64, 128, 256, 512, 1024], 8
    drifts = []
    for width in widths:

        def make(key, width=width):
            return Antisymmetric(MLP(64, 1, width=width, depth=1, key=key))

        keys = jax.random.split(jax.random.key(width), seeds)
        problem = Problem(make(keys[0]), data.x_train, data.y_train)
        run = simulate(
            problem,
            log_times(1e-2, 2.0, 3),
            ensemble=eqx.filter_vmap(make)(keys),
            measures=[measures.KernelDrift()],
            flows=[Gradient()],
            global_error=False,
            progress=False,
        )
        drifts.append(run.dataset.kernel_drift.values[:, -1])
    logs = np.log(np.stack(drifts))

    def slope(*columns):
        means = np.stack([np.mean(column, axis=-1) for column in columns])
        centered = np.log(widths) - np.mean(np.log(widths))
        return np.tensordot(centered, means, 1) / np.sum(centered**2)

    interval = bootstrap(
        tuple(logs),
        slope,
        vectorized=False,
        rng=np.random.default_rng(0),
        n_resamples=2000,
        method="percentile",
    ).confidence_interval
    print(
        f"slope {slope(*logs):.3f}, 95 % in [{interval.low:.3f}, {interval.high:.3f}]"
    )
    assert -1.15 <= interval.low <= -1 <= interval.high <= -0.85
