"""Single numbers out of curves."""

import numpy as np
import pytest

from ntkflow.plots import _numbers as numbers
from ntkflow.plots._words import known, number, ordinal, percent, share

NAN = np.nan
TIMES = np.array([1.0, 2.0, 4.0, 8.0])
CURVES = np.array([
    [0.0, 5.0, 3.0, 4.0],
    [NAN, 1.0, 2.0, NAN],
    [NAN, NAN, NAN, NAN],
])


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (numbers.first(CURVES), [0.0, 1.0, NAN]),
        (numbers.last(CURVES), [4.0, 2.0, NAN]),
        (numbers.peak(CURVES), [5.0, 2.0, NAN]),
        (numbers.first_time(CURVES, TIMES), [1.0, 2.0, NAN]),
        (numbers.last_time(CURVES, TIMES), [8.0, 4.0, NAN]),
        (numbers.peak_time(CURVES, TIMES), [2.0, 4.0, NAN]),
        (numbers.value_at(CURVES, TIMES, np.array([4.0, 2.0, NAN])), [3.0, 1.0, NAN]),
    ],
)
def test_numbers_skip_what_is_missing(got, expected):
    np.testing.assert_array_equal(got, expected)


def test_half_time_is_the_first_at_half():
    curves = np.array([[0.0, 1.9, 2.0, 4.0], [3.0, 0.0, 1.0, 4.0]])
    np.testing.assert_array_equal(numbers.half_time(curves, TIMES), [4.0, 1.0])


def test_middle_is_the_median_of_what_is_there():
    middle = numbers.middle(np.array([1.0, NAN, 5.0, 2.0]))
    assert middle == pytest.approx(2.0, rel=1e-15)
    assert np.isnan(numbers.middle(np.array([NAN])))


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (0.0, "0 % of"),
        (0.344, "34 % of"),
        (0.0344, "3.4 % of"),
        (0.00123, "0.12 % of"),
        (3.1e-7, "3.1e-07 of"),
        (1.5, "150 % of"),
        (12.3, "12.3 times"),
    ],
)
def test_shares_read_well(x, words):
    assert share(x) == words


def test_small_words():
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 112)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th",
    ]  # fmt: skip
    assert percent(0.1) == "10 %"
    assert number(1234.5) == "1.23e+03"
    assert known(1.0, 2.0)
    assert not known(1.0, NAN)
