"""Features of a kernel: the linear model that has it, to be trained like any other."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def features_of(
    kernel: Float[Array, "N N"], *, tolerance: float | None = None
) -> Float[Array, "N R"]:
    """Φ with Φ Φᵀ = K, so that a linear model of the rows of Φ has the kernel K.

    With it, any loss, flow, momentum or solver of `ntkflow.simulate` goes along the
    frozen flow of a kernel that belongs to no finite network. For test examples, make
    the features of training and test examples together.

    Args:
        kernel: A symmetric positive semidefinite kernel.
        tolerance: Eigenvalues below this part of the largest are left out; by default
            N times the precision of the dtype, what rounding makes of zeros. The rank
            R is read off the values, so not under `jax.jit`.

    Returns:
        The features, largest first.

    Raises:
        ValueError: The kernel has an eigenvalue below zero by more than the tolerance.

    Source: Mercer's expansion of a finite kernel.

    Verified by:
    tests/theory/test_features.py::test_linear_model_of_features_has_the_kernel
    """
    values, vectors = jnp.linalg.eigh(kernel)
    if tolerance is None:
        tolerance = kernel.shape[0] * float(jnp.finfo(kernel.dtype).eps)
    least = tolerance * float(values[-1])
    if float(values[0]) < -least:
        raise ValueError(
            "A kernel must be positive semidefinite, and this one has an eigenvalue "
            f"{float(values[0]):.2g} beside {float(values[-1]):.2g}. Symmetrize it, or "
            "raise tolerance= if it is noisy."
        )
    kept = jax.device_get(values) > least
    return (vectors[:, kept] * jnp.sqrt(values[kept])[None])[:, ::-1]
