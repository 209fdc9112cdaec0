"""Single numbers out of curves over time, seed by seed; NaN where a curve has none."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from ._read import median

Curves = Float[np.ndarray, "S T"]
Times = Float[np.ndarray, " T"]
Numbers = Float[np.ndarray, " S"]


def first(curves: Curves) -> Numbers:
    """The first finite value of each curve.

    Args:
        curves: Curves over time.

    Returns:
        One number a seed.
    """
    return _each(curves, lambda curve, at: curve[at[0]])


def last(curves: Curves) -> Numbers:
    """The last finite value of each curve.

    Args:
        curves: Curves over time.

    Returns:
        One number a seed.
    """
    return _each(curves, lambda curve, at: curve[at[-1]])


def first_time(curves: Curves, times: Times) -> Numbers:
    """When each curve begins.

    Args:
        curves: Curves over time.
        times: The save times.

    Returns:
        One time a seed.
    """
    return _each(curves, lambda _, at: times[at[0]])


def last_time(curves: Curves, times: Times) -> Numbers:
    """When each curve ends.

    Args:
        curves: Curves over time.
        times: The save times.

    Returns:
        One time a seed.
    """
    return _each(curves, lambda _, at: times[at[-1]])


def peak(curves: Curves) -> Numbers:
    """The largest value of each curve.

    Args:
        curves: Curves over time.

    Returns:
        One number a seed.
    """
    return _each(curves, lambda curve, at: curve[at].max())


def peak_time(curves: Curves, times: Times) -> Numbers:
    """When each curve is largest.

    Args:
        curves: Curves over time.
        times: The save times.

    Returns:
        One time a seed, the first if there are several.
    """
    return _each(curves, lambda curve, at: times[at[np.argmax(curve[at])]])


def half_time(curves: Curves, times: Times) -> Numbers:
    """The first save time at which each curve has at least half of its last value.

    Args:
        curves: Curves over time.
        times: The save times.

    Returns:
        One time a seed.

    Verified by: tests/plots/test_numbers.py::test_half_time_is_the_first_at_half
    """
    return _each(
        curves, lambda curve, at: times[at[curve[at] >= 0.5 * curve[at[-1]]][0]]
    )


def value_at(curves: Curves, times: Times, when: Numbers) -> Numbers:
    """The value of each curve at a save time of its own.

    Args:
        curves: Curves over time.
        times: The save times.
        when: One save time a seed, or NaN.

    Returns:
        One number a seed.
    """
    found = np.full(len(curves), np.nan)
    for i, t in enumerate(when):
        if np.isfinite(t):
            found[i] = curves[i, np.searchsorted(times, t)]
    return found


def middle(numbers: Numbers) -> float:
    """The median over seeds.

    Args:
        numbers: One number a seed.

    Returns:
        The median of those that are finite, NaN if none is.
    """
    return float(median(numbers))


def _each(curves: Curves, number: Callable[[np.ndarray, np.ndarray], Any]) -> Numbers:
    found = np.full(len(curves), np.nan)
    for i, curve in enumerate(curves):
        at = np.flatnonzero(np.isfinite(curve))
        if len(at):
            found[i] = number(curve, at)
    return found
