"""Predictions of a frozen kernel: one decay of the residual, on and off the sample."""

import warnings
from typing import Any, Final, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._precision import at_full_precision
from .._types import Scalar
from ._decays import AbstractDecay
from ._filters import apply_filter, below_rounding
from ._inputs import Given, Layout, as_amount, as_outputs, layout_of
from ._shifted import Shifted, reach

UNSURE: Final = 0.1
"""How much of a mode below rounding may be learned before the prediction warns."""


class Predictions(NamedTuple):
    """Something predicted on both sets.

    Attributes:
        train: On the training set.
        test: On the test set; None without one.
    """

    train: Any
    test: Any


class Task(NamedTuple):
    """A problem of regression with a kernel, checked, as matrices.

    Attributes:
        layout: How examples and outputs are laid out.
        kernel: That of the training set.
        f0: Outputs at the start.
        y: Targets.
        cross: The kernel between test and training set; None without a test set.
        f0_test: Outputs at the start on the test set; None without one.
    """

    layout: Layout
    kernel: Float[Array, "n n"]
    f0: Float[Array, "N K"]
    y: Float[Array, "N K"]
    cross: Float[Array, "nt n"] | None
    f0_test: Float[Array, "Nt K"] | None


def read_task(
    ntk_train: Given,
    f0_train: Given | None,
    y_train: Given,
    ntk_test_train: Given | None,
    f0_test: Given | None,
) -> Task:
    """Checks shapes and symmetry.

    Args:
        ntk_train: Kernel of the training set.
        f0_train: Outputs at the start, zero if None.
        y_train: Targets.
        ntk_test_train: Kernel between test and training set.
        f0_test: Outputs at the start on the test set.

    Returns:
        The same as matrices, in the kernel's dtype.

    Raises:
        ValueError: A shape does not fit, the kernel is not symmetric, or one of the
            last two arguments comes without the other.
    """
    layout = layout_of(ntk_train, y_train)
    kernel = layout.square("ntk_train", ntk_train, layout.examples)
    dtype, shape = kernel.dtype, (layout.examples, layout.outputs)
    y = as_outputs("y_train", y_train, shape, dtype)
    given = f0_train is not None
    f0 = as_outputs("f0_train", f0_train, shape, dtype) if given else 0 * y
    if ntk_test_train is None:
        if f0_test is not None:
            raise ValueError(
                "`f0_test` needs `ntk_test_train`, the kernel between test and "
                "training set, by which the test outputs move."
            )
        return Task(layout, kernel, f0, y, None, None)
    if given and f0_test is None:
        raise ValueError(
            "`ntk_test_train` needs `f0_test`, the test outputs at the start, from "
            "which they move."
        )
    cross = layout.cross("ntk_test_train", ntk_test_train, None, layout.examples)
    test = (ntk_test_train.shape[0], layout.outputs)
    if f0_test is None:
        start = jnp.zeros(test, dtype)
    else:
        start = as_outputs("f0_test", f0_test, test, dtype)
    return Task(layout, kernel, f0, y, cross.astype(dtype), start)


def predict(
    task: Task, decay: AbstractDecay, ridge: float | int | Given
) -> Predictions:
    """The outputs after a decay of the residual.

    Args:
        task: The problem.
        decay: What is left of each mode, at one time or several along the first axis.
        ridge: Weight decay towards θ₀, not negative.

    Returns:
        Outputs [N, K] and [Nt, K], or [T, N, K] and [T, Nt, K].
    """
    amount = as_amount("ridge", ridge, task.kernel.dtype)
    start = task.layout.columns(task.f0 - task.y)
    moved, left, unsure = over_times(decay, amount, task.kernel, start)
    warn_of_rounding(unsure, stacklevel=4)
    train = _add(task.y, task.layout.restore(left))
    if task.cross is None or task.f0_test is None:
        return Predictions(train, None)
    shift = jnp.matmul(task.cross, moved, precision="highest")
    return Predictions(train, _add(task.f0_test, -task.layout.restore(shift)))


def _add(
    outputs: Float[Array, "N K"], change: Float[Array, "*T N K"]
) -> Float[Array, "*T N K"]:
    return jnp.broadcast_to(outputs, change.shape) + change


def warn_of_rounding(unsure: Scalar, *, stacklevel: int) -> None:
    """Warns where it depends on eigenvalues below rounding what is predicted.

    Silent where values are not known yet, as under `jax.jit`.

    Args:
        unsure: How much of the largest of them would be learned, from `over_times`.
        stacklevel: Where the warning is placed, as for `warnings.warn`.
    """
    try:
        certain = bool(unsure <= UNSURE)
    except jax.errors.TracerBoolConversionError:
        return
    if not certain:
        warnings.warn(
            f"Eigenvalues of the kernel are below its rounding in {unsure.dtype}, and "
            f"modes just below could be learned by then (eigenvalue · time up to "
            f"{float(unsure):.2g}): from there on they count as not learned, as at "
            "t = ∞. Make the kernel in float64, add a ridge, or stop earlier.",
            stacklevel=stacklevel,
        )


@eqx.filter_jit
@at_full_precision
def over_times(
    decay: AbstractDecay,
    ridge: Float[Array, ""],
    kernel: Float[Array, "n n"],
    vectors: Float[Array, "n m"],
) -> tuple[Float[Array, "*T n m"], Float[Array, "*T n m"], Scalar]:
    """A(Θ)v and (1 − ΘA(Θ))v at one time or several, with one eigendecomposition.

    Args:
        decay: What is left of each mode.
        ridge: Weight decay towards θ₀.
        kernel: Θ.
        vectors: v.

    Returns:
        Both; and A(0) times the eigenvalue up to which modes of v are below rounding,
        the largest over times before t = ∞, zero if v has no part in such modes.
    """

    def at(decay: AbstractDecay) -> tuple[Float[Array, "c n m"], Scalar]:
        found = apply_filter(Shifted(decay, ridge), kernel, vectors)
        return found, reach(decay, floor)

    cut, floor = below_rounding(kernel, vectors, ridge)
    # Leaves with an axis are times.
    axes = jax.tree.map(lambda leaf: 0 if leaf.ndim else None, decay)
    several = any(axis == 0 for axis in jax.tree.leaves(axes))
    if several:
        at = jax.vmap(at, in_axes=(axes,), out_axes=(1, 0))
    found, moved = at(decay)
    unsure = jnp.where(cut, floor * jnp.max(moved), jnp.zeros_like(floor))
    return found[0], found[1], jax.lax.stop_gradient(unsure)
