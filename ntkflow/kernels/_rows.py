"""J v and Jᵀ u from the rows of J, which reverse passes make one by one.

As many passes as there are outputs, where a forward pass does for J v. Taken where the
forward derivative is not the transpose of that in reverse, which training follows: it
rounds elsewhere, or it multiplies with zero what reverse mode drops.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from ntkflow._types import Params
from ntkflow.kernels._example import Example


def push_rows(
    example: Example, params: Params, x: Shaped[Array, "n ..."], direction: Params
) -> Float[Array, "n K"]:
    """J v for all examples.

    Args:
        example: The outputs of one example.
        params: The trained leaves.
        x: The examples.
        direction: v, one number for each of the parameters.

    Returns:
        One number for each example and output.

    Verified by: tests/kernels/test_lookups.py::test_every_method_is_the_reverse_one
    """

    def of_example(xi: Shaped[Array, "..."]) -> Float[Array, " K"]:
        output, pull = jax.vjp(lambda p: example(p, xi), params)

        def entry(unit: Float[Array, " K"]) -> Float[Array, ""]:
            (row,) = pull(unit)
            parts = jax.tree.map(lambda a, b: jnp.sum(a * b), row, direction)
            return sum(
                (part.astype(output.dtype) for part in jax.tree.leaves(parts)),
                start=jnp.zeros((), output.dtype),
            )

        return jax.lax.map(entry, jnp.eye(output.shape[0], dtype=output.dtype))

    return jax.lax.map(of_example, x)


def pull_rows(
    example: Example,
    params: Params,
    x: Shaped[Array, "n ..."],
    vector: Float[Array, "n K"],
) -> Params:
    """Jᵀ u, summed over all examples.

    Args:
        example: The outputs of one example.
        params: The trained leaves.
        x: The examples.
        vector: u, one number for each example and output.

    Returns:
        One number for each of the parameters.
    """

    def add(total: Params, one: tuple[Array, Array]) -> tuple[Params, None]:
        xi, weights = one
        _, pull = jax.vjp(lambda p: example(p, xi), params)

        def add_row(total: Params, which: tuple[Array, Array]) -> tuple[Params, None]:
            unit, weight = which
            (row,) = pull(unit)
            return jax.tree.map(
                lambda a, b: a + weight.astype(b.dtype) * b, total, row
            ), None

        basis = jnp.eye(weights.shape[0], dtype=weights.dtype)
        return jax.lax.scan(add_row, total, (basis, weights))[0], None

    return jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), (x, vector))[0]


def finite_or(
    found: tuple[Float[Array, "..."], ...],
    again: Callable[[], tuple[Float[Array, "..."], ...]],
) -> tuple[Float[Array, "..."], ...]:
    """What forward mode found, unless it is no number.

    Args:
        found: What was found.
        again: Finds it from rows instead.

    Returns:
        One of the two.
    """
    finite = [jnp.all(jnp.isfinite(array)) for array in found]
    return jax.lax.cond(jnp.all(jnp.stack(finite)), lambda: found, again)
