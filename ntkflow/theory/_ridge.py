"""Ridge regression with a kernel, about the outputs at the start."""

import jax.numpy as jnp
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Array, Float

from ._inputs import Given, as_amount, refuse
from ._predict import Predictions, Task, read_task


def kernel_ridge(
    ntk_train: Given,
    y_train: Given,
    ridge: float | int | Given,
    *,
    f0_train: Given | None = None,
    ntk_test_train: Given | None = None,
    f0_test: Given | None = None,
) -> Predictions:
    """Kernel ridge regression, f(x) = f₀(x) + Θ(x, X)(Θ + ridge)⁻¹(y − f₀(X)).

    It is where `frozen_flow` with the same ridge ends. A matrix for a ridge treats
    modes differently: that of `early_stopping_matrix` ends where the flow without a
    ridge is at its time. By a Cholesky decomposition; without a ridge use `frozen_flow`
    at t = ∞, which takes singular kernels.

    Args:
        ntk_train: Θ(X, X), [N, N] or [N, K, N, K].
        y_train: Targets [N, K].
        ridge: A positive number, in the kernel's unit, or a symmetric matrix of the
            kernel's shape.
        f0_train: Outputs [N, K] at the start; zero if None.
        ntk_test_train: Θ(X_test, X), [Nt, N] or [Nt, K, N, K].
        f0_test: Outputs [Nt, K] at the start on the test set; zero if both are None.

    Returns:
        Outputs [N, K] on the training set and [Nt, K] on the test set, the latter None
        without one.

    Source: Saunders, Gammerman & Vovk (1998), section 2.

    Verified by:
        tests/theory/test_ridge.py::test_ridge_regression_is_that_of_the_features
    """
    task = read_task(ntk_train, f0_train, y_train, ntk_test_train, f0_test)
    matrix = _as_matrix(task, ridge)
    start = task.layout.columns(task.f0 - task.y)
    factor = cho_factor(task.kernel + matrix, lower=True)
    solved = cho_solve(factor, start)
    weights = refuse(
        solved,
        ~jnp.all(jnp.isfinite(solved)),
        "Θ + ridge is not positive definite to working precision, or something given "
        "is not finite. Take a larger ridge or float64, or frozen_flow at t=inf.",
    )
    # What is left of the residual, ridge (Θ + ridge)⁻¹ r₀, subtracts nothing.
    left = jnp.matmul(matrix, weights, precision="highest")
    train = task.y + task.layout.restore(left)
    if task.cross is None or task.f0_test is None:
        return Predictions(train, None)
    shift = jnp.matmul(task.cross, weights, precision="highest")
    return Predictions(train, task.f0_test - task.layout.restore(shift))


def _as_matrix(task: Task, ridge: float | int | Given) -> Float[Array, "n n"]:
    if jnp.ndim(ridge) > 0:
        matrix = task.layout.square("ridge", jnp.asarray(ridge), task.layout.examples)
        return matrix.astype(task.kernel.dtype)
    amount = as_amount("ridge", ridge, task.kernel.dtype, positive=True)
    return amount * jnp.eye(task.layout.rows, dtype=task.kernel.dtype)


def ridge_filter(
    eigenvalues: Float[Array, "*modes"],
    ridge: float | int | Float[Array, ""] | Float[Array, "*modes"],
) -> Float[Array, "*modes"]:
    """How much of a mode ridge regression learns, λ/(λ + ridge).

    Args:
        eigenvalues: λ, none negative.
        ridge: The ridge, positive, in the same unit; one for all or one for each.

    Returns:
        Between zero and one; that of gradient flow is 1 − e^{−λt}.

    Source: Ali, Kolter & Tibshirani (2019), section 3.

    Verified by:
        tests/theory/test_ridge.py::test_one_ridge_for_all_modes_misses_by_a_fifth
    """
    return eigenvalues / (eigenvalues + ridge)
