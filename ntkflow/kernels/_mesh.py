"""Examples divided among the devices of a mesh, in equal parts."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, PyTree, Shaped


def over_rows(
    mesh: Mesh,
    function: Callable[..., PyTree[Array]],
    whole: PyTree[Any],
    *rows: Shaped[Array, "N ..."],
) -> PyTree[Array]:
    """Calls a function on every device, with the rows that belong to it.

    Args:
        mesh: The devices, along any number of axes.
        function: Takes `whole` and a device's part of each of the rows.
        whole: What every device has; arrays and anything else.
        rows: Arrays with as many rows each, a multiple of the number of devices.

    Returns:
        The rows that the devices return, one device's after the other's.
    """
    # Axes of a mesh may be explicit; here JAX is to place what is not said.
    mesh = Mesh(mesh.devices, mesh.axis_names)
    arrays, rest = eqx.partition(whole, eqx.is_array)
    by_rows = PartitionSpec(mesh.axis_names)
    return jax.shard_map(
        lambda arrays, *part: function(eqx.combine(arrays, rest), *part),
        mesh=mesh,
        in_specs=(PartitionSpec(), *(by_rows for _ in rows)),
        out_specs=by_rows,
        check_vma=False,
    )(arrays, *rows)


def fill_up(x: Shaped[Array, "N ..."], parts: int) -> Shaped[Array, "M ..."]:
    """Copies of the last example, until there are equal parts.

    Args:
        x: Examples.
        parts: Number that the examples are to be a multiple of.

    Returns:
        The examples and the copies.
    """
    missing = parts * math.ceil(x.shape[0] / parts) - x.shape[0]
    return jnp.concatenate([x, jnp.repeat(x[-1:], missing, axis=0)])
