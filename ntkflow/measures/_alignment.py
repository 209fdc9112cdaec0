"""How much of the kernel points along the targets."""

from typing import final

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Inexact

from .._types import MeasuredOutputs
from ..problem import Problem
from ._base import AbstractMeasure, Snapshot, Variable
from ._kernel import (
    check_outputs,
    frobenius,
    in_words,
    kernel_entries,
    kernel_now,
    named,
)
from ._targets import target_rows


@final
class Alignment(AbstractMeasure):
    """Kernel-target alignment: the cosine between kernel and targets, plain, centered.

    With `outputs="trace"` it is what the literature plots: the trace kernel, the sum
    over outputs [N, N], against the Gram matrix Y Yᵀ of the targets [N, K] (labels as
    one-hot rows), ⟨Θ, Y Yᵀ⟩/(‖Θ‖_F ‖Y Yᵀ‖_F). It lies in [0, 1] and is 1 only for
    Θ ∝ Y Yᵀ.

    With `outputs="full"` kernel and targets live in the space R^{N·K} in which the
    outputs move: y is the vector of all N·K targets and the alignment is
    yᵀΘy/(‖y‖²‖Θ‖_F), the cosine between Θ and the kernel that learns y in one
    direction. A kernel Θ̄ ⊗ I_K that treats outputs alike and independently, as
    infinite-width kernels do, reaches at most 1/√K there, however well Θ̄ separates the
    classes. For one output both are the same.

    The centered alignment removes from both, output by output, the mean over examples:
    Θ → CΘC and Y → CY with C = I − 11ᵀ/N. It is the centered kernel alignment (CKA),
    which a constant part of the kernel or of the targets does not change; the plain one
    can fall while the centered one rises.

    Undefined, hence NaN, for targets that vanish (plain) or are constant (centered).

    Attributes:
        outputs: `"full"` or `"trace"`; variables of the latter end in `_trace`.

    Source: Cristianini, Shawe-Taylor, Elisseeff & Kandola (2001), definition 1; Cortes,
    Mohri & Rostamizadeh (2012), section 2 (centered); Kornblith, Norouzi, Lee & Hinton
    (2019), eq. 4 (CKA).
    Verified by:
        tests/measures/test_alignment.py::test_alignment_matches_dense_matrices,
        tests/measures/test_alignment.py::test_centered_alignment_ignores_a_constant_offset,
        tests/measures/test_trace.py::test_alignment_of_the_trace_kernel_is_that_of_the_literature
    """

    outputs: MeasuredOutputs = eqx.field(static=True, default="full")

    def __check_init__(self):
        check_outputs(self.outputs)

    @property
    def needs(self) -> frozenset[str]:
        """The kernel."""
        return frozenset({named("kernel", self.outputs)})

    def prepare(self, first: Snapshot) -> Inexact[Array, "N K"]:
        """The targets as rows.

        Args:
            first: The moment t = 0.

        Returns:
            One row an example.
        """
        return target_rows(first.problem)

    def __call__(self, now: Snapshot, prepared: Array) -> dict[str, Array]:
        """Both alignments now.

        Args:
            now: The moment.
            prepared: The targets as rows.

        Returns:
            `alignment` and `alignment_centered`, or these with `_trace` behind them.
        """
        kernel = kernel_now(now, self.outputs)
        centered = prepared - jnp.mean(prepared, axis=0, keepdims=True)
        norm, centered_norm = frobenius(kernel), _centered_norm(kernel)
        return {
            named("alignment", self.outputs): _alignment(kernel, prepared, norm),
            named("alignment_centered", self.outputs): _alignment(
                kernel, centered, centered_norm
            ),
        }

    def variables(self, problem: Problem) -> dict[str, Variable]:
        """`alignment` and `alignment_centered`, or these with `_trace` behind them.

        Args:
            problem: The problem.

        Returns:
            The variables, a number at every save time.
        """
        # Targets that are no rows are refused before the run starts.
        target_rows(problem)
        words = f"alignment of the {in_words(self.outputs)} with the targets"
        return {
            named("alignment", self.outputs): Variable((), words),
            named("alignment_centered", self.outputs): Variable(
                (), f"centered {words}"
            ),
        }

    def flops(self, problem: Problem) -> float:
        """Two matrix-vector products, two norms and the centering.

        Args:
            problem: The problem.

        Returns:
            Floating-point operations.
        """
        return 13.0 * kernel_entries(problem, self.outputs)


def _alignment(
    kernel: Inexact[Array, "N ..."],
    y: Inexact[Array, "N K"],
    norm: Float[Array, ""],
) -> Float[Array, ""]:
    # (Cy)ᵀΘ(Cy) equals ⟨CΘC, yyᵀ⟩: centering the targets is enough.
    precision = lax.Precision.HIGHEST
    pushed = jnp.tensordot(kernel, y, axes=kernel.ndim // 2, precision=precision)
    if kernel.ndim == 4:
        size = jnp.sum(y**2)
    else:
        # ‖Y Yᵀ‖_F = ‖Yᵀ Y‖_F, the smaller of the two.
        size = frobenius(jnp.matmul(y.T, y, precision=precision))
    return jnp.sum(y * pushed) / (size * norm)


def _centered_norm(kernel: Inexact[Array, "N ..."]) -> Float[Array, ""]:
    # ‖CΘC‖_F, by centering entries on the fly inside one reduction.
    columns = kernel.ndim // 2
    over_rows = jnp.mean(kernel, axis=0, keepdims=True)
    over_columns = jnp.mean(kernel, axis=columns, keepdims=True)
    over_both = jnp.mean(over_rows, axis=columns, keepdims=True)
    shape = kernel.shape
    return frobenius(
        kernel
        - jnp.broadcast_to(over_rows, shape)
        - jnp.broadcast_to(over_columns, shape)
        + jnp.broadcast_to(over_both, shape)
    )
