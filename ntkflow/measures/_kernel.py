"""Reductions of a kernel, and how a measure gets hold of one.

All of them are sums over entries that XLA fuses into one pass: no second matrix of the
kernel's size is ever made.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from .._errors import unknown_name
from .._types import MeasuredOutputs
from ..problem import Problem
from ._base import Snapshot

_SUFFIXES: dict[MeasuredOutputs, str] = {"full": "", "trace": "_trace"}


def check_outputs(outputs: MeasuredOutputs) -> None:
    """Refuses what is no reading of several outputs.

    Args:
        outputs: What a measure was given.

    Raises:
        ValueError: If it is neither `"full"` nor `"trace"`.
    """  # ruff: ignore[docstring-missing-exception, docstring-extraneous-exception]
    if outputs not in _SUFFIXES:
        raise unknown_name("outputs", outputs, list(_SUFFIXES))


def named(name: str, outputs: MeasuredOutputs) -> str:
    """The name of a quantity or variable of the full or of the trace kernel.

    Args:
        name: Its name for the full kernel.
        outputs: `"full"` or `"trace"`.

    Returns:
        The name, for the trace kernel with `_trace` behind it.
    """
    return name + _SUFFIXES[outputs]


def layouts(needs: frozenset[str], name: str) -> tuple[MeasuredOutputs, ...]:
    """In which layouts a shared quantity is read; the first one is to be formed.

    Where the full one is read the trace kernel is summed from it.

    Args:
        needs: All shared quantities that measures need.
        name: The quantity, as it is called for the full kernel.

    Returns:
        Of `"full"` and `"trace"` those that are read, in this order.
    """
    # A velocity is read relative to a kernel.
    causes = (name, "velocity") if name == "kernel" else (name,)
    return tuple(
        outputs
        for outputs in _SUFFIXES
        if any(named(cause, outputs) in needs for cause in causes)
    )


def in_words(outputs: MeasuredOutputs) -> str:
    """Which kernel is read, for names of variables in words.

    Args:
        outputs: `"full"` or `"trace"`.

    Returns:
        `"kernel"` or `"trace kernel"`.
    """
    return "kernel" if outputs == "full" else "trace kernel"


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


def kernel_now(now: Snapshot, outputs: MeasuredOutputs) -> Inexact[Array, "N ..."]:
    """The kernel of a moment.

    Args:
        now: The moment.
        outputs: `"full"` or `"trace"`.

    Returns:
        Θ_t, or its sum over outputs.
    """
    name = named("kernel", outputs)
    return given(getattr(now, name), name)


def kernel_at_start(now: Snapshot, outputs: MeasuredOutputs) -> Inexact[Array, "N ..."]:
    """The kernel at t = 0.

    Args:
        now: The moment.
        outputs: `"full"` or `"trace"`.

    Returns:
        Θ₀, or its sum over outputs.
    """
    name = named("kernel0", outputs)
    return given(getattr(now, name), name)


def as_matrix(kernel: Inexact[Array, "N ..."]) -> Inexact[Array, "n n"]:
    """The kernel as a matrix: a full one acts on raveled outputs.

    Args:
        kernel: A kernel over examples and outputs, or over examples alone.

    Returns:
        The same numbers, without a copy.
    """
    size = math.prod(kernel.shape[: kernel.ndim // 2])
    return kernel.reshape(size, size)


def frobenius(kernel: Inexact[Array, "..."]) -> Float[Array, ""]:
    """‖K‖_F.

    Args:
        kernel: An array.

    Returns:
        The root of the sum of its squared entries.
    """
    return jnp.sqrt(jnp.sum(kernel**2))


def turned(
    kernel: Inexact[Array, "..."],
    reference: Inexact[Array, "..."],
    norm: Float[Array, ""],
) -> Float[Array, ""]:
    """1 − cos of the angle between two kernels.

    Computed as ½‖Θ/‖Θ‖ − Θ'/‖Θ'‖‖², which stays accurate where the cosine is close to
    one.

    Args:
        kernel: Θ.
        reference: Θ'.
        norm: ‖Θ'‖_F.

    Returns:
        The distance, between 0 and 1 for positive semidefinite kernels.
    """
    return 0.5 * jnp.sum((kernel / frobenius(kernel) - reference / norm) ** 2)


def kernel_size(problem: Problem, outputs: MeasuredOutputs) -> int:
    """Rows of the kernel as a matrix.

    Args:
        problem: The problem.
        outputs: `"full"` or `"trace"`.

    Returns:
        N·K, or N.
    """
    return problem.n_examples * (problem.n_outputs if outputs == "full" else 1)


def kernel_entries(problem: Problem, outputs: MeasuredOutputs = "full") -> int:
    """The number of entries of the kernel.

    Args:
        problem: The problem.
        outputs: `"full"` or `"trace"`.

    Returns:
        (N·K)², or N².
    """
    return kernel_size(problem, outputs) ** 2
