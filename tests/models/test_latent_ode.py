"""The latent ODE against its parts, and a linear field's exponential."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from ntkflow import models
from tests import tolerances

from . import euler


def test_encoder_reads_from_the_end(key):
    encoder = models.RNNEncoder(2, 3, 4, key=key)
    x = jax.random.normal(key, (3, 2))

    def both(encoder, x):
        h = jnp.zeros(4)
        for xt in (x[2], x[1], x[0]):
            h = encoder.cell(xt, h)
        return encoder(x), encoder.readout(h)

    found, expected = euler.run(both, encoder, x)
    bound = tolerances.roundoff(50)
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)


class Linear(eqx.Module):
    matrix: jax.Array

    def __call__(self, t, z):
        return self.matrix @ z


def test_series_of_a_linear_field(key):
    A = np.array([[0.2, -1.1], [0.9, -0.3]])
    ts = [0.3, 1.0, 1.4]
    encoder = models.RNNEncoder(1, 4, 3, key=key)
    decoder = models.Dense(2, 1, key=key)
    model = models.LatentODE(encoder, Linear(jnp.asarray(A)), decoder, 2, ts, key=key)
    x = jax.random.normal(key, (6, 1))
    code = np.asarray(encoder(x))
    z0 = code[:2] + np.exp(code[2:]) * np.asarray(model.noise.tree)
    expected = [decoder(jnp.asarray(scipy.linalg.expm(A * t) @ z0)) for t in ts]
    bound = tolerances.solver(1e-8)
    np.testing.assert_allclose(
        euler.run(model, x), np.ravel(expected), rtol=0, atol=bound
    )
    assert np.linalg.norm(model.noise.tree) > 0
    names = [name for name, _ in models.named_leaves(models.partition(model)[0])]
    assert not any("noise" in name for name in names)


def test_invalid_latent_model_is_refused(key):
    encoder = models.RNNEncoder(1, 3, 3, key=key)
    field, decoder = Linear(jnp.eye(2)), models.Dense(2, 1, key=key)
    with pytest.raises(ValueError, match=r"encoder must return.*\[4\] for size=2"):
        models.LatentODE(encoder, field, decoder, 2, [1.0])(jnp.ones((6, 1)))
    with pytest.raises(ValueError, match="positive increasing depths"):
        models.LatentODE(encoder, field, decoder, 2, [])
    with pytest.raises(ValueError, match=r"depth ends at t1=1\.0"):
        models.LatentODE(encoder, field, decoder, 2, [2.0], models.Depth())
