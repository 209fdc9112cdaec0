"""Curves and shares in words."""

import numpy as np
import pytest

from ntkflow.plots._course import course
from ntkflow.plots._words import accuracy

TIMES = np.array([1.0, 2.0, 3.0, 4.0])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 1.2, 1.8, 2], "rose from 1 to 2"),
        ([2, 1.2, 1.1, 1], "fell from 2 to 1"),
        ([1, 1, 1, 1], "stayed at 1"),
        (
            [29.1, 28, 25.1, 29.2],
            "rose from 29.1 to 29.2, after a low of 25.1 at t = 3",
        ),
        ([1, 0.8, 0.9, 1], "began and ended at 1, after a low of 0.8 at t = 2"),
        ([0.5, 0.8, 0.4, 0.2], "fell from 0.5 to 0.2, after a peak of 0.8 at t = 2"),
        ([1, 2, 2.05, 2], "rose from 1 to 2"),  # a faint overshoot
        ([1, 1, 1.001, 1], "stayed at 1"),
    ],
)
def test_a_course_names_what_its_ends_hide(values, expected):
    assert course(np.array([values], float), TIMES) == expected


def test_accuracies_that_differ_in_a_table_differ_in_a_sentence():
    assert (accuracy(0.925), accuracy(0.92), accuracy(1.0)) == (
        "92.5 %",
        "92 %",
        "100 %",
    )
