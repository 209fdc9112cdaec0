"""Arrays whose types say how they are spread over devices."""

from typing import Any, TypeVar

import jax
import jax.tree_util as jtu
from jax.sharding import AxisType, Mesh, NamedSharding

Tree = TypeVar("Tree")


def without_explicit_axes(tree: Tree) -> Tree:
    """The same arrays on the same devices, their placement no part of their types.

    Explicit axes make every operation say where its result is to be, which models and
    kernels do not. Nothing is moved.

    Args:
        tree: Arrays and anything else.

    Returns:
        The tree.

    Raises:
        ValueError: An array is spread over an explicit axis and not known yet, or
            differs between devices by its type, inside of a `jax.shard_map`.

    Verified by:
        tests/kernels/test_sharded.py::test_eight_devices_give_the_kernel_of_one
        tests/kernels/test_reports.py::test_manual_axes_are_refused_by_name
    """  # ruff: ignore[docstring-extraneous-exception]
    return jtu.tree_map(_placed, tree)


def _placed(leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array):
        return leaf
    kind = jax.typeof(leaf)
    manual = getattr(kind, "manual_axis_type", None)  # vma in earlier JAX
    if getattr(manual, "varying", None) or getattr(kind, "vma", None):
        raise ValueError(
            "A kernel cannot be computed inside of a jax.shard_map that checks which "
            "arrays vary over the mesh. Give the shard_map check_vma=False, or call "
            "ntk(..., mesh=mesh) outside of it."
        )
    known = _is_known(leaf)
    sharding = leaf.sharding if known else kind.sharding
    if not isinstance(sharding, NamedSharding):
        return leaf
    mesh, spec = sharding.mesh, sharding.spec
    if AxisType.Explicit not in mesh.axis_types:
        return leaf
    if isinstance(mesh, Mesh) and known:
        automatic = Mesh(mesh.devices, mesh.axis_names)
        return jax.device_put(leaf, NamedSharding(automatic, spec))
    if any(axis is not None for axis in spec):
        raise ValueError(
            f"An array is spread over the explicit axes {spec} of a mesh inside of a "
            "transformation such as jit. Expected axes that JAX places by itself: make "
            "the mesh with axis_types=(jax.sharding.AxisType.Auto, ...), or call this "
            "outside of the transformation."
        )
    return leaf


def _is_known(leaf: jax.Array) -> bool:
    """Whether it is an array; what is traced does not say where it lies."""
    try:
        _ = leaf.is_fully_addressable
    except jax.errors.ConcretizationTypeError:
        return False
    return True
