"""Windows that slide along axes of positions.

Windows of several axes are products of windows of one, so that a sum over a window is
taken axis by axis, each a sum of shifted and strided slices. A layer whose weights are
shared between positions moves both positions of a pair together; a layer without
weights moves each on its own.
"""

import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Shaped

from ntkflow._errors import unknown_name
from ntkflow._types import Padding

PADDINGS = ("SAME", "VALID", "CIRCULAR")

Sizes = int | tuple[int, ...]
"""A number for every axis of positions, or one for each."""


class Window(NamedTuple):
    """How windows lie along one axis of positions.

    Attributes:
        size: Positions in a window.
        stride: Distance between windows.
        dilation: Distance between the positions in a window.
        low: Positions added in front.
        high: Positions added at the end.
        wrap: Whether these are copies from the other end, not zeros.
        spread: Each position is first followed by `spread` − 1 zeros.
    """

    size: int
    stride: int
    dilation: int
    low: int
    high: int
    wrap: bool
    spread: int = 1

    def count(self, positions: int) -> int:
        """How many windows there are.

        Args:
            positions: The length of the axis.

        Returns:
            The length of the new axis.
        """
        length = positions * self.spread + self.low + self.high
        return (length - (self.size - 1) * self.dilation - 1) // self.stride + 1


def check_sizes(owner: str, name: str, value: object) -> Sizes:
    """Refuse what is neither a positive integer nor a sequence of them.

    Args:
        owner: The layer, as named in the message.
        name: The argument, as named in the message.
        value: What was given.

    Returns:
        An integer or a tuple of them.

    Raises:
        ValueError: It is something else.
    """
    several = isinstance(value, Sequence) and len(value) > 0
    sizes = value if isinstance(value, Sequence) and several else (value,)
    found = tuple(
        int(size)
        for size in sizes
        if isinstance(size, int | np.integer)
        and not isinstance(size, bool)
        and size > 0
    )
    if len(found) < len(sizes):
        raise ValueError(
            f"{owner}: `{name}` must be a positive integer, or a tuple of one for each "
            f"axis of positions, got {value!r}."
        )
    return found if several else found[0]


def check_padding(padding: Padding) -> Padding:
    """Refuse a padding that has no such name.

    Args:
        padding: What was given.

    Returns:
        The padding.

    Raises:
        ValueError: It is unknown.
    """  # ruff: ignore[docstring-missing-exception, docstring-extraneous-exception]
    if padding not in PADDINGS:
        raise unknown_name("padding", padding, PADDINGS)
    return padding


def for_each_axis(owner: str, name: str, value: Sizes, rank: int) -> tuple[int, ...]:
    """A number for each axis.

    Args:
        owner: The layer, as named in the message.
        name: The argument, as named in the message.
        value: What was given.
        rank: How many axes there are.

    Returns:
        As many numbers.

    Raises:
        ValueError: It has another number of them.
    """
    if isinstance(value, int):
        return (value,) * rank
    if len(value) != rank:
        raise ValueError(
            f"{owner}: {name}={value} has {len(value)} entries, and the units that it "
            f"meets have {rank} axes of positions: give one entry for each, or one "
            "number for all."
        )
    return value


