"""Splits are seeded, disjoint and stratified, whatever their sizes."""

import numpy as np
import pytest

import ntkflow.data as data
from ntkflow.data._split import stratified_order

LABELS = np.repeat([3, 1, 4], [50, 30, 20])


@pytest.mark.parametrize("seed", range(5))
def test_order_holds_each_example_once(seed):
    order = stratified_order(LABELS, seed=seed)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(LABELS)))


@pytest.mark.parametrize("seed", range(5))
def test_stretches_hold_classes_in_proportion(seed):
    # Member j of n sits at (j + 1/2)/n, so below place q there are n·q to within 1/2 of
    # each class. The head of m examples ends at a place q with |100 q − m| ≤ 3/2, so it
    # holds m·n/100 to within 1/2 + (3/2)(n/100) ≤ 5/4 of the largest class.
    labels = LABELS[stratified_order(LABELS, seed=seed)]
    for m in range(len(labels) + 1):
        for label, share in ((3, 0.5), (1, 0.3), (4, 0.2)):
            assert abs(np.sum(labels[:m] == label) - m * share) <= 1.25


def test_balanced_classes_are_split_exactly():
    labels = np.tile(np.arange(10), 500)
    counts = np.bincount(labels[stratified_order(labels, seed=0)[:200]])
    np.testing.assert_array_equal(counts, np.full(10, 20))


def test_a_class_is_sampled_without_preference():
    # Each of the 50 members of class 3 is among the first half of its class with
    # probability 1/2: over 400 seeds, five standard errors of a proportion.
    first = np.zeros(len(LABELS))
    for seed in range(400):
        first[stratified_order(LABELS, seed=seed)[:50]] += 1
    assert np.abs(first / 400 - 0.5).max() <= 5 * 0.5 / np.sqrt(400)


def test_equal_seeds_give_equal_splits_and_others_differ():
    one, same, other = (data.digits(n_train=50, n_test=20, seed=s) for s in (7, 7, 8))
    np.testing.assert_array_equal(one.x_train, same.x_train)
    np.testing.assert_array_equal(one.y_test, same.y_test)
    assert not np.array_equal(one.x_train, other.x_train)


def test_training_and_test_part_are_disjoint_and_no_example_is_invented():
    x = np.arange(100.0)[:, None]
    split = data.from_arrays(x, LABELS, n_train=60, n_test=40, scaling="none")
    train, test = np.asarray(split.x_train)[:, 0], np.asarray(split.x_test)[:, 0]
    np.testing.assert_array_equal(np.sort([*train, *test]), np.arange(100))
    classes = np.asarray(split.classes)
    for part, labels in ((train, split.labels_train), (test, split.labels_test)):
        np.testing.assert_array_equal(classes[labels], LABELS[part.astype(int)])
    np.testing.assert_array_equal(np.bincount(split.labels_train), [18, 30, 12])


def test_a_larger_training_part_contains_the_smaller():
    x = np.arange(100.0)[:, None]
    small, large = (
        data.from_arrays(x, LABELS, n_train=n, scaling="none").x_train for n in (20, 70)
    )
    np.testing.assert_array_equal(small, large[:20])


def test_parts_may_be_smaller_than_the_number_of_classes():
    split = data.digits(n_train=4, n_test=3)
    assert split.x_train.shape == (4, 64)
    assert split.y_test.shape == (3, 10)


def test_targets_that_are_numbers_are_split_at_random():
    x = np.arange(100.0)[:, None]
    split = data.from_arrays(
        x, x[:, 0] / 7, n_train=30, n_test=5, targets="regression", scaling="none"
    )
    train = np.asarray(split.x_train)[:, 0]
    assert len(np.unique(train)) == 30
    assert not np.array_equal(train, np.sort(train))


def test_all_examples_keep_their_order():
    x = np.arange(100.0)[:, None]
    split = data.from_arrays(x, LABELS, scaling="none")
    np.testing.assert_array_equal(split.x_train, x)
    assert split.x_test is None
    assert split.y_test is None
    assert split.labels_test is None


@pytest.mark.parametrize(
    ("n_train", "n_test"), [(90, 11), (101, 0), (0, 5), (-1, 5), (5, -1), (None, 100)]
)
def test_sizes_that_cannot_be_drawn_are_refused(n_train, n_test):
    with pytest.raises(ValueError, match=r"drawn from 100|expected at least 1"):
        data.from_arrays(LABELS[:, None], LABELS, n_train=n_train, n_test=n_test)
