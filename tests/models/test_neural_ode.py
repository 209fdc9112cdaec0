"""The Neural ODE against a loop over its parts."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow import models
from tests import tolerances

from . import euler


def test_neural_ode_is_its_parts_in_order(key):
    k1, k2, k3 = jax.random.split(key, 3)
    encoder, readout = models.Dense(3, 2, key=k1), models.Dense(4, 5, key=k2)
    field = models.MLPField(4, 6, concat_time=True, key=k3)
    model = models.NeuralODE(field, encoder, readout, 2, euler.depth())
    x = jnp.array([0.3, -1.0, 0.7])
    z = np.concatenate([encoder(x), np.zeros(2)])
    expected = readout(jnp.asarray(euler.loop(field, z)[-1]))
    bound = tolerances.roundoff(100)
    np.testing.assert_allclose(euler.run(model, x), expected, rtol=0, atol=bound)


def test_states_along_depth_are_those_of_the_steps(key):
    field = models.MLPField(2, 3, key=key)
    model = models.NeuralODE(field, depth=euler.depth())
    x = jnp.array([0.3, -1.0])
    ts = euler.T * np.array([0.25, 0.5, 1.0])
    found = euler.run(lambda m, x: m.states(x, ts), model, x)
    expected = euler.loop(field, x)[[0, 1, 3]]
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerances.roundoff(100))


def test_image_is_augmented_by_channels(key):
    field = models.ConvField(3, 4, concat_time=True, key=key)
    model = models.NeuralODE(field, readout=jnp.ravel, augment=1, depth=euler.depth())
    x = jax.random.normal(key, (2, 4, 5))
    z = np.concatenate([x, np.zeros((1, 4, 5))])
    expected = euler.loop(field, z)[-1].ravel()
    bound = tolerances.roundoff(300)
    np.testing.assert_allclose(euler.run(model, x), expected, rtol=0, atol=bound)


def test_float32_stays_float32(key):
    field = models.MLPField(2, 3, concat_time=True, key=key, dtype=jnp.float32)
    model = models.NeuralODE(field)
    out = jax.eval_shape(model, jax.ShapeDtypeStruct((2,), jnp.float32))
    assert out.dtype == jnp.float32


def test_all_parts_but_the_solve_are_trained(key):
    field = models.MLPField(3, 4, key=key)
    depth = models.Depth(controller=controller_with_arrays())
    model = models.NeuralODE(field, models.Dense(2, 2, key=key), None, 1, depth)
    params, _ = models.partition(model)
    names = {name for name, _ in models.named_leaves(params)}
    assert names == {
        "encoder.weight",
        "encoder.bias",
        *(f"field.mlp.layers[{i}].{p}" for i in (0, 1) for p in ("weight", "bias")),
    }


def controller_with_arrays():
    pid = diffrax.PIDController(rtol=1e-8, atol=1e-8)
    return diffrax.ClipStepSizeController(pid, step_ts=jnp.array([0.5]))


def test_field_of_another_shape_is_refused(key):
    field = models.MLPField(3, 4, key=key)

    class Wrong(eqx.Module):
        def __call__(self, t, z):
            return field(t, z)[:2]

    model = models.NeuralODE(Wrong())
    with pytest.raises(
        ValueError, match=r"Wrong must return.*\[3\] float64.*got \[2\]"
    ):
        jax.eval_shape(model, jnp.ones(3))
    with pytest.raises(ValueError, match=r"MLP takes ONE example of shape \(3,\)"):
        jax.eval_shape(models.NeuralODE(field, augment=1), jnp.ones(3))


def test_state_that_cannot_be_is_refused(key):
    field = models.MLPField(1, 2, key=key)
    with pytest.raises(ValueError, match="`augment` must be an integer of at least 0"):
        models.NeuralODE(field, augment=-1)
    with pytest.raises(ValueError, match="state must be real, got int64"):
        models.NeuralODE(field)(jnp.ones(1, int))
    with pytest.raises(ValueError, match=r"augment=1 appends along.*has none"):
        models.NeuralODE(field, augment=1)(jnp.ones(()))
