"""What the answers say is true of the time it names, and said once."""

import collections

import numpy as np
import pytest

from ntkflow.plots import answers
from ntkflow.plots._words import share
from ntkflow.simulate import Reason

from .datasets import make_dataset, make_ensemble, make_regression, with_trace

GROWING = make_dataset()
GROWING["f_train"] = GROWING["f_train"].copy()
GROWING["f_train"].values[2] = GROWING["f_train"].values[0] + 0.01 * np.arange(
    GROWING.sizes["time"]
).reshape(-1, 1, 1)


def missed(**attrs):
    dataset = make_dataset(
        reason="accuracy",
        error_over_tolerance=5.0,
        error_over_tolerance_at=3.0,
        **attrs,
    )
    dataset["f_train_error"] = 1e-3 * dataset["loss_train"]
    return dataset


@pytest.mark.parametrize(
    "dataset",
    [
        make_dataset(),
        with_trace(make_dataset()),
        make_ensemble(),
        make_regression(),
        make_dataset().isel(time=[3]),
        make_dataset(bend=0.0),
        GROWING,
        missed(),
        *(make_dataset(reason=r.name.lower(), t_reached=2.0, stopped_at=1.0,
                       stopped_by="LossBelow") for r in Reason),
    ],
)  # fmt: skip
def test_no_sentence_and_no_clause_is_there_twice(dataset):
    said = answers(dataset)
    clauses = [
        clause
        for text in said
        for part in text.split(". ")
        for clause in part.split(";")
    ]
    assert [s for s, n in collections.Counter(said).items() if n > 1] == []
    assert [s for s, n in collections.Counter(clauses).items() if n > 1] == []


def test_an_accuracy_is_told_with_its_time():
    dataset = make_dataset()
    (text,) = [s for s in answers(dataset) if "classifies correctly" in s]
    for split in ("train", "test"):
        start = dataset[f"accuracy_{split}"].sel(flow="gradient").values[0]
        assert f"({100 * start:.3g} % at t = 0.001)" in text
    assert "at first" not in text


def test_an_accuracy_of_the_only_save_time_is_told_once():
    dataset = make_dataset().isel(time=[3])
    (text,) = [s for s in answers(dataset) if "classifies correctly" in s]
    assert "(" not in text
    assert text.count("training set") == 1


def test_a_gap_that_is_largest_at_its_end_is_told_once():
    (text,) = [s for s in answers(GROWING) if "misses the network's training" in s]
    f, y = GROWING["f_train"].values, GROWING["y_train"].values
    gap = np.linalg.norm(f[2, -1] - f[0, -1]) / np.linalg.norm(f[0, 0] - y)
    assert text.count(share(gap)) == 1
    assert text.count("t = 100") == 1
    assert "the last save time of both" in text


def test_a_run_that_misses_its_tolerance_has_not_failed():
    said = answers(missed())
    assert said[0].startswith("The run reached its last save time, t = 100, but misses")
    assert not any("Integration failed" in s or "before that" in s for s in said)
    (remedy,) = [s for s in said if "tighten rtol" in s]
    assert "5 times the tolerance" in remedy
