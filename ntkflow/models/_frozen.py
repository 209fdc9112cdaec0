"""Which leaves of a model are trained.

Every room splits a model here, so that "the parameters" mean the same arrays in a
loss, a kernel and a flow: the inexact arrays outside any `Frozen` and of no state, or
the part of them that a filter selects.
"""

import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .._types import Params


class Frozen(eqx.Module):
    """Holds a pytree whose arrays are never trained and never part of a kernel.

    The mark is read by `partition`; gradients with respect to inputs pass through.

    Attributes:
        tree: The pytree held fixed, often a layer or a whole model.
    """

    tree: PyTree

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call what is frozen.

        Args:
            *args: Passed on.
            **kwargs: Passed on.

        Returns:
            What `tree` returns.
        """
        return self.tree(*args, **kwargs)


def partition(
    model: PyTree, trainable: Callable[[Any], bool] | PyTree | None = None
) -> tuple[Params, PyTree]:
    """Split a model into its trained arrays and the rest.

    `equinox.combine(params, static)` puts it together again.

    Args:
        model: Any equinox module.
        trainable: `None` for every inexact array outside any `Frozen`; or a function
            from such an array to a bool; or a pytree of bools (or of such functions)
            of which the model's structure is an extension. Whatever it says, integer
            arrays, the arrays of a `Frozen` and those of an `equinox.nn.State` (which
            a `UserWarning` names where it would select them) are not trained.

    Returns:
        `(params, static)`, each of the model's structure, with `None` where the leaf is
        in the other.

    Raises:
        ValueError: If the filter does not fit the model, if no leaf is trained, or if a
            trained leaf is complex.
    """
    mask = jax.tree.map(_trainable_leaves, model, is_leaf=_is_frozen)
    # The filter sees trainable arrays only, never an activation or an integer.
    candidates = eqx.filter(model, mask)
    try:
        params = eqx.filter(candidates, True if trainable is None else trainable)
    except ValueError as error:
        raise ValueError(
            "`trainable` must be None, a function from an array to a bool, or a pytree "
            "of bools and such functions that the model's structure extends; start "
            "from jax.tree.map(lambda _: False, model) and set leaves with "
            f"equinox.tree_at. Got {trainable!r}."
        ) from error
    params = _without_state(params)
    chosen = jax.tree.map(lambda leaf: leaf is not None, params, is_leaf=_is_none)
    names = _names(params)
    _refuse_untrainable(names, jax.tree.leaves(params))
    _warn_of_ties(names, jax.tree.leaves(params))
    # A NumPy array that is trained becomes a JAX array, as after any update.
    params = jax.tree.map(jnp.asarray, params)
    return params, eqx.filter(model, chosen, inverse=True)


def named_leaves(params: Params) -> list[tuple[str, Array]]:
    """The leaves of a parameter tree under readable names.

    Args:
        params: What `partition` returned first, or any pytree of that structure.

    Returns:
        `(name, leaf)` in leaf order, the name being the path of attributes and indices,
        for instance `layers[0].weight`.
    """
    return list(zip(_names(params), jax.tree.leaves(params), strict=True))


def _names(params: Params) -> list[str]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return [jax.tree_util.keystr(path).removeprefix(".") for path, _ in leaves]


def _is_frozen(node: object) -> bool:
    return isinstance(node, Frozen)


def _is_state(node: object) -> bool:
    """Whether a node is what stateful layers remember, or how that is initialized."""
    return isinstance(node, eqx.nn.State | eqx.nn.StateIndex)


def _is_none(node: object) -> bool:
    return node is None


def _trainable_leaves(node: Any) -> PyTree[bool]:
    frozen = _is_frozen(node)
    return jax.tree.map(lambda leaf: not frozen and eqx.is_inexact_array(leaf), node)


def _without_state(params: PyTree) -> Params:
    """Leaves out what layers remember, and says so if that was selected."""
    nodes, _ = jax.tree_util.tree_flatten_with_path(params, is_leaf=_is_state)
    held = [
        jax.tree_util.keystr(path).removeprefix(".") or "the model itself"
        for path, node in nodes
        if _is_state(node) and jax.tree.leaves(node)
    ]
    if not held:
        return params
    warnings.warn(
        f"`{'`, `'.join(held)}` is an equinox.nn.State: what layers remember, such as "
        "the running mean and variance of BatchNorm, not parameters. It is not "
        "trained and no part of a kernel. To say that this is meant, hold it as "
        "ntkflow.models.Frozen(state).",
        stacklevel=3,
    )

    def without(node: Any) -> Any:
        return jax.tree.map(lambda _: None, node) if _is_state(node) else node

    return jax.tree.map(without, params, is_leaf=_is_state)


def _refuse_untrainable(names: list[str], leaves: list[Any]) -> None:
    if not names:
        raise ValueError(
            "No leaf of the model is trained: it holds no floating-point array outside "
            "`Frozen` and `equinox.nn.State` that `trainable` selects. Loosen "
            "`trainable`, or unwrap a layer."
        )
    for name, leaf in zip(names, leaves, strict=True):
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            raise ValueError(
                f"The trained leaf `{name}` is {leaf.dtype.name}; only real parameters "
                "are trained. Hold its real and imaginary parts as two real arrays, or "
                "wrap it in `Frozen`."
            )


def _warn_of_ties(names: list[str], leaves: list[Any]) -> None:
    first: dict[int, str] = {}
    for name, leaf in zip(names, leaves, strict=True):
        if id(leaf) in first:
            warnings.warn(
                f"`{first[id(leaf)]}` and `{name}` are one array but two leaves of the "
                "model: they will be trained separately. Tie them with "
                "`equinox.nn.Shared`, or copy one of them if that is meant.",
                stacklevel=3,
            )
        first.setdefault(id(leaf), name)
