"""Random vectors that tell positions apart, added to the units there."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ntkflow.infinite._aggregate import Mixture
from ntkflow.infinite._checks import check_scale, check_sequence
from ntkflow.infinite._layer import Shape
from ntkflow.infinite._maps import AbstractUnitMap
from ntkflow.infinite._moments import Moments
from ntkflow.infinite._positions import silenced
from ntkflow.models import Frozen


@final
class PositionalEmbedding(AbstractUnitMap):
    """Units plus a random vector of each position, the same for all examples.

    With R(p, p') the covariance of the vectors of two positions of a sequence,

        Σ' = Σ + w_std² R,    Θ' = Θ + w_std² R

    where trained are the independent vectors that those of covariance R are mixtures
    of. It is the limit of many units, as behind `Embedding` or `Dense`: added to inputs
    of few units, it is but the mean over embeddings.

    Args:
        w_std: Standard deviation of the vectors' entries where R(p, p) is 1.
        covariance: R, of shape [T, T] and positive semi-definite; by default the
            vectors of different positions are independent. For neighbors that are
            alike take, say, exp(−|p − p'|/5).

    Raises:
        ValueError: `w_std` is no scale, or `covariance` no covariance.

    Source: Hron, Bahri, Sohl-Dickstein & Novak (2020), on positional encodings.

    Verified by:
    tests/infinite/test_attention.py::test_embeddings_add_their_covariance,
    tests/infinite/test_width.py::test_networks_of_every_layer_approach_the_limit
    """

    w_std: float | Float[Array, ""]
    covariance: Float[Array, "T T"] | None

    def __init__(
        self,
        w_std: float | int | Float[Array, ""] = 1.0,
        covariance: Any = None,
    ):
        self.w_std = check_scale("PositionalEmbedding", "w_std", w_std)
        if covariance is not None:
            covariance = jnp.asarray(covariance, jnp.result_type(float))
            _check_covariance(covariance)
        self.covariance = covariance

    def propagate(self, moments: Moments) -> Moments:
        """The moments of the sums.

        Args:
            moments: Those of a sequence of units.

        Returns:
            Those of the units with the vectors added, Gaussian if they were.

        Raises:
            ValueError: The input is no sequence, or has another length.
        """  # ruff: ignore[docstring-extraneous-exception]
        self._check(moments.positions)
        dtype = moments.nngp.dtype
        added = jnp.asarray(self.w_std, dtype) ** 2 * self._matrix(
            moments.positions[0]
        ).astype(dtype)
        if not moments.pairs:
            added = jnp.diagonal(added)

        def sum_of(moment: Array) -> Array:
            return moment + jnp.broadcast_to(added, moment.shape)

        return silenced(
            moments.with_moments(
                sum_of(moments.nngp),
                sum_of(moments.ntk),
                sum_of(moments.own1),
                sum_of(moments.own2),
            )
        )

    def build(
        self, shape: Shape, width: int, *, key: PRNGKeyArray
    ) -> tuple[Callable[[Any], Any], Shape]:
        """The finite layer.

        Args:
            shape: Units and the one number of positions.
            width: Not used.
            key: Random key.

        Returns:
            A module that adds vectors, and the same shape.

        Raises:
            ValueError: As for `propagate`.
        """  # ruff: ignore[docstring-extraneous-exception]
        self._check(shape[1:])
        values, vectors = jnp.linalg.eigh(self._matrix(shape[1]))
        values = jnp.maximum(values, jnp.zeros_like(values))
        root = vectors * jnp.sqrt(values)[None, :]
        mixture = Frozen(Mixture(float(self.w_std) * root, 0))
        return FiniteEmbedding(jax.random.normal(key, shape), mixture), shape

    def _matrix(self, length: int) -> Float[Array, "T T"]:
        return jnp.eye(length) if self.covariance is None else self.covariance

    def _check(self, positions: tuple[int, ...]) -> None:
        check_sequence("PositionalEmbedding", positions)
        if self.covariance is not None and self.covariance.shape[0] != positions[0]:
            raise ValueError(
                f"PositionalEmbedding: a covariance of {self.covariance.shape[0]} "
                f"positions does not go with a sequence of {positions[0]}."
            )


def _check_covariance(matrix: Float[Array, "..."]) -> None:
    """Refuses what is no covariance; of a traced one only the shape is known."""
    shape = matrix.shape
    fault = ""
    if matrix.ndim != 2 or shape[0] != shape[1] or not matrix.size:
        fault = f"got shape {shape}"
    else:
        try:
            known = np.asarray(matrix, np.float64)
        except jax.errors.TracerArrayConversionError:
            return
        slack = np.sqrt(np.finfo(matrix.dtype).eps) * np.abs(known).max()
        if not np.abs(known - known.T).max() <= slack:
            fault = "and be symmetric and finite"
        elif np.linalg.eigvalsh(known)[0] < -slack:
            fault = "and be positive semi-definite"
    if fault:
        raise ValueError(
            "PositionalEmbedding: `covariance` must have one row and one column for "
            f"each position, {fault}. For neighbors that are alike take, say, "
            "exp(−|p − p'|/5)."
        )


class FiniteEmbedding(eqx.Module):
    """Vectors added to units.

    Attributes:
        table: Independent vectors, those that are trained.
        mixture: Makes of them those of every position; fixed.
    """

    table: Float[Array, "C T"]
    mixture: Callable[[Any], Any]

    def __call__(self, x: Float[Array, "C T"]) -> Float[Array, "C T"]:
        """Apply it to one example.

        Args:
            x: Units at every position.

        Returns:
            The same units.
        """
        return x + self.mixture(self.table.astype(x.dtype))
