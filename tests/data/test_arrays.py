"""Standardization, targets and checks, against numpy and against mistakes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkflow.data as data
from tests.tolerances import roundoff


@pytest.fixture
def arrays() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5)) * [1.0, 10.0, 0.1, 0.0, 2.0] + [0.0, 5.0, -3.0, 0.1, 9]
    return x, np.tile([2, 5, 7], 20)


@pytest.mark.parametrize("scaling", ["common", "each"])
def test_inputs_are_standardized_by_the_training_part(arrays, scaling):
    x, y = arrays
    raw, scaled = (
        data.from_arrays(x, y, n_train=30, n_test=30, scaling=s)
        for s in ("none", scaling)
    )
    train, test = np.asarray(raw.x_train), np.asarray(raw.x_test)
    mean = np.array([sum(column) / 30 for column in train.T])
    squares = np.array([sum(column**2) for column in (train - mean).T])
    if scaling == "common":
        std = np.full(5, np.sqrt(squares.sum() / 150))
    else:
        std = np.sqrt(squares / 30)
        std[3] = 1.0  # the feature that does not vary
    tolerance = roundoff(30) * np.abs(x).max() / std.min()
    np.testing.assert_allclose(scaled.x_train, (train - mean) / std, atol=tolerance)
    np.testing.assert_allclose(scaled.x_test, (test - mean) / std, atol=tolerance)
    np.testing.assert_allclose(scaled.x_mean, mean, atol=tolerance)
    np.testing.assert_allclose(np.broadcast_to(scaled.x_std, 5), std, rtol=roundoff(30))
    # Fitting on everything would have given something else.
    assert np.abs(np.mean([*train, *test], axis=0) - mean).max() > 0.1


@pytest.mark.parametrize("load", [data.digits, data.mnist])
def test_images_have_the_norm_that_networks_expect(load):
    x = np.asarray(load(n_train=100, n_test=0).x_train)
    assert np.mean(x**2) == pytest.approx(1.0, rel=roundoff(x.size))
    assert np.abs(x).max() < 5  # no pixel that is rarely lit has become an outlier


def test_constant_inputs_are_divided_by_one():
    x = np.full((7, 3), 0.1)
    for scaling in ("common", "each"):
        scaled = data.from_arrays(x, np.arange(7) % 2, scaling=scaling)
        np.testing.assert_allclose(scaled.x_train, np.zeros((7, 3)), atol=roundoff(7))
        np.testing.assert_array_equal(scaled.x_std, np.ones_like(scaled.x_std))


def test_targets_are_written_as_asked_for(arrays):
    x, y = arrays
    labels = [0, 1, 2] * 20
    onehot = data.from_arrays(x, y, targets="onehot")
    assert onehot.classes == (2, 5, 7)
    assert onehot.n_classes == 3
    np.testing.assert_array_equal(onehot.y_train, np.eye(3)[labels])
    np.testing.assert_array_equal(onehot.labels_train, labels)
    centered = data.from_arrays(x, y, targets="centered").y_train
    third = 1 / 3
    row = [1 - third, -third, -third]
    np.testing.assert_array_equal(centered[0], row)
    np.testing.assert_allclose(np.sum(centered, axis=1), np.zeros(60), atol=roundoff(3))
    indices = data.from_arrays(x, y, targets="labels").y_train
    assert jnp.issubdtype(indices.dtype, jnp.integer)
    np.testing.assert_array_equal(indices, labels)


def test_regression_targets_are_standardized_by_the_training_part(arrays):
    x, _ = arrays
    y = np.stack([x[:, 1] ** 2, np.full(60, 0.3)], axis=1)
    split = data.from_arrays(x, y, n_train=40, n_test=20, targets="regression")
    train = np.asarray(split.y_train)
    np.testing.assert_allclose(train[:, 0].mean(), 0.0, atol=roundoff(40))
    np.testing.assert_allclose(train[:, 0].std(), 1.0, rtol=roundoff(40))
    np.testing.assert_allclose(train[:, 1], np.zeros(40), atol=roundoff(40))
    back = np.asarray(split.y_test * split.y_std[None] + split.y_mean[None])
    x_back = np.asarray(split.x_test * split.x_std + split.x_mean[None])
    np.testing.assert_allclose(back[:, 0], x_back[:, 1] ** 2, rtol=roundoff(40))
    assert split.labels_train is None
    assert split.classes is None
    assert split.n_classes is None


def test_a_single_output_is_a_column(arrays):
    x, y = arrays
    assert data.from_arrays(x, y, targets="regression").y_train.shape == (60, 1)


def test_chosen_classes_are_kept_in_their_order(arrays):
    x, y = arrays
    chosen = data.from_arrays(x, y, classes=(7, 2), scaling="none")
    assert chosen.classes == (7, 2)
    np.testing.assert_array_equal(chosen.x_train, x[y != 5])
    np.testing.assert_array_equal(chosen.labels_train, [1, 0] * 20)
    numbers = data.from_arrays(x, y, classes=(7, 2), targets="regression")
    assert len(np.unique(numbers.y_train)) == 2
    assert numbers.classes is None


def test_labels_may_be_strings(arrays):
    x, _ = arrays
    named = data.from_arrays(x, ["cat", "dog"] * 30, classes=["dog", "cat"])
    assert named.classes == ("dog", "cat")
    np.testing.assert_array_equal(named.labels_train, [1, 0] * 30)


def test_a_given_test_part_is_used(arrays):
    x, y = arrays
    given = data.from_arrays(x[:40], y[:40], x_test=x[40:], y_test=y[40:])
    np.testing.assert_allclose(
        given.x_test * given.x_std + given.x_mean[None], x[40:], rtol=roundoff(40)
    )
    np.testing.assert_array_equal(given.labels_test, y[40:] // 3)
    fewer = data.from_arrays(
        x[:40], y[:40], x_test=x[40:], y_test=y[40:], n_train=9, n_test=6
    )
    np.testing.assert_array_equal(np.bincount(fewer.labels_train), [3, 3, 3])
    np.testing.assert_array_equal(np.bincount(fewer.labels_test), [2, 2, 2])


@pytest.mark.parametrize("dtype", ["float32", np.float64, jnp.bfloat16])
def test_dtype_is_honored(dtype):
    split = data.digits(n_train=20, n_test=10, dtype=dtype)
    for array in (split.x_train, split.y_train, split.x_test, split.x_mean):
        assert array.dtype == jnp.dtype(dtype)


def test_default_dtype_is_that_of_jax():
    assert data.digits(n_train=20, n_test=0).x_train.dtype == jnp.float64
    with jax.enable_x64(False):
        split = data.digits(n_train=20, n_test=0)
        assert split.x_train.dtype == split.y_train.dtype == jnp.float32
        assert split.labels_train.dtype == jnp.int32
        with pytest.raises(ValueError, match="jax_enable_x64"):
            data.digits(n_train=20, n_test=0, dtype="float64")


X, Y = np.arange(12.0).reshape(6, 2), np.array([0, 1, 0, 1, 0, 1])
NAN = np.where(X == 5, np.nan, X)


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (X, Y[:5], {}, r"x has shape \(6, 2\) and y has shape \(5,\)"),
        (X[:, 0], Y, {}, r"x has shape \(6,\) .* expected real numbers of shape"),
        (X * 1j, Y, {}, "dtype complex128; expected real"),
        (X.astype(str), Y, {}, "expected real numbers"),
        (NAN, Y, {}, r"x holds 1 numbers .* first at index \(2, 1\)"),
        (X, X[:, 0] / 0.5, {}, 'dtype float64; .* or use targets="regression"'),
        (X, NAN[:, 1], {"targets": "regression"}, r"y holds 1 .* index \(2,\)"),
        (X, Y.astype(str), {"targets": "regression"}, "expected real numbers of shape"),
        (X, X[:, :, None], {"targets": "regression"}, r"shape \[N\] or \[N, K\]"),
        (X, np.eye(6), {}, r"y has shape \(6, 6\) .* one integer"),
        (X, Y, {"targets": "one-hot"}, "targets 'one-hot'. Did you mean 'onehot'"),
        (X, Y, {"scaling": "comon"}, "scaling 'comon'. Did you mean 'common'"),
        (X, Y, {"classes": (0, 3)}, r"classes holds \[3\], .* some of \[0, 1\]"),
        (X, Y, {"classes": (0,)}, "at least two"),
        (X, Y, {"classes": (0, 0)}, "each once"),
        (X, 0 * Y, {}, "at least two"),
        (X, Y, {"x_test": X}, "Only one of x_test and y_test"),
        (X, Y, {"x_test": X[:, :1], "y_test": Y}, r"x_test has \(6, 1\)"),
        (X, Y, {"x_test": X, "y_test": Y / 2}, "y_test has .* float64"),
        (X, Y, {"x_test": X, "y_test": Y + 1}, r"y_test holds \[2\]"),
        (X, Y, {"x_test": X, "y_test": Y, "n_test": 7}, "n_test=7 cannot be drawn"),
        (X, Y, {"dtype": int}, "dtype is int64; expected a real float"),
    ],
)
def test_bad_input_is_one_clear_error(x, y, options, message):
    with pytest.raises(ValueError, match=message):
        data.from_arrays(x, y, **options)
