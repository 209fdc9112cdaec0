"""Reductions of a kernel, and how a measure gets hold of one.

All of them are sums over entries that XLA fuses into one pass: no second matrix of the
kernel's size is ever made.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from ..problem import Problem


def given(quantity: Array | None, name: str, remedy: str = "") -> Array:
    """A shared quantity that a measure asked for.

    Args:
        quantity: The field of the snapshot.
        name: What it is called in `needs`.
        remedy: What to do where asking is not enough.

    Returns:
        The quantity.

    Raises:
        ValueError: If it is absent.
    """
    if quantity is None:
        raise ValueError(
            f"The snapshot holds no {name!r}, which this measure reads. "
            + (remedy or "Compute it before reading the measure.")
        )
    return quantity


def as_matrix(kernel: Inexact[Array, "N K N K"]) -> Inexact[Array, "NK NK"]:
    """The kernel as the matrix that acts on raveled outputs.

    Args:
        kernel: A kernel in full layout.

    Returns:
        The same numbers, without a copy.
    """
    size = kernel.shape[0] * kernel.shape[1]
    return kernel.reshape(size, size)


def frobenius(kernel: Inexact[Array, "..."]) -> Float[Array, ""]:
    """‖K‖_F.

    Args:
        kernel: An array.

    Returns:
        The root of the sum of its squared entries.
    """
    return jnp.sqrt(jnp.sum(kernel**2))


def kernel_entries(problem: Problem) -> int:
    """(N·K)², the number of entries of the full kernel.

    Args:
        problem: The problem.

    Returns:
        A number of entries.
    """
    return (problem.n_examples * problem.n_outputs) ** 2
