"""The Jacobian of every example, contracted leaf by leaf.

Reverse mode makes it in as many passes as there are outputs. What has no reverse mode,
such as a solve with `diffrax.ForwardMode()`, takes a forward pass for each parameter.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from ntkflow._types import Params
from ntkflow.kernels._example import Example, Traced
from ntkflow.kernels._methods import (
    AbstractMethod,
    Estimate,
    Request,
    Side,
    through_jacobian,
)
from ntkflow.kernels._modes import Modes
from ntkflow.kernels._tiles import (
    Cost,
    checked_tiling,
    compute_tiles,
    least_bytes,
    plan_tiles,
)

COLUMNS: Final = 64
"""Forward passes made at once where there is no reverse mode."""


@final
class Contraction(AbstractMethod):
    """Form J and multiply: J [N, K, P] leaf by leaf, tiled so that it fits.

    The plainest exact method, whatever the module. Costs 2·N²·K²·P operations in the
    full layout.

    Source: Novak, Sohl-Dickstein & Schoenholz (2022), section 3.1 (Jacobian
    contraction).

    Verified by: tests/kernels/test_ntk.py::test_methods_match_a_loop_over_everything
    """

    name = "contraction"

    def works_with(self, modes: Modes) -> bool:
        """Jacobians can be made either way.

        Args:
            modes: The derivatives.

        Returns:
            Whether the method can be used.
        """
        return modes.forward or modes.reverse

    def estimate(self, request: Request) -> Estimate:
        """What computing a kernel this way needs.

        Args:
            request: What is to be computed.

        Returns:
            Operations and memory.
        """
        cost = _cost(request)
        leaves = jax.tree.leaves(request.params)
        plans = tuple(through_jacobian(request, leaf) for leaf in leaves)
        return Estimate(
            passes=sum(_passes(side, leaves) for side in request.sides),
            contraction=sum(plan.flops for plan in plans),
            least=least_bytes(cost),
            tiling=plan_tiles(request.grid, cost),
            leaves=plans,
        )

    def __call__(self, request: Request) -> tuple[Float[Array, "..."], ...]:
        """Compute a kernel.

        Args:
            request: What is to be computed.

        Returns:
            One kernel; or one for each trained leaf, if they were asked for.
        """
        tiling = checked_tiling(self.name, request.grid, _cost(request))

        def features_of(side: Side) -> Callable[..., list[Float[Array, "n K 1 _"]]]:
            def features(x: Shaped[Array, "n ..."]) -> list[Float[Array, "n K 1 _"]]:
                jacobians = jax.vmap(
                    lambda xi: jax.tree.leaves(
                        jacobian(side.example, side.traced, request.params, xi)
                    )
                )(x)
                return [
                    jac.astype(request.dtype).reshape(
                        *jac.shape[:2], 1, math.prod(jac.shape[2:])
                    )
                    for jac in jacobians
                ]

            return features

        def contract(
            first: list[Float[Array, "n1 K1 1 _"]],
            second: list[Float[Array, "n2 K2 1 _"]],
        ) -> tuple[Float[Array, "..."], ...]:
            grams = tuple(
                request.layout.gram(a, b) for a, b in zip(first, second, strict=True)
            )
            return grams if request.by_leaf else (sum(grams[1:], start=grams[0]),)

        features, others = features_of(request.rows), features_of(request.columns)
        return compute_tiles(request.grid, features, contract, tiling, others)


def _cost(request: Request) -> Cost:
    leaves = jax.tree.leaves(request.params)
    itemsize = request.dtype.itemsize
    kernels = len(leaves) if request.by_leaf else 1
    numbers = _numbers(leaves)
    return Cost(
        example=max(request.n_outputs) * numbers * itemsize,
        work=max(_work(request, side) for side in request.sides),
        pair=(kernels + 2) * request.pairs * itemsize,
    )


def _numbers(leaves: Sequence[Array]) -> int:
    return sum(math.prod(leaf.shape) for leaf in leaves)


def _passes(side: Side, leaves: Sequence[Array]) -> int:
    """Operations of the Jacobians along one side."""
    each = side.n_outputs if side.traced.modes.reverse else _numbers(leaves)
    return side.n_examples * side.traced.flops * (1 + 2 * each)


def _work(request: Request, side: Side) -> int:
    """Bytes that passes over one example need besides what they return."""
    if side.traced.modes.reverse:
        return request.work(side)
    return COLUMNS * side.traced.activations * side.traced.dtype.itemsize


def jacobian(
    example: Example, traced: Traced, params: Params, x: Shaped[Array, "..."]
) -> Params:
    """∂f/∂θ of one example: K reverse passes at once, or P forward passes in chunks.

    Args:
        example: The function.
        traced: The same, written out.
        params: The trained leaves.
        x: One example.

    Returns:
        The parameters' structure with leaves [K, ...].

    Verified by: tests/kernels/test_modes.py::test_kernel_takes_the_mode_there_is
    """
    if not traced.modes.reverse:
        return _forward_jacobian(example, traced.n_outputs, params, x)
    _, pull = jax.vjp(lambda p: example(p, x), params)
    basis = jnp.eye(traced.n_outputs, dtype=traced.dtype)
    # As leaves: a sparse matrix has a batching rule of its own, for whole ones only.
    rows = jax.vmap(lambda row: jax.tree.leaves(pull(row)))(basis)
    return jax.tree.unflatten(jax.tree.structure(params), rows)


def _forward_jacobian(
    example: Example, n_outputs: int, params: Params, x: Shaped[Array, "..."]
) -> Params:
    leaves, structure = jax.tree.flatten(params)

    def of_leaf(which: int, leaf: Array) -> Float[Array, "K ..."]:
        def column(index: Array) -> Float[Array, " K"]:
            unit = jax.nn.one_hot(index, leaf.size, dtype=leaf.dtype)
            tangents = [jnp.zeros_like(other) for other in leaves]
            tangents[which] = unit.reshape(leaf.shape)
            direction = jax.tree.unflatten(structure, tangents)
            return jax.jvp(lambda p: example(p, x), (params,), (direction,))[1]

        if leaf.size == 0:
            return jnp.zeros((n_outputs, *leaf.shape), leaf.dtype)
        columns = jax.lax.map(column, jnp.arange(leaf.size), batch_size=COLUMNS)
        return jnp.moveaxis(columns, 0, -1).reshape(n_outputs, *leaf.shape)

    return jax.tree.unflatten(
        structure, [of_leaf(which, leaf) for which, leaf in enumerate(leaves)]
    )
