"""Sums over the neighbors in a graph, at infinite width."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ntkflow.infinite._checks import check_positions
from ntkflow.infinite._layer import Shape
from ntkflow.infinite._maps import AbstractPositionMap
from ntkflow.infinite._moments import Moments
from ntkflow.infinite._positions import along, on_both_sides, silenced
from ntkflow.models import Frozen


@final
class Aggregate(AbstractPositionMap):
    """A fixed matrix applied to the positions, h'_p = Σ_q A_pq h_q.

    With A the adjacency matrix of a graph, perhaps normalized, and positions its nodes,
    a `Dense` followed by this is a layer of a graph network. One graph is meant, the
    same for all examples; Σ' = A Σ Aᵀ and Θ' = A Θ Aᵀ. Masked nodes count as zeros and
    stay masked.

    Args:
        matrix: The matrix A, [S, S].
        axis: The axis of positions it acts on, 0 for the first.

    Raises:
        ValueError: The matrix is not square, or not of floating-point numbers.

    Source: Du et al. (2019), "Graph neural tangent kernel", section 3, its aggregation.

    Verified by:
    tests/infinite/test_positions.py::test_linear_layers_map_moments_like_inputs,
    tests/infinite/test_positions.py::test_masked_nodes_are_as_good_as_missing
    """

    matrix: Float[Array, "S S"]
    axis: int = eqx.field(static=True)

    def __init__(self, matrix: Array | np.ndarray, axis: int = 0):
        square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
        if not square or not jnp.issubdtype(matrix.dtype, jnp.floating):
            raise ValueError(
                "Aggregate: `matrix` must be floating-point numbers of shape [S, S], "
                f"one row for each position, got {matrix.dtype} of shape "
                f"{matrix.shape}."
            )
        if axis < 0:
            raise ValueError(
                f"Aggregate: `axis` counts axes of positions from 0, got {axis}."
            )
        self.matrix = jnp.asarray(matrix)
        self.axis = axis

    def propagate(self, moments: Moments) -> Moments:
        """The moments of the sums.

        Args:
            moments: Those of the units.

        Returns:
            Those of the same units at the same positions.

        Raises:
            ValueError: The input has no such axis of positions, or it is of another
                size than the matrix.
        """  # ruff: ignore[docstring-extraneous-exception]
        check_positions("Aggregate", moments, least=self.axis + 1)
        self._check(moments.positions)
        matrix = self.matrix.astype(moments.nngp.dtype)
        return silenced(
            on_both_sides(
                silenced(moments),
                lambda x, start: along(x, matrix, start + self.axis),
            )
        )

    def build(
        self, shape: Shape, width: int, *, key: PRNGKeyArray
    ) -> tuple[Callable[[Any], Any], Shape]:
        """The function.

        Args:
            shape: Units and positions of one input.
            width: Not used.
            key: Not used.

        Returns:
            A module that sums, its matrix frozen, and the same shape.
        """
        self._check(shape[1:])
        return Frozen(Mixture(self.matrix, self.axis)), shape

    def _check(self, positions: tuple[int, ...]) -> None:
        if positions[self.axis] != self.matrix.shape[0]:
            raise ValueError(
                f"Aggregate: a matrix of shape {self.matrix.shape} does not go with "
                f"{positions[self.axis]} positions along axis {self.axis} of them: "
                "give one row and one column for each."
            )


class Mixture(eqx.Module):
    """A matrix applied to positions.

    Attributes:
        matrix: The matrix.
        axis: The axis of positions it acts on.
    """

    matrix: Float[Array, "S S"]
    axis: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, "C *S"]) -> Float[Array, "C *S"]:
        """Apply it to one example.

        Args:
            x: Units, then positions.

        Returns:
            The same units at the same positions.
        """
        return along(x, self.matrix.astype(x.dtype), 1 + self.axis)
