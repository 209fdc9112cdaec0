"""A model seen through a function of it: a derivative, a feature, a residual."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Inexact

from .._types import Scalar
from ._frozen import Frozen
from ._time_scale import time_scale


class Applied(eqx.Module):
    """The model x ↦ apply(model, x), for training anything but `model(x)`.

    `Problem(model, ..., apply=apply)` makes one. Arrays that `apply` holds are frozen.

    Args:
        model: Any model.
        apply: `apply(model, x)`, the outputs [K] of one example.

    Verified by:
        tests/problem/test_apply.py::test_a_residual_is_trained_as_written_by_hand
    """

    model: Any
    apply: Frozen

    def __init__(self, model: Any, apply: Any):
        self.model = model
        self.apply = Frozen(apply)

    @property
    def time_scale(self) -> float | Scalar:
        """The time scale of the model that was wrapped."""
        return time_scale(self.model)

    def __call__(self, x: Any) -> Inexact[Array, "..."]:
        """Evaluate the function on one example.

        Args:
            x: One example, whatever `apply` takes.

        Returns:
            apply(model, x).
        """
        return self.apply(self.model, x)
