"""One model, or an ensemble stacked on a leading axis: what a solve integrates."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.tree_util as jtu

from .._types import Params
from ..flows import AbstractFlow, is_built_in
from ..problem import Problem
from ..solvers import Descent, EqualSteps


class Lanes(NamedTuple):
    """The models a solve integrates: one, or an ensemble stacked on a leading axis.

    Attributes:
        problem: Data, loss and settings; of one lane, its model too.
        params: Trained leaves, stacked if `number` is not None.
        static: The other leaves, likewise.
        number: Number of lanes of an ensemble, or None for a single run.
    """

    problem: Problem
    params: Params
    static: Any
    number: int | None

    def lane(self, i: int) -> Problem:
        """The problem of one lane.

        Args:
            i: Its index.

        Returns:
            A problem with that lane's model.
        """
        if self.number is None:
            return self.problem
        return self.problem.with_parts(take(self.params, i), take(self.static, i))

    def member_of(self, tree: Any, i: int) -> Any:
        """A solve, or flows, with the numbers of one lane.

        Args:
            tree: A solve or flows.
            i: Index of the lane.

        Returns:
            The same, with one learning rate or damping where there is one a lane.
        """
        if self.number is None:
            return tree
        own, shared = split_numbers(tree)
        return eqx.combine(take(own, i), shared)


def split_numbers(tree: Any) -> tuple[Any, Any]:
    """Splits a solve or flows into what differs between ensemble members and the rest.

    Args:
        tree: A solve or flows.

    Returns:
        The learning rates and dampings that hold one number a member, and the rest,
        each of the structure of `tree`.
    """

    def differs(node: Any) -> Any:
        owner = _has_numbers(node)
        return jtu.tree_map(
            lambda leaf: owner and eqx.is_inexact_array(leaf) and leaf.ndim == 1, node
        )

    return eqx.partition(tree, jtu.tree_map(differs, tree, is_leaf=_has_numbers))


def _has_numbers(node: Any) -> bool:
    if isinstance(node, AbstractFlow):
        return is_built_in(node)
    return isinstance(node, EqualSteps | Descent)


def take(tree: Any, i: int) -> Any:
    """One entry of the leading axis of every array of a pytree.

    Args:
        tree: A pytree; leaves that are not arrays are kept.
        i: The index.

    Returns:
        The pytree without that axis.
    """
    return jtu.tree_map(lambda leaf: leaf[i] if eqx.is_array(leaf) else leaf, tree)
