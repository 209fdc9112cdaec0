"""Which leaves are trained, for modules of every make."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow import models


class Zoo(eqx.Module):
    """One leaf of every kind that a user's module may hold."""

    linear: eqx.nn.Linear
    frozen: models.Frozen
    steps: jax.Array
    scale: float
    table: np.ndarray
    by_name: dict[str, jax.Array]
    activation: Any
    label: str = eqx.field(static=True)

    def __init__(self, key):
        a, b = jax.random.split(key)
        self.linear = eqx.nn.Linear(3, 3, use_bias=False, key=a)
        self.frozen = models.Frozen(eqx.nn.Linear(3, 3, key=b))
        self.steps = jnp.arange(4)
        self.scale = 0.5
        self.table = np.ones(3)
        self.by_name = {"gain": jnp.ones(3)}
        self.activation = jnp.tanh
        self.label = "zoo"

    def __call__(self, x):
        h = self.activation(self.frozen(x)) * self.by_name["gain"]
        return self.scale * self.linear(h) + jnp.asarray(self.table)


def names(model, trainable=None):
    return [n for n, _ in models.named_leaves(models.partition(model, trainable)[0])]


def test_inexact_arrays_outside_frozen_are_trained(key):
    assert names(Zoo(key)) == ["linear.weight", "table", "by_name['gain']"]


def test_combine_undoes_partition(key):
    model = Zoo(key)
    params, static = models.partition(model)
    assert eqx.tree_equal(eqx.combine(params, static), model)
    assert jax.tree.structure(
        params, is_leaf=lambda leaf: leaf is None
    ) == jax.tree.structure(model, is_leaf=lambda leaf: leaf is None)


def test_partition_works_under_jit_and_grad(key):
    params, static = models.partition(Zoo(key))
    x = jnp.arange(3.0)

    @eqx.filter_jit
    def gradient(params, static):
        def loss(p):
            inner, rest = models.partition(eqx.combine(p, static))
            return jnp.sum(eqx.combine(inner, rest)(x))

        return jax.grad(loss)(params)

    found = dict(models.named_leaves(gradient(params, static)))
    np.testing.assert_allclose(found["table"], np.ones(3), rtol=0, atol=0)


def test_function_selects_among_trainable_arrays(key):
    # It is never asked about an activation or an integer, which have no `ndim == 2`.
    assert names(Zoo(key), lambda leaf: leaf.ndim == 2) == ["linear.weight"]


def test_pytree_of_bools_selects_leaves(key):
    model = Zoo(key)
    nothing = jax.tree.map(lambda _: False, model)
    readout = eqx.tree_at(lambda m: m.linear.weight, nothing, True)
    assert names(model, readout) == ["linear.weight"]


def test_prefix_selects_subtrees(key):
    model = eqx.nn.Sequential([
        eqx.nn.Linear(2, 2, key=key),
        eqx.nn.Linear(2, 2, key=jax.random.key(1)),
    ])
    prefix = eqx.tree_at(lambda m: m.layers, model, (False, True))
    assert names(model, prefix) == ["layers[1].weight", "layers[1].bias"]


def test_filter_cannot_thaw_frozen_or_integer_leaves(key):
    model = Zoo(key)
    everything = jax.tree.map(lambda _: True, model)
    assert names(model, everything) == names(model)
    assert names(model, lambda _: True) == names(model)


def test_frozen_part_still_passes_input_gradients(key):
    model = models.Frozen(eqx.nn.Linear(3, 2, key=key))
    np.testing.assert_array_equal(jax.jacrev(model)(jnp.ones(3)), model.tree.weight)


def test_shared_leaf_is_trained_once(key):
    class Tied(eqx.Module):
        shared: eqx.nn.Shared

        def __call__(self, x):
            first, second = self.shared()
            return second(jnp.tanh(first(x)))

    a, b = jax.random.split(key)
    pair = (eqx.nn.Linear(3, 3, key=a), eqx.nn.Linear(3, 3, key=b))
    model = Tied(
        eqx.nn.Shared(pair, where=lambda p: p[1].weight, get=lambda p: p[0].weight)
    )
    assert names(model) == [
        "shared.pytree[0].weight",
        "shared.pytree[0].bias",
        "shared.pytree[1].bias",
    ]
    params, static = models.partition(model)
    np.testing.assert_array_equal(
        eqx.combine(params, static)(jnp.ones(3)), model(jnp.ones(3))
    )


def test_equinox_layers_are_trained_by_their_arrays(key):
    model = eqx.nn.Sequential([
        eqx.nn.Linear(4, 4, key=key),
        eqx.nn.LayerNorm(4),
        eqx.nn.Lambda(jax.nn.relu),
        eqx.nn.Dropout(0.5, inference=True),
        eqx.nn.MLP(4, 2, 3, 1, key=key),
    ])
    assert names(model) == [
        "layers[0].weight",
        "layers[0].bias",
        "layers[1].weight",
        "layers[1].bias",
        "layers[4].layers[0].weight",
        "layers[4].layers[0].bias",
        "layers[4].layers[1].weight",
        "layers[4].layers[1].bias",
    ]


def test_attention_is_trained_by_its_projections(key):
    model = eqx.nn.MultiheadAttention(2, 4, use_query_bias=True, key=key)
    assert names(model) == [
        "query_proj.weight",
        "query_proj.bias",
        "key_proj.weight",
        "value_proj.weight",
        "output_proj.weight",
    ]
    params, static = models.partition(model)
    x = jax.random.normal(key, (5, 4))
    np.testing.assert_array_equal(eqx.combine(params, static)(x, x, x), model(x, x, x))


def test_convolution_of_equinox_is_trained_unless_frozen(key):
    conv = eqx.nn.Conv2d(1, 2, 3, key=key)
    head = eqx.nn.Linear(2, 1, key=key)
    assert names([models.Frozen(conv), head]) == ["[1].weight", "[1].bias"]
    assert names([conv, head])[:2] == ["[0].weight", "[0].bias"]


def test_one_array_in_two_leaves_warns(key):
    linear = eqx.nn.Linear(3, 3, use_bias=False, key=key)
    with pytest.warns(
        UserWarning, match=r"`\[0\].weight` and `\[1\].weight` are one array.*Shared"
    ):
        models.partition([linear, linear])


def test_frozen_twin_of_a_trained_array_does_not_warn(key):
    linear = eqx.nn.Linear(3, 3, use_bias=False, key=key)
    assert names([linear, models.Frozen(linear)]) == ["[0].weight"]


def test_model_without_trained_leaf_is_refused(key):
    model = Zoo(key)
    for nothing in (models.Frozen(model), eqx.nn.Lambda(jnp.tanh)):
        with pytest.raises(ValueError, match="No leaf of the model is trained"):
            models.partition(nothing)
    with pytest.raises(ValueError, match=r"No leaf.*Loosen `trainable`"):
        models.partition(model, lambda leaf: leaf.ndim == 5)


def test_complex_parameter_is_refused_unless_frozen():
    fourier = {"phase": jnp.ones(2, jnp.complex128), "gain": jnp.ones(2)}
    with pytest.raises(ValueError, match=r"`\['phase'\]` is complex128.*Frozen"):
        models.partition(fourier)
    assert names({**fourier, "phase": models.Frozen(fourier["phase"])}) == ["['gain']"]


def test_filter_of_another_structure_is_refused(key):
    with pytest.raises(ValueError, match="`trainable` must be None, a function"):
        models.partition(Zoo(key), {"linear": True})
    with pytest.raises(ValueError, match="`trainable` must be None, a function"):
        models.partition(Zoo(key), "linear")
