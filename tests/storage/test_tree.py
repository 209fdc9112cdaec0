"""Trees go through flat dictionaries, and through a store, unchanged."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.storage import Store, flatten_arrays, restore_arrays


def bits(tree: Any) -> list[tuple[Any, ...]]:
    leaves = jax.tree.leaves(eqx.filter(tree, eqx.is_array_like))
    arrays = [np.asarray(leaf) for leaf in leaves]
    return [(a.dtype, a.shape, a.tobytes()) for a in arrays]


class Net(eqx.Module):
    layers: list[eqx.nn.Linear]
    activation: Any
    table: dict[str, Any]
    half: jax.Array
    count: int

    def __init__(self, key, value=1.0):
        keys = jax.random.split(key)
        self.layers = [eqx.nn.Linear(3, 2, key=k) for k in keys]
        self.activation = jnp.tanh
        self.table = {"a/b": np.arange(3), "scalar": np.float32(value)}
        self.half = jnp.full((2,), value, jnp.bfloat16)
        self.count = 7


def test_a_module_comes_back_through_a_store_bit_for_bit(tmp_path, key):
    model, other = Net(key, 1.5), Net(jax.random.key(1))
    store = Store(tmp_path)
    store.write("model", flatten_arrays(model))
    restored = restore_arrays(other, store.read("model")[0])
    assert bits(restored) == bits(model)
    assert bits(restored) != bits(other)
    assert restored.activation is jnp.tanh
    for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(model), strict=True):
        assert type(a) is type(b)


def test_leaves_are_named_by_their_place_in_leaf_order(key):
    assert list(flatten_arrays(Net(key))) == [
        "layers[0].weight",
        "layers[0].bias",
        "layers[1].weight",
        "layers[1].bias",
        "table['a/b']",
        "table['scalar']",
        "half",
    ]
    assert list(flatten_arrays(jnp.ones(2))) == ["leaf"]


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_random_keys_come_back_with_their_generator(impl):
    keys = jax.random.split(jax.random.key(3, impl=impl), 2)
    like = jax.random.split(jax.random.key(0, impl=impl), 2)
    (restored,) = restore_arrays((like,), flatten_arrays((keys,)))
    assert restored.dtype == keys.dtype
    np.testing.assert_array_equal(
        jax.random.normal(restored[0]), jax.random.normal(keys[0])
    )


def test_shapes_alone_say_what_to_restore(key):
    model = (jnp.arange(3.0), key, "text")
    like = (*jax.eval_shape(lambda: model[:2]), "text")
    restored = restore_arrays(like, flatten_arrays(model))
    np.testing.assert_array_equal(restored[0], model[0])
    assert restored[1] == key
    assert restored[2] == "text"


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"a": jnp.ones(3)}, r"\['a'\]\" has shape \(2,\) .* expects \(3,\)"),
        ({"a": jnp.ones(2, jnp.float32)}, "float64; the tree expects .* float32"),
        ({"b": jnp.ones(2)}, r"missing \[\"\['b'\]\"\], not in the tree \[\"\['a'\]"),
        ({"a": jax.random.key(0)}, "expects .* uint32"),
        ({}, "not in the tree"),
    ],
)
def test_a_tree_of_another_build_is_refused(like, message):
    with pytest.raises(ValueError, match=message):
        restore_arrays(like, flatten_arrays({"a": jnp.ones(2)}))
