"""What every loader returns."""

import equinox as eqx
from jaxtyping import Array, Float, Int, Shaped


class Dataset(eqx.Module):
    """Examples and targets, split into a training and a test part.

    Attributes:
        x_train: Training inputs, standardized.
        y_train: Training targets, encoded as asked for.
        x_test: Test inputs, moved and scaled like the training inputs; `None` if there
            is no test part.
        y_test: Test targets, likewise.
        labels_train: Classes of the training examples as indices into `classes`; `None`
            for regression.
        labels_test: Classes of the test examples, likewise.
        x_mean: What was subtracted from each input.
        x_std: What each input was then divided by; one number if all features share it.
        y_mean: What was subtracted from each output; `None` for classification.
        y_std: What each output was then divided by, likewise.
        classes: The labels as they were given, in the order of the outputs; `None` for
            regression.
        name: Where the data come from.
    """

    x_train: Float[Array, "N *features"]
    y_train: Shaped[Array, "N *outputs"]
    x_test: Float[Array, "Nt *features"] | None
    y_test: Shaped[Array, "Nt *outputs"] | None
    labels_train: Int[Array, " N"] | None
    labels_test: Int[Array, " Nt"] | None
    x_mean: Float[Array, "*features"]
    x_std: Float[Array, "..."]
    y_mean: Float[Array, " K"] | None
    y_std: Float[Array, " K"] | None
    classes: tuple[int | str, ...] | None = eqx.field(static=True)
    name: str = eqx.field(static=True)

    @property
    def n_classes(self) -> int | None:
        """How many classes there are; `None` for regression."""
        return None if self.classes is None else len(self.classes)
