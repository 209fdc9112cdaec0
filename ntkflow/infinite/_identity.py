"""The layer that does nothing."""

from collections.abc import Callable
from typing import Any, final

from jaxtyping import PRNGKeyArray

from ntkflow.infinite._finite import Chain
from ntkflow.infinite._layer import Shape
from ntkflow.infinite._maps import AbstractUnitMap
from ntkflow.infinite._moments import Moments


@final
class Identity(AbstractUnitMap):
    """The layer that does nothing: the branch that hands on what it reads."""

    def propagate(self, moments: Moments) -> Moments:
        """The moments.

        Args:
            moments: Those of its input.

        Returns:
            The same.
        """
        return moments

    def build(
        self, shape: Shape, width: int, *, key: PRNGKeyArray
    ) -> tuple[Callable[[Any], Any], Shape]:
        """A module that does nothing.

        Args:
            shape: Units and positions of one input.
            width: Not used.
            key: Not used.

        Returns:
            The module, and the same shape.
        """
        return Chain(()), shape
