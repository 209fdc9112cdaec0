"""Units of several layers in a row."""

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any, ClassVar, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkflow.infinite._agreement import check_branches
from ntkflow.infinite._layer import AbstractLayer
from ntkflow.infinite._moments import Moments
from ntkflow.infinite._parallel import AbstractParallel


@final
class Concatenate(AbstractParallel):
    """The units of all branches in a row, as in densely connected networks.

    The moments are means over all units, weighted by how many each branch has. Units of
    different branches have different variances, so that an activation cannot follow
    directly: put it into each branch, which is the same network.

    Args:
        branches: Layers that read the same units.
        weights: The share of the units each branch has; by default from the widths of
            the branches' last layers.

    Raises:
        ValueError: There are fewer than two branches, or not one positive weight for
            each.

    Source: Huang et al. (2017), eq. 2, for the architecture; the mean over units of
        two sets is the weighted mean of theirs.

    Verified by: tests/infinite/test_branches.py::test_joins_match_finite_networks
    """

    branches: tuple[AbstractLayer, ...]
    weights: tuple[float, ...] | None = eqx.field(static=True)
    same_units: ClassVar[bool] = False

    def __init__(
        self,
        branches: Sequence[Any],
        weights: Sequence[float | int] | None = None,
    ):
        self.branches = tuple(branches)
        check_branches("Concatenate", self.branches)
        self.weights = None
        if weights is None:
            return
        positive = all(math.isfinite(weight) and weight > 0 for weight in weights)
        if len(weights) != len(self.branches) or not positive:
            raise ValueError(
                "Concatenate: `weights` must be one positive number for each of the "
                f"{len(self.branches)} branches, got {weights!r}."
            )
        self.weights = tuple(float(weight) / sum(weights) for weight in weights)

    @property
    def is_linear(self) -> bool:
        """Zero-mean units stay so where every branch keeps them so."""
        return all(branch.is_linear or branch.is_random for branch in self.branches)

    @property
    def is_random(self) -> bool:
        """Whether every branch is."""
        return all(branch.is_random for branch in self.branches)

    def join(self, found: list[Moments]) -> Moments:
        """The moments of all units.

        Args:
            found: Those of the branches.

        Returns:
            Their weighted means, not Gaussian.

        Raises:
            ValueError: The number of a branch's units is not known.
        """
        known = [m.channels for m in found if m.channels is not None]
        complete = len(known) == len(found)
        weights = self.weights
        if weights is None:
            if not complete:
                raise ValueError(
                    "Concatenate: the kernel depends on the share of the units each "
                    "branch has, and the widths are "
                    f"{[moments.channels for moments in found]}: give the last layer "
                    "of each branch width=..., or Concatenate weights=[...]."
                )
            weights = [units / sum(known) for units in known]

        def mean(kind: tuple[Float[Array, "..."], ...]) -> Float[Array, "..."]:
            terms = [w * moment for w, moment in zip(weights, kind, strict=True)]
            return functools.reduce(operator.add, terms)

        kinds = zip(*((m.nngp, m.ntk, m.own1, m.own2) for m in found), strict=True)
        return found[0].with_moments(
            *(mean(kind) for kind in kinds),
            channels=sum(known) if complete else None,
            gaussian=False,
        )

    def join_arrays(self, outputs: list[Array]) -> Array:
        """The units in a row.

        Args:
            outputs: One from each branch.

        Returns:
            All units, at the same positions.
        """
        return jnp.concatenate(outputs)
