"""How the target of an example is written as numbers."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped

from ._scaling import fit_scaling

ENCODINGS = ("onehot", "centered", "labels", "regression")


@dataclasses.dataclass(frozen=True)
class Classification:
    """Targets that name one of K classes.

    Attributes:
        classes: The labels, in the order of the outputs.
        encoding: `"onehot"`, `"centered"` or `"labels"`.
    """

    classes: Shaped[np.ndarray, " K"]
    encoding: str

    def indices(self, y: Shaped[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
        """Labels as the numbers of the outputs they belong to.

        Args:
            y: Labels, each one of `classes`.

        Returns:
            Indices into `classes`.
        """
        return np.argmax(y[:, None] == self.classes[None, :], axis=1)

    def encode(self, y: Shaped[np.ndarray, " N"]) -> Shaped[np.ndarray, "N ..."]:
        """Labels as the network's targets.

        Verified by: tests/data/test_arrays.py::test_targets_are_written_as_asked_for

        Args:
            y: Labels, each one of `classes`.

        Returns:
            Rows of the identity, the same less 1/K, or indices.
        """
        indices = self.indices(y)
        if self.encoding == "labels":
            return indices
        rows = np.eye(len(self.classes))[indices]
        return rows - 1 / len(self.classes) if self.encoding == "centered" else rows


@dataclasses.dataclass(frozen=True)
class Regression:
    """Targets that are numbers, standardized.

    Attributes:
        mean: What is subtracted from each output.
        std: What each output is then divided by.
    """

    mean: Float[np.ndarray, " K"]
    std: Float[np.ndarray, " K"]

    @classmethod
    def fit(cls, y: Shaped[np.ndarray, "N ..."]) -> "Regression":
        """Standardizes each output by its own mean and standard deviation.

        Args:
            y: The targets of the training part.

        Returns:
            What to apply to the targets of every part.
        """
        return cls(*fit_scaling(_rows(y), "each"))

    def encode(self, y: Shaped[np.ndarray, "N ..."]) -> Float[np.ndarray, "N K"]:
        """Numbers as the network's targets.

        Args:
            y: Numbers of shape [N] or [N, K].

        Returns:
            The numbers, standardized.
        """
        return (_rows(y) - self.mean[None]) / self.std[None]


def is_discrete(y: np.ndarray) -> bool:
    """Whether each example has one label: an integer, a boolean or a string.

    Args:
        y: The targets of all examples.

    Returns:
        Whether `y` can say which class an example is of.
    """
    return y.ndim == 1 and y.dtype.kind in "biuU"


def find_classes(
    y: Shaped[np.ndarray, "N ..."], chosen: Sequence[int | str] | None
) -> Shaped[np.ndarray, " K"]:
    """The classes, one for each output.

    Args:
        y: The labels.
        chosen: The classes to keep, in the order wished for; `None` for all, sorted.

    Returns:
        The classes, of the dtype of `y`.

    Raises:
        ValueError: If `y` holds no labels, if a chosen class is not among them or
            chosen twice, or if there are fewer than two.
    """
    if not is_discrete(y):
        raise ValueError(
            f"y has shape {y.shape} and dtype {y.dtype}; expected one integer or "
            "string an example to tell classes apart. Convert it, or use "
            'targets="regression".'
        )
    present = np.unique(y)
    if chosen is None:
        classes = present
    else:
        absent = [label for label in chosen if label not in present.tolist()]
        if absent:
            raise ValueError(
                f"classes holds {absent}, which y does not; expected some of "
                f"{present.tolist()}."
            )
        classes = np.array(list(chosen), dtype=y.dtype)
    if len(np.unique(classes)) < max(2, len(classes)):
        raise ValueError(
            f"The classes are {classes.tolist()}; expected at least two, each once."
        )
    return classes


def _rows(y: np.ndarray) -> np.ndarray:
    if y.ndim not in (1, 2) or y.dtype.kind not in "biuf":
        raise ValueError(
            f"y has shape {y.shape} and dtype {y.dtype}; expected real numbers of "
            'shape [N] or [N, K] for targets="regression".'
        )
    return y.reshape(len(y), -1).astype(np.float64)
