"""Trees of arrays as flat dictionaries, and back into the same structure."""

from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

_Tree = TypeVar("_Tree")


def flatten_arrays(tree: Any) -> dict[str, np.ndarray]:
    """The arrays of a tree, named by where they stand in it.

    Args:
        tree: Any pytree, an equinox module for instance. Leaves that are no arrays,
            Python numbers and functions among them, are left out.

    Returns:
        Numpy arrays by path, as in `layers[0].weight`, in the order of the leaves. A
        random key is represented by its key data.

    Raises:
        ValueError: If two leaves have the same path.
    """
    flat: dict[str, np.ndarray] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if _is_array(leaf):
            name = _name(path)
            if name in flat:
                raise ValueError(
                    f"Two leaves of the tree have the path {name!r}; expected one. "
                    "Give the node's children different keys when it is registered."
                )
            flat[name] = np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
    return flat


def restore_arrays(like: _Tree, arrays: Mapping[str, Any]) -> _Tree:
    """Puts arrays back where `flatten_arrays` found them.

    Args:
        like: A tree of the same structure, whose arrays (or `jax.ShapeDtypeStruct`
            leaves) say which shapes and dtypes are expected, and whose other leaves are
            kept.
        arrays: What `flatten_arrays` returned for the tree to restore.

    Returns:
        `like` with its arrays replaced: numpy arrays where it has numpy arrays, else
        JAX arrays.

    Raises:
        ValueError: If names, shapes or dtypes differ from those of `like`.
    """
    with_paths, structure = jax.tree_util.tree_flatten_with_path(like)
    expected = {_name(path) for path, leaf in with_paths if _is_array(leaf)}
    missing, unknown = expected - arrays.keys(), arrays.keys() - expected
    if missing or unknown:
        raise ValueError(
            f"The stored arrays do not fit the tree: missing {sorted(missing)}, not in "
            f"the tree {sorted(unknown)}. Restore into a tree built like the stored "
            "one."
        )
    leaves = [
        _restored(_name(path), leaf, arrays[_name(path)]) if _is_array(leaf) else leaf
        for path, leaf in with_paths
    ]
    return jax.tree_util.tree_unflatten(structure, leaves)


def _restored(name: str, like: Any, stored: Any) -> Any:
    keyed = is_key(like)
    expected = jax.eval_shape(jax.random.key_data, like) if keyed else like
    if stored.shape != expected.shape or stored.dtype != expected.dtype:
        raise ValueError(
            f"The stored array {name!r} has shape {stored.shape} and dtype "
            f"{stored.dtype}; the tree expects {expected.shape} and {expected.dtype}. "
            "Restore into a tree built like the stored one."
        )
    if keyed:
        # A key's dtype names its generator, and an empty key array makes it readable.
        return jax.random.wrap_key_data(jnp.array(stored), impl=_generator(like))
    if isinstance(like, np.generic):
        return np.asarray(stored)[()]
    return np.array(stored) if isinstance(like, np.ndarray) else jnp.array(stored)


def _generator(like: Any) -> Any:
    return jax.random.key_impl(jnp.empty((0,), like.dtype))


def _is_array(leaf: Any) -> bool:
    kinds = (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)
    return isinstance(leaf, kinds)


def is_key(leaf: Any) -> bool:
    """Whether an array is of random keys.

    Args:
        leaf: The array.

    Returns:
        Whether it is.
    """
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path).removeprefix(".") or "leaf"
