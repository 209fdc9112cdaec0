"""The helper fields against their layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow import models

from . import euler


def test_time_is_the_last_input_of_the_mlp(key):
    timed = models.MLPField(3, 4, 2, "sin", concat_time=True, key=key)
    z, t = jnp.array([0.2, -0.4, 1.0]), jnp.array(0.6)
    assert (timed(t, z) == timed.mlp(jnp.array([0.2, -0.4, 1.0, 0.6]))).all()
    plain = models.MLPField(3, 4, 2, "sin", key=key)
    assert (plain(t, z) == plain.mlp(z)).all()


def test_convolutional_field_is_its_layers(key):
    z, t = jax.random.normal(key, (2, 4, 4)), jnp.array(0.6)
    field = models.ConvField(2, 3, activation="sin", concat_time=True, key=key)

    def both(field, t, z):
        clocked = jnp.concatenate([z, jnp.full((1, 4, 4), 0.6)])
        return field(t, z), field.last(jnp.sin(field.first(clocked)))

    found, expected = euler.run(both, field, t, z)
    np.testing.assert_array_equal(found, expected)


def test_invalid_field_is_refused(key):
    with pytest.raises(ValueError, match="MLPField: `size`"):
        models.MLPField(0, 4, key=key)
    with pytest.raises(ValueError, match="ConvField: `width`"):
        models.ConvField(2, 0, key=key)
