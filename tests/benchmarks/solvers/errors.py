"""How far a run's outputs are from the reference's."""

from typing import NamedTuple

import numpy as np
import scipy.interpolate as si
import scipy.optimize as so
from jaxtyping import Float

Outputs = tuple[Float[np.ndarray, "T N K"], Float[np.ndarray, "T Nt K"]]
"""Training and test outputs over time."""

_WIDEST = 0.1
"""A time is shifted by this share of itself at most."""


class Errors(NamedTuple):
    """Errors relative to the size of the outputs, the largest over save times.

    Attributes:
        largest: Between equal times.
        aligned: Between a save time and the nearest of the reference's times to it, as
            outputs are concerned; None where that was not asked for.
        shift: The largest such displacement of time, relative to the time.
    """

    largest: float
    aligned: float | None
    shift: float | None


def relative(found: Outputs, reference: Outputs, size: float) -> np.ndarray:
    """Errors over time, the larger of those on training and on test outputs.

    Args:
        found: A run's outputs.
        reference: The reference's at the same times.
        size: Root mean square of the targets, below which outputs count as small.

    Returns:
        The root mean square of the difference over the larger of that of the
        reference's outputs and `size`, time by time.
    """
    pairs = zip(found, reference, strict=True)
    return np.max([_rms(a - b) / np.maximum(_rms(b), size) for a, b in pairs], axis=0)


def _rms(values: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean(values**2, axis=(1, 2)))


def errors(
    times: Float[np.ndarray, " T"],
    found: Outputs,
    fine: Float[np.ndarray, " M"],
    reference: Outputs,
    size: float,
    *,
    align: bool,
) -> Errors:
    """Compares a run with the reference.

    On a plateau between two steps of learning an error grows with the flow, along the
    way the solution goes: it comes too early or too late. Where that is all, the
    aligned error is small.

    Args:
        times: The run's save times, among the reference's.
        found: The run's outputs.
        fine: The reference's times.
        reference: The reference's outputs.
        size: Root mean square of the targets.
        align: Whether to align times too; `fine` must then resolve the solution.

    Returns:
        The errors.
    """
    at = np.searchsorted(fine, times)
    if not np.array_equal(fine[at], times):
        raise ValueError("The reference was not saved at the run's save times.")
    same = (reference[0][at], reference[1][at])
    largest = float(np.max(relative(found, same, size)))
    if not align:
        return Errors(largest, None, None)
    curves = [si.CubicSpline(fine, part) for part in reference]

    def error_at(i: int, t: float) -> float:
        one = (found[0][i : i + 1], found[1][i : i + 1])
        there = (curves[0]([t]), curves[1]([t]))
        return float(relative(one, there, size)[0])

    aligned, shift = [], []
    for i, t in enumerate(times):
        low, high = max(t * (1 - _WIDEST), fine[0]), min(t * (1 + _WIDEST), fine[-1])
        best, least = t, error_at(i, t)
        if high > low:
            nearest = so.minimize_scalar(
                lambda s, i=i: error_at(i, s),
                bounds=(low, high),
                method="bounded",
                options={"xatol": 1e-9 * t},
            )
            if nearest.fun < least:
                best, least = nearest.x, nearest.fun
        aligned.append(least)
        shift.append(abs(best - t) / t)
    return Errors(largest, float(np.max(aligned)), float(np.max(shift)))
