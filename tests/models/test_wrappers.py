"""Scaled and Antisymmetric: exact zeros, kernels, and what is trained."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from ntkflow import models
from tests import tolerances
from tests.models.jacobians import jacobian, kernel

pytestmark = pytest.mark.usefixtures("cheaply_compiled")


def mlp(key, **kwargs):
    return models.MLP(3, 2, 8, 2, key=key, **kwargs)


def batch():
    return jax.random.normal(jax.random.key(5), (4, 3))


def moved(model):
    """The model with every trained leaf shifted."""
    params, static = models.partition(model)
    return eqx.combine(jax.tree.map(lambda p: p + 0.1 * jnp.sin(p), params), static)


def starts_at_zero(model):
    x = batch()
    single = np.stack([model(x_i) for x_i in x])
    jitted = eqx.filter_jit(lambda m, xs: jax.vmap(m)(xs))(model, x)
    np.testing.assert_array_equal(single, np.zeros((4, 2)))
    np.testing.assert_array_equal(jitted, np.zeros((4, 2)))


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_centered_model_starts_at_zero(key, activation):
    starts_at_zero(models.Scaled(mlp(key, activation=activation), alpha=7.3))


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_antisymmetric_model_starts_at_zero(key, activation):
    starts_at_zero(models.Antisymmetric(mlp(key, activation=activation)))


def test_scaled_model_is_alpha_times_the_change(key):
    inner = mlp(key)
    scaled = moved(models.Scaled(inner, alpha=3))
    x = batch()[0]
    np.testing.assert_allclose(
        scaled(x),
        3.0 * (moved(inner)(x) - inner(x)),
        rtol=0,
        atol=tolerances.roundoff(50),
    )


def test_uncentered_model_is_alpha_times_the_model(key):
    inner, x = mlp(key), batch()[0]
    scaled = models.Scaled(inner, alpha=0.5, centered=False)
    assert scaled.initial is None
    np.testing.assert_array_equal(scaled(x), 0.5 * inner(x))


@pytest.mark.parametrize("centered", [True, False])
def test_scaled_kernel_is_alpha_squared_times_the_kernel(key, centered):
    inner, x = mlp(key), batch()
    expected = 9.0 * kernel(inner, x)
    np.testing.assert_allclose(
        kernel(models.Scaled(inner, 3.0, centered), x),
        expected,
        rtol=0,
        atol=tolerances.roundoff(100) * np.abs(expected).max(),
    )


def test_antisymmetric_model_keeps_the_kernel(key):
    inner, x = mlp(key), batch()
    expected = kernel(inner, x)
    np.testing.assert_allclose(
        kernel(models.Antisymmetric(inner), x),
        expected,
        rtol=0,
        atol=tolerances.roundoff(200) * np.abs(expected).max(),
    )


def test_antisymmetric_kernel_stands_still_at_first(key):
    # K₃(0) = 0: the kernel's derivative along Jᵀv vanishes for every v.
    x = batch()

    def derivative(model):
        params, static = models.partition(model)
        flat, unravel = ravel_pytree(params)
        v = jax.random.normal(jax.random.key(8), (8,))
        direction = jacobian(model, x).T @ v
        return jax.jvp(
            lambda p: kernel(eqx.combine(unravel(p), static), x), (flat,), (direction,)
        )[1]

    generic = derivative(mlp(key))
    antisymmetric = derivative(models.Antisymmetric(mlp(key)))
    scale = np.abs(generic).max()
    assert scale > 1e-2
    assert np.abs(antisymmetric).max() <= tolerances.roundoff(1000) * scale


def test_frozen_copy_is_not_trained(key):
    inner = mlp(key)
    scaled = models.Scaled(inner, alpha=2.0)
    params, static = models.partition(scaled)
    names = [name for name, _ in models.named_leaves(params)]
    inner_names = [n for n, _ in models.named_leaves(models.partition(inner)[0])]
    assert names == [f"model.{name}" for name in inner_names]
    assert jax.tree.leaves(params.initial) == []
    frozen_leaves = jax.tree.leaves(eqx.filter(static.initial, eqx.is_array))
    assert len(frozen_leaves) == len(inner_names)


def test_both_halves_are_trained_and_own_their_arrays(key):
    inner = mlp(key)
    params, _ = models.partition(models.Antisymmetric(inner))
    named = models.named_leaves(params)
    assert len(named) == 2 * len(models.named_leaves(models.partition(inner)[0]))
    assert len({id(leaf) for _, leaf in named}) == len(named)
    assert len({leaf.unsafe_buffer_pointer() for _, leaf in named}) == len(named)


def test_halves_keep_their_frozen_leaves_frozen(key):
    inner = eqx.tree_at(lambda m: m.layers[0], mlp(key), replace_fn=models.Frozen)
    names = [
        name
        for name, _ in models.named_leaves(
            models.partition(models.Antisymmetric(inner))[0]
        )
    ]
    assert not any("layers[0]" in name for name in names)
    assert "b.layers[1].weight" in names


def test_time_scales_of_wrappers_multiply(key):
    inner = mlp(key, parameterization="mean_field")
    assert models.time_scale(models.Antisymmetric(inner)) == 8
    scaled = models.Scaled(models.Antisymmetric(inner), 4.0)
    assert 2 * models.time_scale(scaled) == 1
    assert 8 * models.time_scale(models.Scaled(scaled, 2)) == 1


def test_wrappers_take_plain_equinox_modules(key):
    inner = eqx.nn.MLP(3, 2, 8, 1, key=key)
    starts_at_zero(models.Scaled(models.Antisymmetric(inner), 10.0))


def test_wrappers_keep_float32(key):
    model = models.Scaled(models.Antisymmetric(mlp(key, dtype=jnp.float32)), alpha=2.5)
    assert moved(model)(batch()[0].astype(jnp.float32)).dtype == jnp.float32


def test_centered_model_has_the_change_as_input_gradient(key):
    inner, x = mlp(key), batch()[0]
    scaled = moved(models.Scaled(inner, 2.0))
    np.testing.assert_allclose(
        jax.jacrev(scaled)(x),
        2.0 * (jax.jacrev(moved(inner))(x) - jax.jacrev(inner)(x)),
        rtol=0,
        atol=tolerances.roundoff(100),
    )


@pytest.mark.parametrize("alpha", [0.0, -1, float("inf"), float("nan")])
def test_scale_that_is_not_positive_is_refused(key, alpha):
    with pytest.raises(ValueError, match="Scaled: `alpha` must be positive and finite"):
        models.Scaled(mlp(key), alpha)


def test_wrapped_model_refuses_a_batch(key):
    with pytest.raises(ValueError, match="MLP takes ONE example"):
        models.Scaled(models.Antisymmetric(mlp(key)), 2.0)(batch())
