"""Losses ℓ(f_i, y_i) of one example, and what a training flow needs of them.

A loss is a function of the outputs `f_i` [K] and the target `y_i` of **one** example.
Everything else (the sum over examples, the gradient in the outputs) is derived by
automatic differentiation, so any callable of the user's serves as well.
"""

import abc
from collections.abc import Callable
from typing import Any, cast, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from .._types import BoolScalar


class AbstractLoss(eqx.Module):
    """A loss of one example that also knows which targets make sense for it."""

    @abc.abstractmethod
    def __call__(self, f: Float[Array, " K"], y: Shaped[Array, "..."]) -> Array:
        """The loss of one example.

        Args:
            f: Outputs of one example.
            y: Its target.

        Returns:
            A scalar.
        """

    @abc.abstractmethod
    def check_targets(self, y: np.ndarray, n_outputs: int) -> None:
        """Refuses targets this loss is not defined for.

        Args:
            y: All targets, the example axis first.
            n_outputs: Number of outputs K.

        Raises:
            ValueError: What is wrong with the targets, and the remedy.
        """

    @abc.abstractmethod
    def is_correct(self, f: Array, y: Array) -> BoolScalar | None:
        """Whether one example is classified correctly.

        Args:
            f: Outputs of one example.
            y: Its target.

        Returns:
            A boolean scalar, or None where the targets are no classes.
        """


def _check_dense_targets(y: np.ndarray, n_outputs: int, loss: str) -> None:
    if y.ndim != 2 or y.shape[1] != n_outputs:
        raise ValueError(
            f"{loss} expects targets of shape [N, {n_outputs}], one row of K outputs "
            f"an example; got shape {list(y.shape)}. Write class labels as rows: "
            '"onehot" or "centered", as nf.data.digits(targets="onehot") and the other '
            "functions of nf.data do. For one output reshape y to [N, 1]."
        )


@final
class SquaredError(AbstractLoss):
    """ℓ = ½‖f_i − y_i‖²: a sum over outputs, not a mean.

    Its gradient in the outputs is the residual r = f − y, so the function-space flow is
    the linear equation ṙ = −c Θ_t r.

    Verified by:
        tests/problem/test_losses.py::test_output_gradient_of_squared_error_is_the_residual
    """

    def __call__(self, f: Array, y: Array) -> Array:
        """Half the squared distance of one example.

        Args:
            f: Outputs of one example, [K].
            y: Targets of one example, [K].

        Returns:
            A scalar.
        """
        return 0.5 * jnp.sum((f - y) ** 2)

    def check_targets(self, y: np.ndarray, n_outputs: int) -> None:
        """Refuses anything but one row of K numbers an example.

        Args:
            y: All targets.
            n_outputs: Number of outputs K.
        """
        _check_dense_targets(y, n_outputs, "SquaredError")

    def is_correct(self, f: Array, y: Array) -> Array | None:
        """Whether the largest output is the largest target.

        Args:
            f: Outputs of one example, [K].
            y: Targets of one example, [K].

        Returns:
            A boolean scalar; None for one output, which is a regression.
        """
        if f.shape[0] == 1:
            return None
        return jnp.argmax(f) == jnp.argmax(y)


