"""Averages and sums over windows of positions, or over all of them."""

import math
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ntkflow._types import Padding
from ntkflow.infinite._checks import check_positions
from ntkflow.infinite._finite import Pointwise
from ntkflow.infinite._layer import Shape
from ntkflow.infinite._maps import AbstractPositionMap
from ntkflow.infinite._moments import Moments
from ntkflow.infinite._positions import on_both_sides, scaled, shares, silenced
from ntkflow.infinite._windows import (
    Sizes,
    Window,
    any_in_windows,
    check_padding,
    check_sizes,
    count_windows,
    find_windows,
    sum_windows,
)


@final
class Pool(AbstractPositionMap):
    """A sum or an average over windows: `SumPool` and `AvgPool`.

    Σ'(p, p') is the sum or the mean of Σ over both windows, and so is Θ'. It needs the
    covariances of all pairs of positions.

    Masked positions count neither in a sum nor in the number an average is divided by.
    A window is masked where all of it is.

    Args:
        window: Positions in a window, along every axis or along each.
        strides: Distances between windows; by default those of windows side by side.
        padding: `"VALID"`, `"SAME"` or `"CIRCULAR"`. An average is over the whole
            window, with the zeros that `"SAME"` adds, unless `normalize_edges`.
        average: Whether the sum is divided by the size of the window.
        normalize_edges: Whether an average leaves out the zeros that `"SAME"` adds;
            with another padding there are none.

    Raises:
        ValueError: An argument is nothing it could be.

    Source: Novak et al. (2019), on "projection".

    Verified by:
    tests/infinite/test_pooling.py::test_pooling_maps_moments_like_inputs,
    tests/infinite/test_pooling.py::test_pooling_is_the_loop_over_windows
    """

    window: Sizes = eqx.field(static=True)
    strides: Sizes = eqx.field(static=True)
    padding: Padding = eqx.field(static=True)
    average: bool = eqx.field(static=True)
    normalize_edges: bool = eqx.field(static=True)

    def __init__(
        self,
        window: Sizes = 2,
        strides: Sizes | None = None,
        padding: Padding = "VALID",
        *,
        average: bool,
        normalize_edges: bool = False,
    ):
        name = "AvgPool" if average else "SumPool"
        self.window = check_sizes(name, "window", window)
        steps = self.window if strides is None else strides
        self.strides = check_sizes(name, "strides", steps)
        self.padding = check_padding(padding)
        self.average = average
        self.normalize_edges = normalize_edges

    def propagate(self, moments: Moments) -> Moments:
        """The moments of the sums or averages.

        Args:
            moments: Those of the units.

        Returns:
            Those of the same units in every window.

        Raises:
            ValueError: The input has no positions or too few.
        """  # ruff: ignore[docstring-extraneous-exception]
        check_positions(self._name, moments)
        windows = self._windows(moments.positions)
        mask1, mask2 = moments.mask1, moments.mask2
        pooled = on_both_sides(
            silenced(moments),
            lambda x, start: sum_windows(x, windows, start),
            mask1=None if mask1 is None else any_in_windows(mask1, windows),
            mask2=None if mask2 is None else any_in_windows(mask2, windows),
        )
        if not self.average:
            return pooled
        dtype = pooled.nngp.dtype

        def per_window(
            own: Float[Array, "N ..."], mask: Bool[Array, "N *S"] | None
        ) -> Float[Array, "N *T"]:
            held = jnp.ones((own.shape[0], *moments.positions), dtype)
            sizes = self._sizes(held, windows, 1)
            if mask is not None:
                masked = sum_windows((~mask).astype(dtype), windows, 1)
                sizes = jnp.maximum(sizes - masked, jnp.ones_like(masked))
            return 1 / sizes

        return scaled(
            pooled, per_window(moments.own1, mask1), per_window(moments.own2, mask2)
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
            A module that pools, and the shape of its output.
        """
        counts = count_windows(self._windows(shape[1:]), shape[1:])
        return Pointwise(self._pool), (shape[0], *counts)

    def _pool(self, x: Float[Array, "C *S"]) -> Float[Array, "C *T"]:
        windows = self._windows(x.shape[1:])
        total = sum_windows(x, windows, 1)
        if not self.average:
            return total
        return total / self._sizes(jnp.ones_like(x), windows, 1)

    def _sizes(
        self, ones: Float[Array, "N *S"], windows: tuple[Window, ...], start: int
    ) -> Float[Array, "N *T"]:
        """How many positions every window averages over, masks apart."""
        if self.normalize_edges:
            return sum_windows(ones, windows, start)
        size = math.prod(window.size for window in windows)
        shape = ones.shape[:start] + count_windows(windows, ones.shape[start:])
        return jnp.full(shape, size, ones.dtype)

    @property
    def _name(self) -> str:
        return "AvgPool" if self.average else "SumPool"

    def _windows(self, positions: tuple[int, ...]) -> tuple[Window, ...]:
        return find_windows(
            self._name, positions, self.window, self.strides, 1, self.padding
        )


@final
class GlobalPool(AbstractPositionMap):
    """A sum or an average over all positions: `GlobalSumPool` and `GlobalAvgPool`.

    Σ' is the sum or the mean of Σ(p, p') over all pairs of positions, and so is Θ'. For
    inputs of different lengths it is over the positions that hold something.

    Args:
        average: Whether the sum is divided by the number of positions.

    Source: Novak et al. (2019), on "projection".

    Verified by:
    tests/infinite/test_pooling.py::test_pooling_maps_moments_like_inputs,
    tests/infinite/test_pooling.py::test_global_pooling_of_lengths_is_that_of_the_cut
    """

    average: bool = eqx.field(static=True)

    def propagate(self, moments: Moments) -> Moments:
        """The moments of the sum or average.

        Args:
            moments: Those of the units.

        Returns:
            Those of the same units, without positions.

        Raises:
            ValueError: The input has no positions.
        """  # ruff: ignore[docstring-extraneous-exception]
        name = "GlobalAvgPool" if self.average else "GlobalSumPool"
        check_positions(name, moments)
        rank = len(moments.positions)
        weighted = silenced(moments)
        if self.average:
            weighted = scaled(moments, *shares(moments))
        return on_both_sides(
            weighted,
            lambda x, start: jnp.sum(x, axis=tuple(range(start, start + rank))),
            mask1=None,
            mask2=None,
            pairs=False,
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
            A module that pools, and the shape of its output.
        """
        return Pointwise(self._pool), shape[:1]

    def _pool(self, x: Float[Array, "C *S"]) -> Float[Array, " C"]:
        axes = tuple(range(1, x.ndim))
        return jnp.mean(x, axis=axes) if self.average else jnp.sum(x, axis=axes)


