"""The time scale a model asks for."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow import models


class Timed(eqx.Module):
    time_scale: object

    def __call__(self, x):
        return x


def test_module_without_a_time_scale_runs_at_one(key):
    assert models.time_scale(eqx.nn.Linear(2, 2, key=key)) == 1


@pytest.mark.parametrize("scale", [3, 0.25, np.float32(0.5)])
def test_own_time_scale_is_used_as_a_float(scale):
    got = models.time_scale(Timed(scale))
    assert type(got) is float
    assert got == scale


@pytest.mark.parametrize("scale", [0.0, -1, float("inf"), True, "fast", jnp.ones(())])
def test_time_scale_that_is_no_positive_number_is_refused(scale):
    with pytest.raises(ValueError, match="`time_scale` of Timed must be a positive"):
        models.time_scale(Timed(scale))