@final
class CrossEntropy(AbstractLoss):
    """ℓ = log Σ_k exp f_ik − Σ_k y_ik f_ik, for labels or rows of class probabilities.

    Verified by:
        tests/problem/test_losses.py::test_cross_entropy_of_labels_equals_that_of_onehot_rows
    """

    def __call__(self, f: Array, y: Array) -> Array:
        """The negative log-likelihood of one example.

        Args:
            f: Logits of one example, [K].
            y: An integer label, or K probabilities.

        Returns:
            A scalar.
        """
        labels = jnp.issubdtype(y.dtype, jnp.integer)
        chosen = f[y] if labels else jnp.sum(y * f)
        return jax.nn.logsumexp(f) - chosen

    def check_targets(self, y: np.ndarray, n_outputs: int) -> None:
        """Refuses labels out of range and rows that are no probabilities.

        Args:
            y: All targets.
            n_outputs: Number of classes K.

        Raises:
            ValueError: What is wrong, and which `targets=` to use.
        """
        remedy = (
            'Functions of nf.data make both: nf.data.digits(targets="labels") '
            'integers, targets="onehot" rows.'
        )
        if np.issubdtype(y.dtype, np.integer):
            if y.ndim != 1:
                raise ValueError(
                    "CrossEntropy expects integer labels of shape [N], got "
                    f"{list(y.shape)}. {remedy}"
                )
            if y.size and (y.min() < 0 or y.max() >= n_outputs):
                raise ValueError(
                    f"CrossEntropy got labels from {y.min()} to {y.max()}, but the "
                    f"model has {n_outputs} outputs: labels must lie in "
                    f"0 … {n_outputs - 1}. Relabel the data or change out_size."
                )
            return
        rows = y.ndim == 2 and y.shape[1] == n_outputs
        tolerance = 8 * n_outputs * np.finfo(y.dtype).eps
        if not rows or y.min() < 0 or np.abs(y.sum(-1) - 1).max() > tolerance:
            raise ValueError(
                "CrossEntropy expects integer labels [N], or rows "
                f"[N, {n_outputs}] of probabilities that sum to one; got "
                f"{y.dtype} {list(y.shape)} whose rows do not. {remedy}"
            )

    def is_correct(self, f: Array, y: Array) -> Array | None:
        """Whether the largest logit is the label's.

        Args:
            f: Logits of one example, [K].
            y: An integer label, or K probabilities.

        Returns:
            A boolean scalar.
        """
        label = y if jnp.issubdtype(y.dtype, jnp.integer) else jnp.argmax(y)
        return jnp.argmax(f) == label


@final
class Hinge(AbstractLoss):
    """ℓ = Σ_k max(0, 1 − y_ik f_ik) for targets ±1: one against the rest, K times.

    Not differentiable where y f = 1; the flow takes the one-sided derivative zero
    there, and an adaptive solver resolves each crossing with small steps.

    Verified by:
        tests/problem/test_losses.py::test_hinge_is_zero_beyond_the_margin
    """

    def __call__(self, f: Array, y: Array) -> Array:
        """The margin loss of one example.

        Args:
            f: Outputs of one example, [K].
            y: Targets ±1 of one example, [K].

        Returns:
            A scalar.
        """
        margin = 1.0 - y * f
        return jnp.sum(jnp.where(margin > 0, margin, jnp.zeros_like(margin)))

    def check_targets(self, y: np.ndarray, n_outputs: int) -> None:
        """Refuses targets other than ±1.

        Args:
            y: All targets.
            n_outputs: Number of outputs K.

        Raises:
            ValueError: If a target is neither +1 nor −1.
        """
        _check_dense_targets(y, n_outputs, "Hinge")
        if not np.all(np.abs(y) == 1):
            raise ValueError(
                "Hinge expects targets −1 and +1 and nothing else; from one-hot rows "
                "take 2·y − 1."
            )

    def is_correct(self, f: Array, y: Array) -> Array | None:
        """Whether the sign (one output) or the largest output is right.

        Args:
            f: Outputs of one example, [K].
            y: Targets ±1 of one example, [K].

        Returns:
            A boolean scalar.
        """
        if f.shape[0] == 1:
            return f[0] * y[0] > 0
        return jnp.argmax(f) == jnp.argmax(y)


@final
class UserLoss(AbstractLoss):
    """Any callable `(f [K], y) -> scalar` on one example; targets are not checked."""

    function: Callable[[Array, Array], Array]

    def __call__(self, f: Array, y: Array) -> Array:
        """The user's loss of one example.

        Args:
            f: Outputs of one example, [K].
            y: Its target.

        Returns:
            A scalar.
        """
        return self.function(f, y)

    def check_targets(self, y: np.ndarray, n_outputs: int) -> None:
        """Accepts any target: only the user knows.

        Args:
            y: All targets.
            n_outputs: Number of outputs K.
        """

    def is_correct(self, f: Array, y: Array) -> None:
        """Unknown for a loss of the user's.

        Args:
            f: Outputs of one example, [K].
            y: Its target.
        """


def as_loss(loss: Any) -> AbstractLoss:
    """Takes a loss of the library or any callable of one example.

    Args:
        loss: An `AbstractLoss`, or a callable `(f [K], y) -> scalar`.

    Returns:
        The loss, wrapped if it was a plain callable.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(loss, AbstractLoss):
        return loss
    if isinstance(loss, type) or not callable(loss):
        raise ValueError(
            f"loss must be an instance such as nf.SquaredError(), or a function "
            f"(f [K], y) -> scalar of one example; got {loss!r}."
        )
    return UserLoss(cast(Callable[[Array, Array], Array], loss))
