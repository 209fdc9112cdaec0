"""One model, or an ensemble stacked on a leading axis: what a solve integrates."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.tree_util as jtu

from .._types import Params
from ..problem import Problem


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


def take(tree: Any, i: int) -> Any:
    """One entry of the leading axis of every array of a pytree.

    Args:
        tree: A pytree; leaves that are not arrays are kept.
        i: The index.

    Returns:
        The pytree without that axis.
    """
    return jtu.tree_map(lambda leaf: leaf[i] if eqx.is_array(leaf) else leaf, tree)
