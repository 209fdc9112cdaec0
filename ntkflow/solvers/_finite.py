"""Whether a state is one at all."""

from typing import Any

import jax.numpy as jnp
import jax.tree_util as jtu

from .._types import BoolScalar


def all_finite(tree: Any) -> BoolScalar:
    """Whether every array of a pytree is finite.

    Args:
        tree: A pytree of arrays.

    Returns:
        A boolean scalar.
    """
    leaves = [jnp.isfinite(leaf).all() for leaf in jtu.tree_leaves(tree)]
    return jnp.stack(leaves).all()
