"""Parameters that vary with depth: θ(t) = Σ_b B_b(t) θ_b, in any basis."""

from collections.abc import Callable, Sequence
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, PyTree

from ._checks import check_positive, check_size


@final
class PiecewiseConstant(eqx.Module):
    """The indicators of equal pieces of depth, each over √h: orthonormal on [0, t1].

    Orthonormal, so that the kernel of the pieces' parameters has the limit of many
    pieces that L² has; the field is given its values times √h by `BasisField.constant`.

    Attributes:
        pieces: Their number m; each has length h = t1/m.
        t1: Where depth ends.

    Verified by: tests/models/test_basis.py::test_bases_are_orthonormal
    """

    pieces: int = eqx.field(static=True)
    t1: float | int = eqx.field(static=True, default=1.0)

    def __check_init__(self):
        check_size("PiecewiseConstant", "pieces", self.pieces)
        check_positive("PiecewiseConstant", "t1", self.t1)

    @property
    def jumps(self) -> tuple[float, ...]:
        """Where one piece ends and the next begins."""
        return tuple(self.t1 * b / self.pieces for b in range(1, self.pieces))

    @property
    def one(self) -> Float[np.ndarray, " B"]:
        """The coefficients of the function 1."""
        return np.full(self.pieces, np.sqrt(self.t1 / self.pieces))

    def __call__(self, t: Float[Array, ""]) -> Float[Array, " B"]:
        """The basis at a depth.

        Args:
            t: The depth.

        Returns:
            √(m/t1) for the piece that t lies in, 0 for all others.
        """
        piece = jnp.searchsorted(jnp.asarray(self.jumps, t.dtype), t, side="right")
        height = np.sqrt(self.pieces / self.t1)
        return height * jax.nn.one_hot(piece, self.pieces, dtype=t.dtype)


@final
class Legendre(eqx.Module):
    """The Legendre polynomials up to a degree, orthonormal on [0, t1].

    Attributes:
        degree: The highest degree; there are degree + 1 functions.
        t1: Where depth ends.

    Source: Massaroli, Poli, Park, Yamashita and Asama (2020), section 3 (spectral
        depth-varying parameters).
    Verified by: tests/models/test_basis.py::test_bases_are_orthonormal
    """

    degree: int = eqx.field(static=True)
    t1: float | int = eqx.field(static=True, default=1.0)

    def __check_init__(self):
        check_size("Legendre", "degree", self.degree, minimum=0)
        check_positive("Legendre", "t1", self.t1)

    @property
    def one(self) -> Float[np.ndarray, " B"]:
        """The coefficients of the function 1."""
        return np.sqrt(self.t1) * np.eye(1, self.degree + 1)[0]

    def __call__(self, t: Float[Array, ""]) -> Float[Array, " B"]:
        """The basis at a depth.

        Args:
            t: The depth.

        Returns:
            √((2b + 1)/t1) P_b(2t/t1 − 1) for every degree b.
        """
        s = 2 * t / self.t1 - 1
        values = [jnp.ones_like(s), s]
        for b in range(1, self.degree):
            values.append(((2 * b + 1) * s * values[b] - b * values[b - 1]) / (b + 1))
        sizes = np.sqrt((2 * np.arange(self.degree + 1) + 1) / self.t1)
        return jnp.stack(values[: self.degree + 1]) * jnp.asarray(sizes, s.dtype)


@final
class BasisField(eqx.Module):
    """A field whose parameters vary with depth, v(t, z; Σ_b B_b(t) θ_b).

    Args:
        fields: One field for each function of the basis: its inexact arrays are θ_b.
            They have one structure; whatever else they hold is the first's.
        basis: t -> [B], any callable, such as `PiecewiseConstant` or `Legendre`. One
            with an attribute `jumps`, depths where it jumps, has steps end there.

    Raises:
        ValueError: If there are no fields, their structures differ, or the basis has
            another number of functions.

    Source: Massaroli, Poli, Park, Yamashita and Asama (2020), section 3.
    Verified by: tests/models/test_basis.py::test_parameters_are_the_sum_over_the_basis
    """

    coefficients: PyTree
    template: Callable[..., Any]
    basis: Callable[..., Float[Array, " B"]]

    def __init__(
        self,
        fields: Sequence[Callable[..., Any]],
        basis: Callable[..., Float[Array, " B"]],
    ):
        if not fields:
            raise ValueError(
                "BasisField: `fields` must hold a field for each function of the "
                "basis, got none."
            )
        parts = [eqx.partition(field, eqx.is_inexact_array) for field in fields]
        params, rests = zip(*parts, strict=True)
        kinds = {_kind(p) for p in params}
        if len(kinds) > 1:
            raise ValueError(
                "BasisField: `fields` must have parameters of one structure and one "
                f"set of shapes, got {len(kinds)} different ones."
            )
        given = jax.eval_shape(basis, jnp.zeros(()))
        if given.shape != (len(fields),):
            raise ValueError(
                f"BasisField: the basis returns shape {list(given.shape)} for "
                f"{len(fields)} fields. Give one field for each of its functions."
            )
        self.coefficients = jtu.tree_map(lambda *leaves: jnp.stack(leaves), *params)
        self.template = rests[0]
        self.basis = basis

    @classmethod
    def constant(
        cls,
        field: Callable[..., Any],
        basis: PiecewiseConstant | Legendre,
    ) -> "BasisField":
        """The field whose parameters begin as the same at every depth.

        Args:
            field: A field.
            basis: A basis that knows the coefficients of the function 1.

        Returns:
            A field equal to the given one, with more parameters.
        """

        def scaled(c: float) -> Callable[..., Any]:
            return jtu.tree_map(
                lambda leaf: c * leaf if eqx.is_inexact_array(leaf) else leaf, field
            )

        return cls([scaled(float(c)) for c in basis.one], basis)

    @property
    def jumps(self) -> tuple[float, ...]:
        """The depths where the basis jumps."""
        return tuple(getattr(self.basis, "jumps", ()))

    def at(self, t: Float[Array, ""]) -> Callable[..., Any]:
        """The field with the parameters of one depth.

        Args:
            t: The depth.

        Returns:
            The field of θ(t).
        """
        weights = self.basis(t)

        def combine(leaf: Float[Array, "B ..."]) -> Float[Array, "..."]:
            return jnp.tensordot(weights.astype(leaf.dtype), leaf, axes=1)

        params = jtu.tree_map(combine, self.coefficients)
        return eqx.combine(params, self.template)

    def __call__(
        self, t: Float[Array, ""], z: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """The velocity of a state.

        Args:
            t: The depth.
            z: The state.

        Returns:
            v(t, z; θ(t)).
        """
        return self.at(t)(t, z)


def _kind(params: PyTree) -> tuple:
    leaves, structure = jtu.tree_flatten(params)
    return structure, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)
