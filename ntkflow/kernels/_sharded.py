"""A kernel on many devices: each owns some rows, and the examples go round in a ring.

Of a symmetric kernel every device computes the blocks of its own examples with those of
the next half of the ring, and sends each block, mirrored, to the device that owns it.
Only examples and finished blocks travel, never Jacobians or cotangents.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Shaped

from ntkflow._precision import at_full_precision
from ntkflow._types import KernelMethod, OutputLayout, Params
from ntkflow.kernels._compute import compute_kernels
from ntkflow.kernels._example import Example, trace
from ntkflow.kernels._functions import for_both
from ntkflow.kernels._layouts import (
    AbstractLayout,
    OutputCounts,
    check_outputs,
    find_layout,
)
from ntkflow.kernels._mesh import fill_up, over_rows

Kernels = tuple[Array, ...]


@eqx.filter_jit
@at_full_precision
def compute_sharded(
    example: Example,
    params: Params,
    x1: Shaped[Array, "N1 ..."],
    x2: Shaped[Array, "N2 ..."] | None,
    mesh: Mesh,
    *,
    outputs: OutputLayout,
    method: KernelMethod,
    max_bytes: int,
    by_leaf: bool,
    other: Example | None = None,
) -> tuple[Float[Array, "..."], ...]:
    """The kernel, its rows divided among the devices of a mesh.

    Args:
        example: The outputs of one example.
        params: The trained leaves.
        x1: Examples along the rows.
        x2: Examples along the columns; None for those along the rows.
        mesh: The devices, along any number of axes.
        outputs: Name of the layout.
        method: Name of the method, or "auto".
        max_bytes: Bound on the working memory of a device in bytes.
        by_leaf: Whether to return each leaf's part by itself.
        other: The function along the columns, if it is another; then `x2` is given.

    Returns:
        One kernel, or one for each leaf.
    """
    layout = find_layout(outputs)
    traced, other_traced = for_both(trace, example, other, params, x1, x2)
    n_outputs = (traced.n_outputs, (other_traced or traced).n_outputs)
    check_outputs(layout, n_outputs)

    def on_one_device(whole: Any, x: Shaped[Array, "n ..."]) -> Kernels:
        example, other, params, x2 = whole

        def compute(a: Array, b: Array | None) -> Kernels:
            return compute_kernels(
                example,
                params,
                a,
                b,
                outputs=outputs,
                method=method,
                max_bytes=max_bytes,
                by_leaf=by_leaf,
                other=other,
            )

        if x2 is not None:
            return compute(x, x2)
        return _ring(compute, layout, x, n_outputs, mesh)

    total = x1.shape[0]
    x1 = fill_up(x1, mesh.size)
    found = over_rows(mesh, on_one_device, (example, other, params, x2), x1)
    shape = layout.shape(total, total if x2 is None else x2.shape[0], n_outputs)
    return tuple(jax.lax.slice(k, (0,) * k.ndim, shape) for k in found)


def _ring(
    compute: Callable[[Array, Array | None], Kernels],
    layout: AbstractLayout,
    x: Shaped[Array, "n ..."],
    n_outputs: OutputCounts,
    mesh: Mesh,
) -> Kernels:
    """The rows of a symmetric kernel that belong to the examples of one device."""
    axes, devices, n = mesh.axis_names, mesh.size, x.shape[0]
    own = jax.lax.axis_index(axes)

    def put(strips: Kernels, blocks: Kernels, owner: Array) -> Kernels:
        corner = layout.start(jnp.zeros_like(own), (owner % devices) * n)
        where = tuple(jnp.asarray(index, jnp.int32) for index in corner)
        return tuple(
            jax.lax.dynamic_update_slice(strip, block, where)
            for strip, block in zip(strips, blocks, strict=True)
        )

    diagonal = compute(x, None)
    shape = layout.shape(n, n * devices, n_outputs)
    strips = tuple(jnp.zeros(shape, block.dtype) for block in diagonal)
    strips = put(strips, diagonal, own)
    half = devices // 2
    if half == 0:
        return strips

    def step(carry: tuple[Kernels, Array], ahead: Array) -> tuple[Any, Kernels]:
        strips, visitor = carry
        visitor = jax.lax.ppermute(visitor, axes, _shift(-1, devices))
        blocks = compute(x, visitor)
        mirrored = tuple(layout.transpose(block) for block in blocks)
        return (put(strips, blocks, own + ahead), visitor), mirrored

    steps = jnp.arange(1, half + 1, dtype=own.dtype)
    (strips, _), mirrored = jax.lax.scan(step, (strips, x), steps)
    for ahead in range(1, half + 1):
        sent = [blocks[ahead - 1] for blocks in mirrored]
        received = tuple(
            jax.lax.ppermute(block, axes, _shift(ahead, devices)) for block in sent
        )
        with_them = put(strips, received, own - ahead)
        # Half a ring of an even number meets both ways: one of the two is taken.
        twice = 2 * ahead == devices
        takes = (own >= half) if twice else jnp.ones_like(own, bool)
        strips = tuple(
            jnp.where(takes, theirs, mine)
            for theirs, mine in zip(with_them, strips, strict=True)
        )
    return strips


def _shift(by: int, devices: int) -> list[tuple[int, int]]:
    return [(i, (i + by) % devices) for i in range(devices)]
