"""How far the parameters move."""

from typing import ClassVar, final

import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float

from .._types import Params
from ..models import named_leaves
from ..problem import Problem
from ._base import AbstractMeasure, Snapshot, Variable
from ._kernel import frobenius


@final
class ParameterDistance(AbstractMeasure):
    """The distance ‖θ_t − θ₀‖₂ of the parameters, in all and leaf by leaf.

    Distances are absolute: they exist for leaves that start at zero, and the squares of
    the leaves' distances add up to the square of the whole. `parameter_norm_initial`
    holds ‖θ₀‖₂ of every leaf, to be divided by where a relative change is wanted.

    Source: Chizat, Oyallon & Bach (2019), theorem 2.2, for its fall as 1/α.
    Verified by: tests/measures/test_parameters.py::test_distances_match_the_loop
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    def prepare(self, first: Snapshot) -> Float[Array, " layers"]:
        """‖θ₀‖₂ of every leaf.

        Args:
            first: The moment t = 0.

        Returns:
            One norm a trained leaf.
        """
        return _leaf_norms(first.params0)

    def __call__(self, now: Snapshot, prepared: Array) -> dict[str, Array]:
        """The distances now.

        Args:
            now: The moment.
            prepared: ‖θ₀‖₂ of every leaf.

        Returns:
            `parameter_distance`, `parameter_distance_layer` and
            `parameter_norm_initial`.
        """
        moved = jtu.tree_map(jnp.subtract, now.params, now.params0)
        by_leaf = _leaf_norms(moved)
        return {
            "parameter_distance": frobenius(by_leaf),
            "parameter_distance_layer": by_leaf,
            "parameter_norm_initial": prepared,
        }

    def variables(self, problem: Problem) -> dict[str, Variable]:
        """The distances, and the norms at t = 0.

        Args:
            problem: The problem.

        Returns:
            The variables; `layer` runs over the names of the trained leaves.
        """
        coords = {"layer": [name for name, _ in named_leaves(problem.params)]}
        layers = ("layer",)
        return {
            "parameter_distance": Variable((), "distance of the parameters from θ₀"),
            "parameter_distance_layer": Variable(
                layers, "distance of each parameter array from θ₀", coords=coords
            ),
            "parameter_norm_initial": Variable(
                layers,
                "norm of each parameter array at t = 0",
                coords=coords,
                over_time=False,
            ),
        }

    def flops(self, problem: Problem) -> float:
        """Three operations a parameter.

        Args:
            problem: The problem.

        Returns:
            Floating-point operations.
        """
        return 3.0 * problem.n_params


def _leaf_norms(tree: Params) -> Float[Array, " layers"]:
    return jnp.stack([frobenius(leaf) for leaf in jtu.tree_leaves(tree)])
