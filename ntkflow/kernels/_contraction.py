"""The Jacobian of every example by reverse mode, contracted leaf by leaf."""

import math
from typing import final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from ntkflow._types import Params
from ntkflow.kernels._example import Example, Traced
from ntkflow.kernels._methods import AbstractMethod, Estimate, Request, through_jacobian
from ntkflow.kernels._tiles import (
    Cost,
    checked_tiling,
    compute_tiles,
    least_bytes,
    plan_tiles,
)


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

    def estimate(self, request: Request) -> Estimate:
        """What computing a kernel this way needs.

        Args:
            request: What is to be computed.

        Returns:
            Operations and memory.
        """
        cost, once = _cost(request), request.traced.flops
        leaves = jax.tree.leaves(request.params)
        plans = tuple(through_jacobian(request, leaf) for leaf in leaves)
        return Estimate(
            passes=request.n_examples * once * (1 + 2 * request.traced.n_outputs),
            contraction=sum(plan.flops for plan in plans),
            least=least_bytes(cost),
            tiling=plan_tiles(request, cost),
            leaves=plans,
        )

    def __call__(self, request: Request) -> tuple[Float[Array, "..."], ...]:
        """Compute a kernel.

        Args:
            request: What is to be computed.

        Returns:
            One kernel; or one for each trained leaf, if they were asked for.
        """
        tiling = checked_tiling(self.name, request, _cost(request))

        def features(x: Shaped[Array, "n ..."]) -> list[Float[Array, "n K 1 _"]]:
            jacobians = jax.vmap(
                lambda xi: jacobian(request.example, request.traced, request.params, xi)
            )(x)
            return [
                jac.astype(request.dtype).reshape(*jac.shape[:2], 1, -1)
                for jac in jax.tree.leaves(jacobians)
            ]

        def contract(
            first: list[Float[Array, "n1 K 1 _"]],
            second: list[Float[Array, "n2 K 1 _"]],
        ) -> tuple[Float[Array, "..."], ...]:
            grams = tuple(
                request.layout.gram(a, b) for a, b in zip(first, second, strict=True)
            )
            return grams if request.by_leaf else (sum(grams[1:], start=grams[0]),)

        return compute_tiles(request, features, contract, tiling)


def _cost(request: Request) -> Cost:
    leaves = jax.tree.leaves(request.params)
    itemsize = request.dtype.itemsize
    kernels = len(leaves) if request.by_leaf else 1
    numbers = sum(math.prod(leaf.shape) for leaf in leaves)
    return Cost(
        example=request.traced.n_outputs * numbers * itemsize,
        work=request.work,
        pair=(kernels + 2) * request.pairs * itemsize,
    )


def jacobian(
    example: Example, traced: Traced, params: Params, x: Shaped[Array, "..."]
) -> Params:
    """∂f/∂θ of one example by K reverse passes at once.

    Args:
        example: The function.
        traced: The same, written out.
        params: The trained leaves.
        x: One example.

    Returns:
        The parameters' structure with leaves [K, ...].
    """
    _, pull = jax.vjp(lambda p: example(p, x), params)
    basis = jnp.eye(traced.n_outputs, dtype=traced.dtype)
    return jax.vmap(lambda row: pull(row)[0])(basis)
