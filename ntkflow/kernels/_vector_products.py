"""Columns of the kernel by a reverse and a forward pass, without any Jacobian."""

import math
from collections.abc import Callable
from typing import final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from ntkflow._types import Params
from ntkflow.kernels._methods import AbstractMethod, Estimate, Request
from ntkflow.kernels._modes import Modes
from ntkflow.kernels._rows import finite_or, push_rows


@final
class VectorProducts(AbstractMethod):
    """J (Jᵀ e) for every unit vector e: one vjp, then one jvp over all examples.

    Needs memory for the parameters and for one forward pass over the rows, never for
    J; costs N2·K forward passes over the rows.

    Source: Novak, Sohl-Dickstein & Schoenholz (2022), section 3.2 (NTK-vector
    products).

    Verified by: tests/kernels/test_ntk.py::test_methods_match_a_loop_over_everything
    """

    name = "vector_products"

    def works_with(self, modes: Modes) -> bool:
        """Each column takes a pass in reverse and one forward, of the same map.

        Args:
            modes: The derivatives.

        Returns:
            Whether the method can be used.
        """
        return modes.forward and modes.reverse and not modes.rounds

    def estimate(self, request: Request) -> Estimate:
        """What computing a kernel this way needs.

        Args:
            request: What is to be computed.

        Returns:
            Operations and memory.
        """
        rows, columns = request.rows, request.columns
        # A vjp of one example, then a jvp of all rows, which costs twice a pass.
        once = 2 * columns.traced.flops + 2 * rows.n_examples * rows.traced.flops
        return Estimate(
            passes=columns.n_examples * columns.n_outputs * once,
            contraction=0,
            least=sum(_bytes(request)),
            tiling=None,
        )

    def __call__(self, request: Request) -> tuple[Float[Array, "..."], ...]:
        """Compute a kernel.

        Args:
            request: What is to be computed.

        Returns:
            One kernel; or one for each trained leaf, if they were asked for.
        """
        (example, traced, x1), params = request.rows, request.params
        _, push = jax.linearize(
            lambda p: jax.vmap(lambda xi: example(p, xi))(x1), params
        )
        kernels = self.by_columns(request, push)
        if traced.modes.drops:
            kernels = finite_or(
                kernels,
                lambda: self.by_columns(
                    request, lambda v: push_rows(example, params, x1, v)
                ),
            )
        return kernels

    def by_columns(
        self, request: Request, push: Callable[[Params], Float[Array, "N1 K1"]]
    ) -> tuple[Float[Array, "..."], ...]:
        """All columns, as many at once as the memory bound allows.

        Args:
            request: What is to be computed.
            push: J v for the examples along the rows.

        Returns:
            One kernel; or one for each trained leaf, if they were asked for.
        """
        (example, traced, x2), params = request.columns, request.params

        def columns(
            xj: Shaped[Array, "..."], e: Float[Array, " K2"]
        ) -> tuple[Float[Array, "N1 K1"], ...]:
            _, pull = jax.vjp(lambda p: example(p, xj), params)
            (gradient,) = pull(e)
            parts = _by_leaf(gradient) if request.by_leaf else [gradient]
            return tuple(push(part).astype(request.dtype) for part in parts)

        n_rows, n_columns = self.batch(request)

        def of_example(xj: Shaped[Array, "..."]) -> tuple[Float[Array, "..."], ...]:
            basis = jnp.eye(traced.n_outputs, dtype=traced.dtype)
            # Each [K2, N1, K1].
            kernels = jax.lax.map(lambda e: columns(xj, e), basis, batch_size=n_columns)
            return tuple(_keep(request.layout.name, kernel) for kernel in kernels)

        rows = jax.lax.map(of_example, x2, batch_size=n_rows)
        # The mapped axis, the columns' examples, leads.
        kernels = tuple(_order(request.layout.name, kernel) for kernel in rows)
        if request.others is None:
            return tuple(request.layout.symmetrize(kernel) for kernel in kernels)
        return kernels

    def batch(self, request: Request) -> tuple[int, int]:
        """What is computed at once.

        Args:
            request: What is to be computed.

        Returns:
            Examples, and columns of each: as many as the memory bound allows.

        Raises:
            ValueError: A single column is too many.
        """
        fixed, each = _bytes(request)
        if fixed + each > request.max_bytes:
            raise ValueError(
                f"max_bytes={request.max_bytes:,} is too small for method "
                f"{self.name!r}: a single column needs about {fixed + each:,} bytes. "
                "Raise max_bytes."
            )
        most = (request.max_bytes - fixed) // each
        n_outputs = request.columns.n_outputs
        return min(request.columns.n_examples, max(1, most // n_outputs)), min(
            n_outputs, most
        )


def _bytes(request: Request) -> tuple[int, int]:
    """What is held throughout, and what one column takes besides."""
    leaves = jax.tree.leaves(request.params)
    numbers = sum(math.prod(leaf.shape) for leaf in leaves)
    forward = request.rows.n_examples * request.rows.traced.activations
    most = max(forward, request.columns.traced.activations)
    size = request.dtype.itemsize
    return forward * size, max(1, (2 * numbers + most) * size)


def _by_leaf(gradient: Params) -> list[Params]:
    """The gradient with all leaves but one set to zero, once for each leaf."""
    leaves, structure = jax.tree.flatten(gradient)
    return [
        jax.tree.unflatten(
            structure,
            [g if i == kept else jnp.zeros_like(g) for i, g in enumerate(leaves)],
        )
        for kept in range(len(leaves))
    ]


def _keep(layout: str, kernel: Float[Array, "K2 N1 K1"]) -> Float[Array, "..."]:
    if layout == "full":
        return kernel
    diagonal = jnp.diagonal(kernel, axis1=0, axis2=2)  # [N1, K]
    return diagonal if layout == "diagonal" else jnp.sum(diagonal, axis=1)


def _order(layout: str, kernel: Float[Array, "..."]) -> Float[Array, "..."]:
    if layout == "full":  # [N2, K2, N1, K1]
        return jnp.transpose(kernel, (2, 3, 0, 1))
    return jnp.swapaxes(kernel, 0, 1)
