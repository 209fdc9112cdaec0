"""The layer that does nothing."""

from collections.abc import Callable
from typing import Any, final

from jaxtyping import PRNGKeyArray

from ntkflow.infinite._finite import Chain
from ntkflow.infinite._layer import AbstractLayer, Shape
from ntkflow.infinite._moments import Moments


@final
class Identity(AbstractLayer):
    """The layer that does nothing: the branch that hands on what it reads."""

    @property
    def is_linear(self) -> bool:
        """It is."""
        return True

    @property
    def is_random(self) -> bool:
        """It has no weights."""
        return False

    def needs_pairs(self, after: bool) -> bool:
        """It asks for nothing itself.

        Args:
            after: Whether pairs are asked for behind the layer.

        Returns:
            The same.
        """
        return after

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
