"""Predictions of kernels too large to decompose, by products with vectors alone."""

from collections.abc import Callable
from typing import NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._precision import at_full_precision
from .._types import Scalar
from ..kernels import solve
from ._decays import Flow
from ._filters import apply_filter, below_rounding
from ._inputs import Given, as_amount, as_outputs, as_times, refuse
from ._predict import Predictions, warn_of_rounding
from ._shifted import Shifted

Product = Given | lx.AbstractLinearOperator
"""A kernel of either layout, or a lineax operator on outputs [N, K]."""

_PSD = frozenset({lx.symmetric_tag, lx.positive_semidefinite_tag})


def kernel_ridge_by_products(
    ntk_train: Product,
    f0_train: Given,
    y_train: Given,
    ridge: float | int,
    *,
    ntk_test_train: Product | None = None,
    f0_test: Given | None = None,
    rtol: float = 1e-6,
    rank: int = 64,
    max_steps: int = 1000,
    key: PRNGKeyArray,
) -> Predictions:
    """`kernel_ridge` by conjugate gradients; without a ridge `frozen_flow` at t = ∞.

    `ntkflow.kernels.solve` says how. Differentiable in kernels, outputs and targets.

    Args:
        ntk_train: Θ(X, X), [N, N] or [N, K, N, K], or a positive semidefinite lineax
            operator on [N, K], such as `NTKOperator`.
        f0_train: Outputs [N, K] at the start.
        y_train: Targets [N, K].
        ridge: The ridge, not negative. With zero what has no eigenvalue must be of the
            size of rtol, as it cannot be learned.
        ntk_test_train: Θ(X_test, X), an array or a lineax operator from [N, K] to
            [Nt, K].
        f0_test: Outputs [Nt, K] at the start on the test set.
        rtol: Bound on the residual of the solve, relative to the residual f₀ − y.
        rank: Rank of the preconditioner; zero for none.
        max_steps: Steps after which to give up, with an error.
        key: Key of the preconditioner's random vectors.

    Returns:
        Outputs [N, K] and [Nt, K], the latter None without a test set.

    Source: as `kernel_ridge` and `ntkflow.kernels.solve`.

    Verified by: tests/theory/test_large.py::test_ridge_by_products_is_the_dense_one
    """
    task = _read(ntk_train, f0_train, y_train, ntk_test_train, f0_test)
    start = task.f0 - task.y
    if isinstance(ntk_train, lx.AbstractLinearOperator):
        operator = ntk_train
    else:
        structure = jax.ShapeDtypeStruct(start.shape, start.dtype)
        operator = lx.FunctionLinearOperator(task.kernel, structure, _PSD)
    found = solve(
        operator,
        start,
        ridge=ridge,
        rtol=rtol,
        rank=rank,
        max_steps=max_steps,
        key=key,
    )
    weights = found.value
    train = task.f0 - task.kernel(weights)
    if task.cross is None or task.f0_test is None:
        return Predictions(train, None)
    return Predictions(train, task.f0_test - task.cross(weights))