def find_windows(
    owner: str,
    positions: tuple[int, ...],
    size: Sizes,
    strides: Sizes,
    dilation: Sizes,
    padding: str,
) -> tuple[Window, ...]:
    """The windows of a convolution or a pooling.

    Args:
        owner: The layer, as named in the message.
        positions: The number of positions along each axis.
        size: Positions in a window.
        strides: Distances between windows.
        dilation: Distances between the positions in a window.
        padding: `"VALID"` keeps to windows inside; `"SAME"` adds zeros, as many as it
            takes for one window for each stride, an odd one at the end; `"CIRCULAR"`
            adds copies from the other end, as many.

    Returns:
        One for each axis.

    Raises:
        ValueError: A tuple has not one entry for each axis, or no window fits inside.
    """
    rank = len(positions)
    found = []
    for n, k, stride, gap in zip(
        positions,
        for_each_axis(owner, "window", size, rank),
        for_each_axis(owner, "strides", strides, rank),
        for_each_axis(owner, "dilation", dilation, rank),
        strict=True,
    ):
        reach = (k - 1) * gap + 1
        total = 0 if padding == "VALID" else (-(-n // stride) - 1) * stride + reach - n
        low = max(total, 0) // 2
        window = Window(k, stride, gap, low, max(total, 0) - low, padding == "CIRCULAR")
        if window.count(n) < 1:
            raise ValueError(
                f"{owner}: a window that reaches over {reach} positions does not fit "
                f"into an axis of {n}. Take a smaller one, or padding='SAME'."
            )
        found.append(window)
    return tuple(found)


def count_windows(
    windows: tuple[Window, ...], positions: tuple[int, ...]
) -> tuple[int, ...]:
    """How many windows there are along each axis.

    Args:
        windows: One for each axis.
        positions: The number of positions along each axis.

    Returns:
        The number of new positions.
    """
    return tuple(w.count(n) for w, n in zip(windows, positions, strict=True))


def pad(
    x: Shaped[Array, "..."], window: Window, axes: tuple[int, ...]
) -> Shaped[Array, "..."]:
    """What windows slide over.

    Args:
        x: Values with positions.
        window: How they lie.
        axes: The axes along which they do.

    Returns:
        The same, spread out and with what is added at both ends.
    """
    spread, low, high = window.spread, window.low, window.high
    config = [(0, 0, 0)] * x.ndim
    for axis in axes:
        end = spread - 1
        config[axis] = (0, end, end) if window.wrap else (low, high + end, end)
    if any(any(entry) for entry in config):
        x = jax.lax.pad(x, jnp.zeros((), x.dtype), config)
    if window.wrap and (low or high):
        widths = [(low, high) if axis in axes else (0, 0) for axis in range(x.ndim)]
        x = jnp.pad(x, widths, mode="wrap")
    return x


def offsets(
    padded: Shaped[Array, "..."], window: Window, axes: tuple[int, ...]
) -> Iterator[Shaped[Array, "..."]]:
    """The entries of all windows, one offset after the other.

    Args:
        padded: Values with positions, what is added to them included.
        window: How windows lie.
        axes: The axes along which they do, all moved together.

    Yields:
        For each place in a window the values there, with axes of windows.
    """
    reach = (window.size - 1) * window.dilation
    for place in range(window.size):
        starts, limits = [0] * padded.ndim, list(padded.shape)
        strides = [1] * padded.ndim
        for axis in axes:
            starts[axis] = place * window.dilation
            limits[axis] -= reach - starts[axis]
            strides[axis] = window.stride
        yield jax.lax.slice(padded, starts, limits, strides)


def sum_windows(
    x: Shaped[Array, "..."], windows: tuple[Window, ...], *starts: int
) -> Shaped[Array, "..."]:
    """Sums over windows.

    Args:
        x: Values with positions.
        windows: One for each axis of positions.
        *starts: The first axis of positions; the first of each set of them where
            several move together.

    Returns:
        The same with axes of windows.
    """
    return _reduce_windows(operator.add, x, windows, *starts)


def any_in_windows(
    mask: Bool[Array, "N *S"], windows: tuple[Window, ...]
) -> Bool[Array, "N *T"]:
    """Whether a window has any position that holds something.

    Args:
        mask: Which positions do.
        windows: One for each axis of positions.

    Returns:
        The answer for every window.
    """
    return _reduce_windows(operator.or_, mask, windows, 1)


def patches(
    x: Shaped[Array, "C *S"], windows: tuple[Window, ...]
) -> Shaped[Array, "F *T"]:
    """All that a window has in it, of one example.

    Args:
        x: Units, then positions.
        windows: One for each axis of positions.

    Returns:
        Units and places in the window, then windows.
    """
    for axis, window in enumerate(windows, start=1):
        x = pad(x, window, (axis,))
    parts = [x]
    for axis, window in enumerate(windows, start=1):
        parts = [seen for part in parts for seen in offsets(part, window, (axis,))]
    return jnp.concatenate(parts)


def _reduce_windows(
    operation: Callable[[Any, Any], Any],
    x: Shaped[Array, "..."],
    windows: tuple[Window, ...],
    *starts: int,
) -> Shaped[Array, "..."]:
    along = [
        (window, tuple(start + number for start in starts))
        for number, window in enumerate(windows)
    ]
    # All padding comes first: between sums, compilers fuse it into slow loops.
    for window, axes in along:
        x = pad(x, window, axes)
    for window, axes in along:
        x = functools.reduce(operation, offsets(x, window, axes))
    return x
