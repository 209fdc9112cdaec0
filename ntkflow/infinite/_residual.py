"""The residual block at infinite width."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ntkflow.infinite._agreement import agree, check_same_units
from ntkflow.infinite._checks import check_scale
from ntkflow.infinite._layer import AbstractLayer, Shape
from ntkflow.infinite._moments import Moments


class Block(eqx.Module):
    """A finite residual block.

    Attributes:
        branch: Maps units and positions to as many.
        scale: Factor on the branch.
    """

    branch: Callable[[Any], Any]
    scale: float = eqx.field(static=True)

    def __call__(self, x: Float[Array, "C *S"]) -> Float[Array, "C *S"]:
        """Apply it.

        Args:
            x: Units, then positions.

        Returns:
            x + scale·branch(x).
        """
        return x + self.scale * self.branch(x)


@final
class Residual(AbstractLayer):
    """A residual block h + a·B(h): Σ' = Σ + a² Σ_B and Θ' = Θ + a² Θ_B.

    (Σ_B, Θ_B) is the branch's own recursion started from (Σ, Θ). The branch must end in
    random weights of its own, so that the cross terms vanish.

    Args:
        branch: The layer B, or a `Sequential`.
        scale: The factor a, a number or an array that is differentiated through.

    Raises:
        ValueError: The branch does not end in random weights, or the scale is no number
            it could be.

    Source: Hayou et al. (2021), section 2; Yang (2020), Tensor Programs II.

    Verified by: tests/infinite/test_branches.py::test_linear_blocks_are_a_power,
        tests/infinite/test_branches.py::test_joins_match_finite_networks
    """

    branch: AbstractLayer
    scale: float | Float[Array, ""]

    def __init__(self, branch: Any, scale: float | int | Float[Array, ""] = 1.0):
        if not isinstance(branch, AbstractLayer) or not branch.is_random:
            raise ValueError(
                "Residual: the branch must be a layer that ends in random weights of "
                "its own, with linear layers at most behind them, or the kernel of h + "
                "B(h) has cross terms (that of h + h is 4 K, not 2 K); got "
                f"{branch!r}. End it with a Dense or a Conv."
            )
        self.branch = branch
        self.scale = check_scale("Residual", "scale", scale)

    @property
    def is_linear(self) -> bool:
        """Zero-mean units stay so, as what is added to them is zero-mean."""
        return True

    @property
    def is_random(self) -> bool:
        """It contains what it reads."""
        return False

    def needs_pairs(self, after: bool) -> bool:
        """The skip keeps what there is; asks the branch.

        Args:
            after: Whether pairs are asked for behind the layer.

        Returns:
            Whether the branch or what follows asks for them.
        """
        return after or self.branch.needs_pairs(after)

    def propagate(self, moments: Moments) -> Moments:
        """The moments of the block's output.

        Args:
            moments: Those of its input.

        Returns:
            Those of its output; Gaussian if its input is.

        Raises:
            ValueError: The branch changes the number of units or positions.
        """  # ruff: ignore[docstring-extraneous-exception]
        skip, found = agree("Residual", [moments, self.branch.propagate(moments)])
        factor = jnp.asarray(self.scale, moments.nngp.dtype) ** 2
        return skip.with_moments(
            skip.nngp + factor * found.nngp,
            skip.ntk + factor * found.ntk,
            skip.own1 + factor * found.own1,
            skip.own2 + factor * found.own2,
            channels=check_same_units("Residual", [skip, found]),
            gaussian=skip.gaussian and found.gaussian,
        )

    def build(
        self, shape: Shape, width: int, *, key: PRNGKeyArray
    ) -> tuple[Callable[[Any], Any], Shape]:
        """The finite block.

        Args:
            shape: Units and positions of one input.
            width: Units of the branch's layers that do not say how many they have.
            key: Random key.

        Returns:
            The block, and the same shape.

        Raises:
            ValueError: The finite branch changes the shape.
        """
        branch, out = self.branch.build(shape, width, key=key)
        if out != shape:
            raise ValueError(
                f"Residual: the finite branch maps units and positions {shape} to "
                f"{out}, which must be the same: put a Dense or a Conv of that width "
                "in front of the block, or give the branch's last layer width=..."
            )
        return Block(branch, float(self.scale)), shape