def frozen_flow_by_products(
    ntk_train: Product,
    f0_train: Given,
    y_train: Given,
    t: float | int | Given,
    *,
    ntk_test_train: Product | None = None,
    f0_test: Given | None = None,
    ridge: float | int | Given = 0.0,
    rtol: float = 1e-6,
    steps: int = 100,
) -> Predictions:
    """`frozen_flow` at finite times, by the Lanczos process.

    tφ₁(−Θt)(f₀ − y) is taken in the space of `steps` products with the kernel; about
    √(λ_max t) of them are needed, fewer for kernels whose eigenvalues fall fast.

    The error of the training outputs is known. The mode that is cut off is driven by
    βuₘ, with β the last number of the process and uₘ the last component, which has one
    sign and grows, so that they are off by at most 2β|uₘ(t)||f₀ − y|.

    Args:
        ntk_train: Θ(X, X), [N, N] or [N, K, N, K], or a positive semidefinite lineax
            operator on [N, K], such as `NTKOperator`.
        f0_train: Outputs [N, K] at t = 0.
        y_train: Targets [N, K].
        t: Training time, finite, a number or an array [T].
        ntk_test_train: Θ(X_test, X), an array or a lineax operator from [N, K] to
            [Nt, K].
        f0_test: Outputs [Nt, K] at t = 0 on the test set.
        ridge: Strength of the weight decay towards θ₀, in the kernel's unit.
        rtol: Bound on the error of the training outputs, relative to |f₀ − y|; to miss
            it is an error.
        steps: Products with the kernel; as many vectors are held in memory.

    Returns:
        Outputs [N, K] on the training set and [Nt, K] on the test set, the latter None
        without one; with times [T] they lead.

    Raises:
        ValueError: There are no steps.

    Source: Hochbruck & Lubich (1997), section 3, for the process; the bound is derived
    here from its residual.

    Verified by: tests/theory/test_large.py::test_flow_by_products_is_the_dense_one
    """
    if steps < 1:
        raise ValueError(f"`steps` must be positive, got {steps}.")
    task = _read(ntk_train, f0_train, y_train, ntk_test_train, f0_test)
    dtype = task.y.dtype
    times, amount = as_times(t, dtype), as_amount("ridge", ridge, dtype)
    times = refuse(
        times,
        jnp.any(jnp.isinf(times)),
        "`t` must be finite here; at t = ∞ use kernel_ridge_by_products.",
    )
    steps = min(steps, task.y.size)
    moved, left, bound, unsure = _krylov(
        task.kernel, task.f0 - task.y, times, amount, steps
    )
    warn_of_rounding(unsure, stacklevel=3)
    left = refuse(
        left,
        jnp.any(bound > rtol),
        f"{steps} steps leave the training outputs off by more than rtol={rtol:g}. "
        "Raise `steps` or rtol.",
    )
    train = jnp.broadcast_to(task.y, left.shape) + left
    if task.cross is None or task.f0_test is None:
        return Predictions(train, None)
    cross = jax.vmap(task.cross) if times.ndim else task.cross
    shift = cross(moved)
    return Predictions(train, jnp.broadcast_to(task.f0_test, shift.shape) - shift)


@final
class _Action(eqx.Module):
    """What a kernel does to outputs; a pytree, so that `jit` knows it again."""

    kernel: Float[Array, "..."] | lx.AbstractLinearOperator

    def __call__(self, v: Float[Array, "N K"]) -> Float[Array, "..."]:
        if isinstance(self.kernel, lx.AbstractLinearOperator):
            return self.kernel.mv(v)
        how = "ij,jb->ib" if self.kernel.ndim == 2 else "iajb,jb->ia"
        return jnp.einsum(how, self.kernel, v, precision="highest")

    def linearized(self) -> "_Action":
        """The same, with what all products share computed once."""
        if isinstance(self.kernel, lx.AbstractLinearOperator):
            return _Action(lx.linearise(self.kernel))
        return self


class _Task(NamedTuple):
    """A problem whose kernels act on outputs."""

    kernel: _Action
    f0: Float[Array, "N K"]
    y: Float[Array, "N K"]
    cross: _Action | None
    f0_test: Float[Array, "Nt K"] | None


def _read(
    ntk_train: Product,
    f0_train: Given,
    y_train: Given,
    ntk_test_train: Product | None,
    f0_test: Given | None,
) -> _Task:
    if len(y_train.shape) != 2:
        raise ValueError(
            f"`y_train` must have shape [N, K], got {list(y_train.shape)}."
        )
    n, k = y_train.shape
    kernel = _action("ntk_train", ntk_train, (n, k), n)
    if isinstance(ntk_train, lx.AbstractLinearOperator):
        dtype = np.dtype(ntk_train.out_structure().dtype)
    else:
        dtype = np.dtype(ntk_train.dtype)
    y = as_outputs("y_train", y_train, (n, k), dtype)
    f0 = as_outputs("f0_train", f0_train, (n, k), dtype)
    if (ntk_test_train is None) != (f0_test is None):
        raise ValueError(
            "A test set needs both `ntk_test_train` and `f0_test`, the kernel between "
            "test and training set and the outputs at the start."
        )
    if ntk_test_train is None or f0_test is None:
        return _Task(kernel, f0, y, None, None)
    count = f0_test.shape[0]
    start = as_outputs("f0_test", f0_test, (count, k), dtype)
    cross = _action("ntk_test_train", ntk_test_train, (n, k), count)
    return _Task(kernel, f0, y, cross, start)