def AvgPool(  # ruff: ignore[invalid-function-name]
    window: Sizes = 2,
    strides: Sizes | None = None,
    padding: Padding = "VALID",
    *,
    normalize_edges: bool = False,
) -> Pool:
    """Averages over windows.

    Args:
        window: Positions in a window, along every axis or along each.
        strides: Distances between windows; by default those of windows side by side.
        padding: `"VALID"`, `"SAME"` or `"CIRCULAR"`.
        normalize_edges: Whether the zeros that `"SAME"` adds are left out.

    Returns:
        The layer.
    """
    return Pool(window, strides, padding, average=True, normalize_edges=normalize_edges)


def SumPool(  # ruff: ignore[invalid-function-name]
    window: Sizes = 2, strides: Sizes | None = None, padding: Padding = "VALID"
) -> Pool:
    """Sums over windows.

    Args:
        window: Positions in a window, along every axis or along each.
        strides: Distances between windows; by default those of windows side by side.
        padding: `"VALID"`, `"SAME"` or `"CIRCULAR"`.

    Returns:
        The layer.
    """
    return Pool(window, strides, padding, average=False)


def GlobalAvgPool() -> GlobalPool:  # ruff: ignore[invalid-function-name]
    """The average over all positions.

    Returns:
        The layer.
    """
    return GlobalPool(average=True)


def GlobalSumPool() -> GlobalPool:  # ruff: ignore[invalid-function-name]
    """The sum over all positions.

    Returns:
        The layer.
    """
    return GlobalPool(average=False)
