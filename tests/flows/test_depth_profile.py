"""Kernels along depth, and residual networks as steps in depth."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow import flows, models

from ..compilation import QUICK
from ..kernels import quick

T = 1.5
X = np.array([[0.5], [-0.8], [1.1]])


class Exponential(eqx.Module):
    """v = θz."""

    theta: jax.Array

    def __call__(self, t, z):
        return self.theta * z


def test_profile_is_the_closed_form():
    """z = xe^{θt}, Θ(t) = t²xx'e^{2θt}."""
    theta, ts = 0.6, np.array([0.3, 0.9, T])
    depth = models.Depth(T, solver=diffrax.Bosh3(), rtol=1e-8, atol=1e-8)
    model = models.NeuralODE(Exponential(jnp.asarray(theta)), depth=depth)
    profile = jax.jit(
        lambda x: flows.depth_profile(model, x, ts)[1:], compiler_options=QUICK
    )
    features, kernels = profile(jnp.asarray(X))
    grown = np.exp(2 * theta * ts)[:, None, None] * (X @ X.T)
    np.testing.assert_allclose(features, grown, rtol=1e-6)
    np.testing.assert_allclose(kernels, ts[:, None, None] ** 2 * grown, rtol=1e-6)


@pytest.mark.slow
def test_layers_approach_depth_at_first_order(key):
    """L layers z + (t1/L) v(z) that share their parameters, against none at all."""
    field = models.MLPField(2, 4, key=key, w_std=1.5)
    x = jnp.asarray([[0.5, -0.2], [0.3, 1.0]])

    def kernel(**settings):
        model = models.NeuralODE(field, depth=models.Depth(T, **settings))
        return quick.ntk(model, x)

    exact = kernel(solver=diffrax.Bosh3(), rtol=1e-7, atol=1e-7)
    layers, gaps = np.array([16, 32, 64]), []
    for count in layers:
        controller = diffrax.ConstantStepSize()
        found = kernel(solver=diffrax.Euler(), controller=controller, dt0=T / count)
        gaps.append(np.linalg.norm(found - exact))
    slope = np.polyfit(np.log(layers), np.log(gaps), 1)[0]
    assert slope == pytest.approx(-1, abs=0.1)


def test_profile_that_cannot_be_is_refused(key):
    with pytest.raises(ValueError, match="takes a NeuralODE, got MLP"):
        flows.depth_profile(models.MLP(1, 1, 2, 1, key=key), jnp.asarray(X), np.ones(1))
    model = models.NeuralODE(Exponential(jnp.asarray(0.1)), depth=models.Depth(T))
    with pytest.raises(ValueError, match=r"ends at t1=1\.5"):
        flows.depth_profile(model, jnp.asarray(X), np.array([1.0, 2.0]))
