"""Linear layers in general: with or without weights, across positions or not."""

from ntkflow.infinite._layer import AbstractLayer


class AbstractRandomMap(AbstractLayer):
    """A linear layer with random weights of mean zero, and perhaps such a bias.

    Equal positions of the output depend on equal positions of the input.
    """

    @property
    def is_linear(self) -> bool:
        """It is affine, with a random bias of mean zero."""
        return True

    @property
    def is_random(self) -> bool:
        """Its weights are its own."""
        return True

    def needs_pairs(self, after: bool) -> bool:
        """Equal positions are mapped to equal positions.

        Args:
            after: Whether pairs are asked for behind the layer.

        Returns:
            The same.
        """
        return after


class AbstractFixedMap(AbstractLayer):
    """A linear layer without random weights."""

    @property
    def is_linear(self) -> bool:
        """It is."""
        return True

    @property
    def is_random(self) -> bool:
        """The units go through."""
        return False


class AbstractUnitMap(AbstractFixedMap):
    """A fixed linear map that mixes no positions."""

    def needs_pairs(self, after: bool) -> bool:
        """Equal positions are mapped to equal positions.

        Args:
            after: Whether pairs are asked for behind the layer.

        Returns:
            The same.
        """
        return after


class AbstractPositionMap(AbstractFixedMap):
    """A fixed linear map of positions: what is new at one is a mixture of several."""

    def needs_pairs(self, after: bool) -> bool:
        """A mixture's variance takes the covariances of what is mixed.

        Args:
            after: Not used.

        Returns:
            Yes.
        """
        return True
