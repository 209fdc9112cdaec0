"""What a layer of infinite width is, and how another one is added.

A layer is one file: an equinox module that maps `Moments` to `Moments`, says what it
asks of the layers before it, and builds its finite counterpart. Nothing else has to
know of it.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import PRNGKeyArray

from ntkflow.infinite._moments import Moments

Shape = tuple[int, ...]
"""Units of a finite layer, then positions."""


class AbstractLayer(eqx.Module):
    """A layer at infinite width."""

    @property
    @abc.abstractmethod
    def is_linear(self) -> bool:
        """Whether the layer is linear, so that zero-mean units stay so."""

    @property
    @abc.abstractmethod
    def is_random(self) -> bool:
        """Whether its units are zero-mean and independent given those below.

        So it is with a layer that ends in random weights of its own, on which only
        linear layers follow. Branches may be added up only if all of them but one are.
        """

    @abc.abstractmethod
    def needs_pairs(self, after: bool) -> bool:
        """Whether the layer asks for covariances of all pairs of positions.

        Args:
            after: Whether what follows asks for those of this layer's output.

        Returns:
            Whether its input must have them.
        """

    @abc.abstractmethod
    def propagate(self, moments: Moments) -> Moments:
        """The moments of the layer's output.

        Args:
            moments: Those of its input.

        Returns:
            Those of its output.

        Raises:
            ValueError: The layer does not go with what precedes it.
        """

    @abc.abstractmethod
    def build(
        self, shape: Shape, width: int, *, key: PRNGKeyArray
    ) -> tuple[Callable[[Any], Any], Shape]:
        """The finite layer of which this is the limit.

        Args:
            shape: Units and positions of one input.
            width: Units of a layer that does not say how many it has.
            key: Random key for the initial weights.

        Returns:
            An equinox module that is called on one example of that shape, and the shape
            of what it returns.
        """
