"""A symmetric kernel, however it is given, as what it does to vectors."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Float

Dense = Float[Array | np.ndarray, "N K N K"] | Float[Array | np.ndarray, "n n"]
"""A full kernel or a matrix."""

Kernel = Dense | lx.AbstractLinearOperator
"""A full kernel, a matrix, or a symmetric lineax operator on one array."""


class Action(NamedTuple):
    """A symmetric kernel on vectors over flattened (example, output).

    Attributes:
        apply: The kernel times a vector.
        size: Numbers in a vector.
        dtype: Their dtype.
        shape: Their shape before they are flattened.
        as_matrix: The kernel as a matrix, which may have to be computed first.
        dense: Whether it is at hand.
    """

    apply: Callable[[Float[Array, " n"]], Float[Array, " n"]]
    size: int
    dtype: np.dtype
    shape: tuple[int, ...]
    as_matrix: Callable[[], Float[Array, "n n"]]
    dense: bool

    @property
    def one_by_one(self) -> Callable[[Float[Array, " n"]], Float[Array, " n"]]:
        """The same, but under `vmap` one vector after the other.

        So a kernel that is not at hand has the memory it was given for each of them.
        Not differentiable in reverse.
        """
        if self.dense:
            return self.apply
        return jax.custom_batching.sequential_vmap(self.apply)


def action_of(kernel: Kernel) -> Action:
    """Read a kernel.

    Args:
        kernel: The kernel.

    Returns:
        What it does to vectors.

    Raises:
        ValueError: It is no kernel: an array of another shape, an operator that is not
            symmetric, or something else.
    """
    if not isinstance(kernel, lx.AbstractLinearOperator | Array | np.ndarray):
        raise ValueError(
            "A kernel must be an array or a lineax operator, got a "
            f"{type(kernel).__name__}. That of a model is NTKOperator(model, x)."
        )
    if not isinstance(kernel, lx.AbstractLinearOperator):
        matrix = as_square(kernel)
        return Action(
            lambda v: matrix @ v,
            matrix.shape[0],
            np.dtype(matrix.dtype),
            kernel.shape[: kernel.ndim // 2],
            lambda: matrix,
            dense=True,
        )
    if not lx.is_symmetric(kernel):
        raise ValueError(
            "The operator must be symmetric. Tag it with lineax.symmetric_tag if it is."
        )
    structure, linear = kernel.in_structure(), lx.linearise(kernel)

    def apply(v: Float[Array, " n"]) -> Float[Array, " n"]:
        return jnp.ravel(linear.mv(v.reshape(structure.shape)))

    return Action(
        apply,
        kernel.in_size(),
        np.dtype(structure.dtype),
        tuple(structure.shape),
        kernel.as_matrix,
        dense=False,
    )


def as_square(kernel: Dense) -> Float[Array, "NK NK"]:
    """A kernel as a matrix over flattened (example, output).

    Args:
        kernel: A full kernel or a matrix.

    Returns:
        The matrix.

    Raises:
        ValueError: The shape is neither [N, K, N, K] nor [n, n].
    """
    shape = kernel.shape
    half = len(shape) // 2
    if len(shape) not in {2, 4} or shape[:half] != shape[half:]:
        raise ValueError(
            f"Expected a full kernel [N, K, N, K] or a matrix [n, n], got {shape}. A "
            "diagonal kernel has one matrix an output: kernel[:, :, k]."
        )
    size = math.prod(shape[:half])
    return jnp.asarray(kernel).reshape(size, size)
