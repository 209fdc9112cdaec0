"""How much of the kernel points along the targets."""

from typing import ClassVar, final

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Inexact

from ..problem import Problem
from ._base import AbstractMeasure, Snapshot, Variable
from ._kernel import frobenius, given, kernel_entries
from ._targets import target_rows


@final
class Alignment(AbstractMeasure):
    """Kernel-target alignment, ⟨Θ, y yᵀ⟩/(‖Θ‖_F ‖y yᵀ‖_F), plain and centered.

    The kernel and the targets live in the space R^{N·K} in which the outputs move, so y
    is the vector of all N·K targets (labels as one-hot rows) and the alignment is
    yᵀΘy/(‖y‖²‖Θ‖_F): the cosine between Θ and the kernel that learns y in one
    direction. It lies in [0, 1] and is 1 only for Θ ∝ y yᵀ. For one output it is the
    definition of the literature. For several, a kernel Θ̄ ⊗ I_K that treats outputs
    independently, as infinite-width kernels do, reaches at most 1/√K.

    The centered alignment removes from both, output by output, the mean over examples:
    Θ → CΘC and y → Cy with C = (I_N − 11ᵀ/N) ⊗ I_K. It is the centered kernel alignment
    (CKA) of Θ and y yᵀ, and is not inflated by a constant offset of the kernel.

    Undefined, hence NaN, for targets that vanish (plain) or are constant (centered).

    Source: Cristianini, Shawe-Taylor, Elisseeff & Kandola (2001), definition 1; Cortes,
    Mohri & Rostamizadeh (2012), section 2 (centered); Kornblith, Norouzi, Lee & Hinton
    (2019), eq. 4 (CKA).
    Verified by:
        tests/measures/test_alignment.py::test_alignment_matches_dense_matrices,
        tests/measures/test_alignment.py::test_centered_alignment_ignores_a_constant_offset
    """

    needs: ClassVar[frozenset[str]] = frozenset({"kernel"})

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
            `alignment` and `alignment_centered`.
        """
        kernel = given(now.kernel, "kernel")
        centered = prepared - jnp.mean(prepared, axis=0, keepdims=True)
        return {
            "alignment": _alignment(kernel, prepared, frobenius(kernel)),
            "alignment_centered": _alignment(kernel, centered, _centered_norm(kernel)),
        }

    def variables(self, problem: Problem) -> dict[str, Variable]:
        """`alignment` and `alignment_centered`.

        Args:
            problem: The problem.

        Returns:
            The variables, a number at every save time.
        """
        # Targets that are no rows are refused before the run starts.
        target_rows(problem)
        return {
            "alignment": Variable((), "alignment of the kernel with the targets"),
            "alignment_centered": Variable(
                (), "centered alignment of the kernel with the targets"
            ),
        }

    def flops(self, problem: Problem) -> float:
        """Two matrix-vector products, two norms and the centering.

        Args:
            problem: The problem.

        Returns:
            Floating-point operations.
        """
        return 13.0 * kernel_entries(problem)


def _alignment(
    kernel: Inexact[Array, "N K N K"],
    y: Inexact[Array, "N K"],
    norm: Float[Array, ""],
) -> Float[Array, ""]:
    # (Cy)ᵀΘ(Cy) equals ⟨CΘC, yyᵀ⟩: centering the targets is enough.
    pushed = jnp.tensordot(kernel, y, axes=2, precision=lax.Precision.HIGHEST)
    return jnp.sum(y * pushed) / (jnp.sum(y**2) * norm)


def _centered_norm(kernel: Inexact[Array, "N K N K"]) -> Float[Array, ""]:
    # ‖CΘC‖_F, by centering entries on the fly inside one reduction.
    over_rows = jnp.mean(kernel, axis=0, keepdims=True)
    over_columns = jnp.mean(kernel, axis=2, keepdims=True)
    over_both = jnp.mean(over_rows, axis=2, keepdims=True)
    shape = kernel.shape
    return frobenius(
        kernel
        - jnp.broadcast_to(over_rows, shape)
        - jnp.broadcast_to(over_columns, shape)
        + jnp.broadcast_to(over_both, shape)
    )
