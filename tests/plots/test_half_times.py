"""When half of a motion had happened, counted by a loop, wherever plots say it."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from ntkflow import plots
from ntkflow.plots import _numbers as numbers
from ntkflow.plots._words import number

from .datasets import make_dataset, make_ensemble, with_trace


def half_by_counting(curve, times) -> float:
    """The first time with half of the last value: one value after the other."""
    known = [(t, v) for t, v in zip(times, curve, strict=True) if np.isfinite(v)]
    end = known[-1][1]
    for t, value in known:
        if 2 * value >= end:
            return t
    raise AssertionError


# Beyond its end in between, below half of its end after that, and missing at both ends.
BENT = np.array([
    [np.nan, 0.0, 0.49, 0.2, 0.51, 3.0, 0.1, 1.0],
    [0.0, 0.9, 0.95, 1.0, 4.0, 1.9, 2.0, np.nan],
    [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0],
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0],
])
TIMES = np.array([0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])


def test_half_times_of_bent_curves_are_those_counted():
    expected = [half_by_counting(curve, TIMES) for curve in BENT]
    assert expected == [8.0, 4.0, 0.5, 64.0]
    np.testing.assert_array_equal(numbers.half_time(BENT, TIMES), expected)


def test_half_times_of_random_curves_are_those_counted():
    rng = np.random.default_rng(0)
    curves = rng.uniform(0.1, 1.0, (200, len(TIMES)))
    curves[rng.uniform(size=curves.shape) < 0.2] = np.nan
    curves[:, 3] = 0.7  # at least one value
    expected = [half_by_counting(curve, TIMES) for curve in curves]
    np.testing.assert_array_equal(numbers.half_time(curves, TIMES), expected)


def test_the_half_of_an_exponential_approach_is_its_closed_form():
    rate, end = 0.3, 20.0
    times = np.linspace(0.0, end, 20001)
    curve = 1 - np.exp(-rate * times)
    expected = -np.log(1 - 0.5 * curve[-1]) / rate
    (found,) = numbers.half_time(curve[None], times)
    assert expected <= found <= expected + times[1]


def bent(dataset, variable):
    """The dataset with a drift that overshoots, differently for every seed."""
    times = dataset["time"].values
    values = dataset[variable].values
    s = times / (1 + times)
    for i, row in enumerate(np.atleast_2d(values)):
        row[:] = s * (1 + (3 + i) * np.exp(-times / 8)) * (0.1 + 0.01 * i)
    return dataset


@pytest.mark.parametrize(
    ("make", "variable"),
    [
        (make_dataset, "kernel_drift"),
        (make_ensemble, "kernel_drift"),
        (lambda: with_trace(make_dataset()), "kernel_drift_trace"),
    ],
)
def test_the_half_that_is_drawn_and_told_is_the_one_counted(make, variable):
    dataset = bent(make(), variable)
    times = dataset["time"].values
    curves = np.atleast_2d(dataset[variable].values)
    half = float(np.median([half_by_counting(curve, times) for curve in curves]))
    of_peak = float(np.median([times[np.argmax(c >= c.max() / 2)] for c in curves]))
    assert half < of_peak, "half of the end is not half of the peak"

    ax = plots.kernel_drift(dataset, ax=Figure().add_subplot())
    (dot,) = [line for line in ax.lines if line.get_marker() == "o"]
    assert dot.get_xdata() == [half]
    assert dot.get_label() == f"half of that by t = {half:.3g}"
    at = np.flatnonzero(times == half)  # the median of an odd number of save times
    np.testing.assert_allclose(dot.get_ydata(), np.median(curves, axis=0)[at])

    (told,) = [s for s in plots.answers(dataset) if "half of that" in s]
    assert f"half of that by t = {number(half)}" in told
    losses = np.atleast_2d(dataset["loss_train"].sel(flow="gradient").values)
    left = [
        loss[list(times).index(half_by_counting(curve, times))] / loss[0]
        for loss, curve in zip(losses, curves, strict=True)
    ]
    assert f"loss was at {100 * np.median(left):.0f} % of its start" in told
