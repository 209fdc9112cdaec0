"""The continuous normalizing flow beside its closed form, which is an oracle's."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow import models
from tests import tolerances

from . import euler


def test_probes_of_every_sign_give_the_exact_trace(key):
    """(±1, ±1): the mean of εᵀAε over all four is the trace, for every step alike."""
    field = models.MLPField(2, 4, concat_time=True, key=key)
    x = jnp.array([0.5, -1.2])
    exact = models.CNF(field, 2, depth=euler.depth())
    probed = models.CNF(field, 2, 4, euler.depth(), key=key)
    signs = jnp.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], jnp.int8)
    every = eqx.tree_at(lambda m: m.probes.tree, probed, signs)

    def both(every, exact, x):
        return every(x), exact(x)

    found, expected = euler.run(both, every, exact, x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerances.roundoff(100))
    assert probed.probes.tree.shape == (4, 2)
    assert set(np.unique(probed.probes.tree)) <= {-1, 1}


def test_invalid_flow_is_refused(key):
    field = models.MLPField(2, 4, key=key)
    with pytest.raises(ValueError, match="need a `key`"):
        models.CNF(field, 2, probes=3)
    with pytest.raises(ValueError, match="`probes`"):
        models.CNF(field, 2, probes=0, key=key)
    with pytest.raises(ValueError, match=r"ONE example of shape \[2\], got \[5, 2\]"):
        models.CNF(field, 2)(jnp.ones((5, 2)))