def _action(name: str, kernel: Product, shape: tuple[int, int], rows: int) -> _Action:
    n, k = shape
    if isinstance(kernel, lx.AbstractLinearOperator):
        found = kernel.out_structure().shape, kernel.in_structure().shape
        if found != ((rows, k), (n, k)):
            raise ValueError(
                f"`{name}` must be an operator from [{n}, {k}] to [{rows}, {k}], got "
                f"one from {list(found[1])} to {list(found[0])}."
            )
        return _Action(kernel)
    if kernel.shape not in {(rows, n), (rows, k, n, k)}:
        raise ValueError(
            f"`{name}` must have shape [{rows}, {n}] (the same for every output) or "
            f"[{rows}, {k}, {n}, {k}] (full), or be a lineax operator, got "
            f"{list(kernel.shape)}."
        )
    return _Action(jnp.asarray(kernel))


@eqx.filter_jit
@at_full_precision
def _krylov(
    kernel: _Action,
    start: Float[Array, "N K"],
    times: Float[Array, "*T"],
    ridge: Scalar,
    steps: int,
) -> tuple[Float[Array, "*T N K"], Float[Array, "*T N K"], Float[Array, "*T"], Scalar]:
    """A(Θ)v, (1 − ΘA(Θ))v, a bound on the latter's error over |v|, as `over_times`."""
    flat = jnp.ravel(start)
    length = jnp.linalg.norm(flat)
    nonzero = length > 0
    unit = jnp.where(nonzero, flat, jnp.ones_like(flat))
    unit = flat / jnp.linalg.norm(unit)
    linear = kernel.linearized()

    def apply(v: Float[Array, " n"]) -> Float[Array, " n"]:
        return jnp.ravel(linear(v.reshape(start.shape)))

    basis, small, last = _lanczos(apply, unit, steps)
    first = jnp.eye(steps, 1, dtype=flat.dtype)

    cut, floor = below_rounding(small, first, ridge)
    unsure = jnp.where(cut, floor * jnp.max(times), jnp.zeros_like(floor))

    def at(t: Scalar) -> tuple[Array, Array, Array]:
        found = apply_filter(Shifted(Flow(t), ridge), small, first)[:, :, 0]
        parts = length * jnp.matmul(found, basis, precision="highest")
        bound = 2 * last * jnp.abs(found[0, -1])
        return parts[0].reshape(start.shape), parts[1].reshape(start.shape), bound

    found = jax.vmap(at)(times) if times.ndim else at(times)
    return *found, jax.lax.stop_gradient(unsure)


def _lanczos(
    apply: Callable[[Float[Array, " n"]], Float[Array, " n"]],
    unit: Float[Array, " n"],
    steps: int,
) -> tuple[Float[Array, "m n"], Float[Array, "m m"], Scalar]:
    """An orthonormal basis, the kernel in it, and the number that leads out of it."""
    # A space that closes early goes on with vectors of zeros, which nothing leads to.
    eps = float(jnp.finfo(unit.dtype).eps)
    tolerance = 4 * np.sqrt(unit.size).item() * eps

    def step(
        carry: tuple[Array, Array], index: Array
    ) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        basis, scale = carry
        image = apply(basis[index])
        alpha = jnp.vdot(basis[index], image, precision="highest")
        scale = jnp.maximum(scale, jax.lax.stop_gradient(jnp.max(jnp.abs(image))))
        # Twice is enough (Kahan and Parlett).
        for _ in range(2):
            inside = jnp.matmul(basis, image, precision="highest")
            image = image - jnp.matmul(inside, basis, precision="highest")
        closed = jnp.max(jnp.abs(image)) <= tolerance * scale
        image = jnp.where(closed, jnp.ones_like(image), image)
        beta = jnp.linalg.norm(image)
        following = jnp.where(closed, jnp.zeros_like(image), image / beta)
        beta = jnp.where(closed, jnp.zeros_like(beta), beta)
        return (basis.at[index + 1].set(following), scale), (alpha, beta)

    empty = jnp.zeros((steps + 1, unit.size), unit.dtype).at[0].set(unit)
    (basis, _), (diagonal, beside) = jax.lax.scan(
        step, (empty, jnp.zeros((), unit.dtype)), jnp.arange(steps)
    )
    off = jnp.diag(beside[:-1], 1)
    return basis[:-1], jnp.diag(diagonal) + off + off.T, beside[-1]
