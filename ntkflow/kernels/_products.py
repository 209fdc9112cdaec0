"""J (Jᵀ v): the kernel times a vector, in batches and on several devices."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Shaped

from ntkflow._precision import at_full_precision
from ntkflow._types import Params
from ntkflow.kernels._example import Example
from ntkflow.kernels._mesh import fill_up, over_rows
from ntkflow.kernels._modes import Modes
from ntkflow.kernels._rows import finite_or, pull_rows, push_rows


@eqx.filter_jit
@at_full_precision
def kernel_times(
    example: Example,
    params: Params,
    x: Shaped[Array, "N ..."],
    vector: Float[Array, "N K"],
    *,
    batch: int,
    mesh: Mesh | None,
    modes: Modes,
) -> Float[Array, "N K"]:
    """One reverse pass over all examples, then one forward pass.

    Of a model that rounds inside both are made of the rows of J instead, and so is the
    forward pass where it is no number for what lookups dropped.

    Args:
        example: The outputs of one example.
        params: The trained leaves.
        x: The examples.
        vector: One number for each example and output.
        batch: Examples that a device takes at once.
        mesh: The devices to divide the examples among; None for one.
        modes: The derivatives of the function.

    Returns:
        J Jᵀ v.
    """
    if mesh is None:
        return _on_one_device(example, params, x, vector, batch, modes, ())

    axes = mesh.axis_names

    def part(whole: Any, x: Array, vector: Array) -> Array:
        example, params = whole
        return _on_one_device(example, params, x, vector, batch, modes, axes)

    x, filled = _fill(x, vector, mesh.size)
    return over_rows(mesh, part, (example, params), x, filled)[: vector.shape[0]]


def _on_one_device(
    example: Example,
    params: Params,
    x: Shaped[Array, "n ..."],
    vector: Float[Array, "n K"],
    batch: int,
    modes: Modes,
    axes: tuple[str, ...],
) -> Float[Array, "n K"]:
    total, n_outputs = vector.shape

    def outputs(params: Params, x: Shaped[Array, "b ..."]) -> Float[Array, "b K"]:
        return jax.vmap(lambda xi: example(params, xi))(x)

    def pull(x: Shaped[Array, "b ..."], v: Float[Array, "b K"]) -> Params:
        if modes.rounds:
            return pull_rows(example, params, x, v)
        return jax.vjp(lambda p: outputs(p, x), params)[1](v)[0]

    def push(x: Shaped[Array, "b ..."], direction: Params) -> Float[Array, "b K"]:
        if modes.rounds:
            return push_rows(example, params, x, direction)
        found = jax.jvp(lambda p: outputs(p, x), (params,), (direction,))[1]
        return checked(example, params, x, direction, modes, found)

    def gathered(direction: Params) -> Params:
        return jax.lax.psum(direction, axes) if axes else direction

    if batch >= total:
        return push(x, gathered(pull(x, vector)))
    x, v = _fill(x, vector, batch)
    x = x.reshape(-1, batch, *x.shape[1:])
    v = v.reshape(-1, batch, n_outputs)

    def add(sum_: Params, one: tuple[Array, Array]) -> tuple[Params, None]:
        return jax.tree.map(jnp.add, sum_, pull(*one)), None

    direction, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), (x, v))
    direction = gathered(direction)
    pushed = jax.lax.map(lambda one: push(one, direction), x)
    return pushed.reshape(-1, n_outputs)[:total]


def checked(
    example: Example,
    params: Params,
    x: Shaped[Array, "n ..."],
    direction: Params,
    modes: Modes,
    pushed: Float[Array, "n K"],
) -> Float[Array, "n K"]:
    """J v by a forward pass; from rows where that is no number for what is dropped.

    Args:
        example: The outputs of one example.
        params: The trained leaves.
        x: The examples.
        direction: v.
        modes: The derivatives of the function.
        pushed: What the forward pass found.

    Returns:
        J v.
    """
    if not modes.drops:
        return pushed
    (found,) = finite_or((pushed,), lambda: (push_rows(example, params, x, direction),))
    return found


def _fill(
    x: Shaped[Array, "n ..."], vector: Float[Array, "n K"], parts: int
) -> tuple[Shaped[Array, "m ..."], Float[Array, "m K"]]:
    """Fills up with copies of the last example, which weigh nothing."""
    x = fill_up(x, parts)
    missing = x.shape[0] - vector.shape[0]
    return x, jnp.pad(vector, ((0, missing), (0, 0)))
