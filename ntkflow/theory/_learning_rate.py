"""Up to which learning rate gradient descent with a constant kernel settles."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from ._inputs import Given


def max_learning_rate(
    ntk: float | int | Given, *, momentum: float | int = 0.0
) -> Float[Array, ""]:
    """The learning rate below which no mode grows, 2(1 + β)/λ_max.

    For updates θ_{k+1} = θ_k − η∇L + β(θ_k − θ_{k−1}) with the squared error
    ½Σ|f − y|². A problem with a time scale c or a mean for a sum has cΘ for a kernel.

    Args:
        ntk: The kernel [N, N] or [N, K, N, K]; or its largest eigenvalue, a number, as
            `ntkflow.kernels.top_eigenpairs` finds of a kernel that is never formed.
        momentum: β, at least zero and below one.

    Returns:
        The bound on η, in units of time; infinity for a kernel of zeros.

    Raises:
        ValueError: The shape is none of a kernel, or the momentum is out of range.

    Source: Polyak (1964), theorem 9; with β = 0 LeCun, Kanter & Solla (1991), eq. 3.

    Verified by:
        tests/theory/test_learning_rate.py::test_updates_grow_beyond_it_alone
    """
    if not 0 <= momentum < 1:
        raise ValueError(
            f"`momentum` must be at least 0 and below 1, got {momentum}: from 1 on "
            "nothing ever settles."
        )
    kernel = jnp.asarray(ntk)
    half = kernel.shape[: kernel.ndim // 2]
    if kernel.ndim not in {0, 2, 4} or kernel.shape != half + half:
        raise ValueError(
            "`ntk` must be a kernel of shape [N, N] or [N, K, N, K], or its largest "
            f"eigenvalue, got shape {list(kernel.shape)}."
        )
    if kernel.ndim:
        size = math.prod(half)
        top = jnp.linalg.eigvalsh(kernel.reshape(size, size))[-1]
    else:
        top = kernel
    return 2 * (1 + momentum) / top
