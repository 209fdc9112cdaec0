"""A problem: a model, its data and a loss, seen as a point of a gradient flow.

`Problem` is what every other room takes. It keeps the model in two halves, the trained
leaves and the rest, so that a flow integrates the first and never touches the second.
"""

import math
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Inexact, Shaped

from .._errors import unknown_name
from .._precision import at_full_precision
from .._sharding import without_explicit_axes
from .._types import Params, Reduction, Scalar
from ..models import Applied, in_both_modes, partition, time_scale as model_time_scale
from ._decay import Decay
from ._inputs import (
    as_inputs,
    as_targets,
    check_loss,
    check_output,
    check_pair,
    check_same_inputs,
    check_unmasked,
    name_classes,
    params_dtype,
)
from ._losses import AbstractLoss, SquaredError, as_loss


@final
class Problem(eqx.Module):
    """The training of `model` on `x`, `y`: θ̇ = −c∇L(θ), with L = Σ_i ℓ(f_i, y_i).

    L is always the sum over examples (plus the decay's penalty); a mean, a wide
    network's learning rate or an output scale live in the time scale c alone, so that
    the kernel Θ = J Jᵀ never contains them.

    Attributes:
        params: The trained leaves of the model, None elsewhere.
        static: The rest of the model.
        x: Training inputs.
        y: Training targets.
        x_test: Test inputs, or None.
        y_test: Test targets, or None.
        loss: The loss of one example.
        decay: L2 decay, or None.
        asked_time_scale: c as the caller gave it, or None.
        reduction: `"sum"`, or `"mean"`, which divides c by the number of examples.
        classes: Whether the targets name classes: labels, or rows of one code.
        n_outputs: Number of outputs K.

    Source: Jacot, Gabriel & Hongler (2018), section 4; Chizat, Oyallon & Bach (2019),
    eq. 2, for c = 1/α².
    Verified by:
        tests/problem/test_problem.py::test_time_scales_combine_as_products
    """

    params: Params
    static: Any
    x: Shaped[Array, "N ..."]
    y: Shaped[Array, "N ..."]
    x_test: Shaped[Array, "Nt ..."] | None
    y_test: Shaped[Array, "Nt ..."] | None
    loss: AbstractLoss
    decay: Decay | None
    asked_time_scale: Scalar | None
    reduction: Reduction = eqx.field(static=True)
    classes: bool = eqx.field(static=True)
    n_outputs: int = eqx.field(static=True)

    def __init__(
        self,
        model: Any,
        x: Any,
        y: Any,
        *,
        x_test: Any = None,
        y_test: Any = None,
        loss: Any = None,
        trainable: Any = None,
        reduction: Reduction = "sum",
        decay: Decay | float | None = None,
        time_scale: float | int | None = None,
        allow_nan: bool = False,
        apply: Callable[..., Any] | None = None,
    ):
        """Checks that the parts fit together before anything heavy runs.

        Args:
            model: Any equinox module, callable on one example and returning [K].
            x: Inputs, the example axis first; floats are cast to the parameters' dtype,
                complex numbers to that of their parts.
            y: Real targets, the example axis first; of any shape that the loss takes.
            x_test: Inputs to test on, or None.
            y_test: Targets to test on; required with `x_test`.
            loss: A loss, or a callable `(f [K], y) -> scalar`; squared error if None.
            trainable: Which leaves are trained: a filter as in `eqx.partition`; by
                default every inexact array outside `Frozen`; never those of an
                `equinox.nn.State`.
            reduction: `"sum"`, or `"mean"`: the flow of the mean loss is that of the
                sum at 1/N of the speed.
            decay: A `Decay`, or its strength towards zero.
            time_scale: c; by default the model's own (1, 1/α² for `Scaled`, the width
                for mean-field networks) times the reduction's.
            allow_nan: Whether inputs may hold NaN, for missing features that the model
                masks itself, as by `jnp.where(jnp.isnan(x), 0, x)`.
            apply: `apply(model, x)` -> [K], what is trained in place of `model(x)`: a
                derivative in x, the residual of a differential equation. The problem's
                model is then `nf.models.Applied(model, apply)`.

        Raises:
            ValueError: If shapes disagree, data hold NaN that is not allowed or not
                masked, the targets are complex or do not suit the loss, the loss is
                none of one example, no leaf is trainable, or the model is not one of
                one example.
        """  # ruff: ignore[docstring-missing-exception]
        if reduction not in {"sum", "mean"}:
            raise unknown_name("reduction", reduction, ["sum", "mean"])
        if (x_test is None) != (y_test is None):
            raise ValueError("x_test and y_test come together: give both or neither.")
        model, x, y = without_explicit_axes((model, x, y))
        x_test, y_test = without_explicit_axes((x_test, y_test))
        if apply is not None:
            model = Applied(model, apply)
            if trainable is not None and not jtu.all_leaves([trainable]):
                trainable = Applied(trainable, False)  # a tree of the model alone
        self.params, self.static = partition(model, trainable)
        dtype = params_dtype(self.params)
        self.loss = SquaredError() if loss is None else as_loss(loss)
        decay = decay if isinstance(decay, Decay | None) else Decay(decay)
        self.decay = None if decay is None else decay.astype(dtype)
        self.reduction = reduction
        self.x = as_inputs(x, "x", dtype, allow_nan=allow_nan)
        self.y = as_targets(y, "y", dtype)
        self.x_test = self.y_test = None
        if x_test is not None:
            self.x_test = as_inputs(x_test, "x_test", dtype, allow_nan=allow_nan)
            self.y_test = as_targets(y_test, "y_test", dtype)
        self.classes = name_classes(np.asarray(self.y))
        if time_scale is not None and not time_scale > 0:
            raise ValueError(f"time_scale must be positive, got {time_scale}.")
        asked = None if time_scale is None else jnp.asarray(time_scale, dtype)
        self.asked_time_scale = asked
        # Refused here and not in a run, if the model's own is no number.
        _ = self.time_scale
        check_pair(self.x, self.y, "x", "y")
        self.n_outputs = check_output(self.model, self.x)
        if allow_nan:
            check_unmasked(self.outputs, self.params, self.x, "x")
            if self.x_test is not None:
                check_unmasked(self.outputs, self.params, self.x_test, "x_test")

    def __check_init__(self):
        self.loss.check_targets(np.asarray(self.y), self.n_outputs)
        check_loss(self.loss, self.n_outputs, self.dtype, self.y)
        if self.x_test is not None and self.y_test is not None:
            check_pair(self.x_test, self.y_test, "x_test", "y_test")
            check_same_inputs(self.x, self.x_test)
            self.loss.check_targets(np.asarray(self.y_test), self.n_outputs)
            check_loss(self.loss, self.n_outputs, self.dtype, self.y_test)

    def __repr__(self) -> str:
        # By shapes alone: leaves may be tracers, or anything that a map put there.
        model = type(self.static).__name__
        tested = "" if self.x_test is None else f", {_rows(self.x_test)} to test on"
        one = list(np.shape(self.x)[1:])
        decay = "" if self.decay is None else f"; decay {self.decay.towards}"
        return (
            f"<Problem: {model} of {self.n_outputs} outputs, {_size(self.params):,} "
            f"parameters; {_rows(self.x)} examples of shape {one}{tested}; "
            f"{type(self.loss).__name__}, {self.reduction}{decay}>"
        )

    @property
    def model(self) -> Any:
        """The whole model, as it was given."""
        return self.model_of(self.params)

    @property
    def trainable(self) -> Any:
        """The filter that selects the trained leaves: a pytree of booleans."""
        return jtu.tree_map(
            lambda leaf: leaf is not None, self.params, is_leaf=lambda x: x is None
        )

    @property
    def time_scale(self) -> float | Scalar:
        """c, the factor of the flow: the caller's, or the model's and the reduction's.

        It is read off the model, so that every member of an ensemble has its own.
        """
        if self.asked_time_scale is not None:
            return self.asked_time_scale
        scale = model_time_scale(self.model)
        if self.reduction == "mean":
            scale = scale / len(self.x)
        return jnp.asarray(scale, self.dtype) if eqx.is_array(scale) else scale

    @property
    def n_examples(self) -> int:
        """Number of training examples N."""
        return len(self.x)

    @property
    def n_params(self) -> int:
        """Number of trained parameters P."""
        return sum(leaf.size for leaf in jtu.tree_leaves(self.params))

    @property
    def dtype(self) -> np.dtype:
        """The floating dtype the flow is integrated in: the parameters'."""
        return params_dtype(self.params)

    def model_of(self, params: Params) -> Any:
        """The model with other values of its trained leaves.

        Args:
            params: Trained leaves.

        Returns:
            An equinox module.
        """
        return eqx.combine(params, self.static)

    def with_parts(self, params: Params, static: Any) -> "Problem":
        """The same problem with another model of the same structure.

        Args:
            params: Its trained leaves.
            static: The rest of it.

        Returns:
            A problem.
        """
        return eqx.tree_at(
            lambda p: (p.params, p.static),
            self,
            (params, static),
            is_leaf=lambda x: x is None,
        )

    @at_full_precision
    def outputs(
        self, params: Params, x: Shaped[Array, "N ..."]
    ) -> Inexact[Array, "N K"]:
        """The outputs f(x; θ) for a batch of inputs.

        Solves in depth are such that they have derivatives in both modes.

        Args:
            params: Trained leaves.
            x: Inputs.

        Returns:
            One row of outputs an example.
        """
        model = in_both_modes(self.model_of(params))
        # JAX names what it maps in its messages: for a module it prints every field.
        return jax.vmap(lambda example: model(example))(x)

    @at_full_precision
    def loss_of(self, f: Inexact[Array, "N K"], y: Shaped[Array, "N ..."]) -> Scalar:
        """The loss Σ_i ℓ(f_i, y_i) of given outputs, without decay.

        Args:
            f: Outputs.
            y: Targets.

        Returns:
            The sum over examples.
        """
        return jnp.sum(jax.vmap(self.loss)(f, y))

    @at_full_precision
    def output_gradient(
        self, f: Inexact[Array, "N K"], y: Shaped[Array, "N ..."]
    ) -> Inexact[Array, "N K"]:
        """∇_f Σ_i ℓ(f_i, y_i); the residual f − y for the squared error.

        Args:
            f: Outputs.
            y: Targets.

        Returns:
            The gradient in the outputs.
        """
        return jax.vmap(jax.grad(self.loss))(f, y)

    def decay_gradient(self, params: Params) -> Params | None:
        """The gradient of the decay's penalty, λ(θ − θ_ref).

        Args:
            params: Trained leaves.

        Returns:
            One value a trained leaf, or None without decay.
        """
        decay = self.decay
        if decay is None:
            return None
        offset = self._decay_offset(params)
        return jtu.tree_map(lambda p: decay.strength * p, offset)

    @at_full_precision
    def objective(self, params: Params) -> Scalar:
        """L(θ): the loss on the training set plus the decay's penalty.

        Args:
            params: Trained leaves.

        Returns:
            A scalar.
        """
        data = self.loss_of(self.outputs(params, self.x), self.y)
        if self.decay is None:
            return data
        offset = self._decay_offset(params)
        return data + 0.5 * self.decay.strength * _squared_norm(offset)

    @at_full_precision
    def gradient(self, params: Params) -> Params:
        """∇L(θ).

        Args:
            params: Trained leaves.

        Returns:
            The gradient, one array a trained leaf.
        """
        return jax.grad(self.objective)(params)

    def accuracy(
        self, f: Inexact[Array, "N K"], y: Shaped[Array, "N ..."]
    ) -> Scalar | None:
        """The share of examples classified correctly.

        Args:
            f: Outputs.
            y: Targets.

        Returns:
            A number in [0, 1], or None where the targets are no classes.
        """
        if not self.classes:
            return None
        correct = jax.vmap(self.loss.is_correct)(f, y)
        return None if correct is None else jnp.mean(correct.astype(f.dtype))

    def _decay_offset(self, params: Params) -> Params:
        if self.decay is not None and self.decay.towards == "initial":
            return jtu.tree_map(lambda p, p0: p - p0, params, self.params)
        return params


def _rows(x: Any) -> int:
    return next(iter(np.shape(x)), 0)


def _size(params: Params) -> int:
    return sum(math.prod(np.shape(leaf)) for leaf in jtu.tree_leaves(params))


def _squared_norm(tree: Params) -> Scalar:
    total = sum(jnp.sum(leaf**2) for leaf in jtu.tree_leaves(tree))
    return jnp.asarray(total)
