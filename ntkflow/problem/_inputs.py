"""What `Problem` asks of its data, its model's outputs and its loss."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array

from .._types import Params
from ..models import named_leaves
from ._losses import AbstractLoss


def params_dtype(params: Params) -> np.dtype:
    """The one floating dtype that all trained leaves have.

    Args:
        params: Trained leaves.

    Returns:
        float32 or float64.

    Raises:
        ValueError: If they differ, or are of half precision.
    """
    dtypes = {np.dtype(leaf.dtype) for leaf in jtu.tree_leaves(params)}
    if len(dtypes) > 1 or min(dtype.itemsize for dtype in dtypes) < 4:
        listed = ", ".join(f"{n}: {leaf.dtype}" for n, leaf in named_leaves(params))
        raise ValueError(
            "The trained leaves must share one dtype, float32 or float64, for a flow "
            f"to be integrated; got {listed}. Cast the model, or freeze some leaves."
        )
    return dtypes.pop()


def name_classes(y: np.ndarray) -> bool:
    """Whether targets are labels, or rows of one high and otherwise one low value.

    Args:
        y: All targets.

    Returns:
        Whether they may name classes.
    """
    if y.ndim == 1 or y.shape[1] == 1:  # the loss knows what a single number means
        return True
    if y.size == 0:
        return False
    ordered = np.sort(y.reshape(len(y), -1), axis=1)
    low, high = ordered[0, 0], ordered[0, -1]
    coded = (ordered[:, :-1] == low).all() and (ordered[:, -1] == high).all()
    return bool(coded and high > low)


def as_inputs(value: Any, name: str, dtype: np.dtype, *, allow_nan: bool) -> Array:
    """Inputs as an array: floats in the parameters' dtype, complex numbers as wide.

    Args:
        value: The inputs, the example axis first.
        name: What to call them in an error.
        dtype: The parameters' dtype.
        allow_nan: Whether they may hold NaN, which the model then has to mask.

    Returns:
        The inputs; integers as they are.

    Raises:
        ValueError: If they hold infinite values, or NaN that is not allowed.
    """
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        return array
    found = np.asarray(array)
    bad = ~np.isfinite(found)
    if allow_nan:
        bad &= ~np.isnan(found)
    if bad.any():
        raise ValueError(
            f"{_what_is_bad(bad, name)}: clean or drop them. Where the model itself "
            "masks missing features, allow_nan=True lets NaN pass."
        )
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        return array.astype(np.result_type(dtype, np.complex64))
    return array.astype(dtype)


def as_targets(value: Any, name: str, dtype: np.dtype) -> Array:
    """Targets as an array: floats in the parameters' dtype.

    Args:
        value: The targets, the example axis first.
        name: What to call them in an error.
        dtype: The parameters' dtype.

    Returns:
        The targets; integers as they are.

    Raises:
        ValueError: If they are complex, or hold NaN or infinite values.
    """
    array = jnp.asarray(value)
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise ValueError(
            f"{name} is {array.dtype}, but outputs and losses are real. Give real and "
            f"imaginary parts as targets of their own, for instance "
            f"concatenate([{name}.real, {name}.imag], -1), and let the model return "
            "its outputs in the same way."
        )
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        return array
    bad = ~np.isfinite(np.asarray(array))
    if bad.any():
        raise ValueError(
            f"{_what_is_bad(bad, name)}: clean or drop them, or mark missing targets "
            "by numbers that a loss of your own leaves out."
        )
    return array.astype(dtype)


def _what_is_bad(bad: np.ndarray, name: str) -> str:
    n = bad.shape[0] if bad.ndim else 1
    rows = np.any(np.reshape(bad, (n, -1)), axis=1)
    return (
        f"{name} holds NaN or infinite values, first in example {np.argmax(rows)} "
        f"({np.count_nonzero(rows)} of {n} examples)"
    )


def check_pair(x: Array, y: Array, x_name: str, y_name: str) -> None:
    """Refuses inputs and targets of different number, or none.

    Args:
        x: Inputs.
        y: Targets.
        x_name: What to call the inputs in the error.
        y_name: What to call the targets.

    Raises:
        ValueError: If their first axes differ or are empty.
    """
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y) or len(x) == 0:
        raise ValueError(
            f"{x_name} and {y_name} need the same number of examples (at least one) on "
            f"their first axis; got shapes {list(x.shape)} and {list(y.shape)}."
        )


def check_same_inputs(x: Array, x_test: Array) -> None:
    """Refuses test inputs of another shape, or complex ones beside real ones.

    Args:
        x: Training inputs.
        x_test: Test inputs.

    Raises:
        ValueError: If they differ in kind.
    """
    if x_test.shape[1:] != x.shape[1:]:
        raise ValueError(
            f"One test input has shape {list(x_test.shape[1:])}, one training input "
            f"{list(x.shape[1:])}: they must agree."
        )
    if jnp.iscomplexobj(x) != jnp.iscomplexobj(x_test):
        raise ValueError(
            f"x is {x.dtype} and x_test is {x_test.dtype}: give both as real or both "
            "as complex numbers."
        )


def check_unmasked(
    outputs: Callable[[Params, Array], Array], params: Params, x: Array, name: str
) -> None:
    """Refuses inputs whose NaN reaches the outputs, or their derivatives.

    Args:
        outputs: The outputs of a batch, `(params, x) -> f [N, K]`.
        params: Trained leaves.
        x: Inputs that may hold NaN.
        name: What to call them in an error.

    Raises:
        ValueError: If the model does not mask them.
    """
    if not jnp.issubdtype(x.dtype, jnp.inexact) or not bool(jnp.isnan(x).any()):
        return
    f, pull = jax.vjp(lambda p: outputs(p, x), params)
    bad = np.flatnonzero(~np.isfinite(np.asarray(f)).all(axis=1))
    remedy = (
        "Replace it at the start of the model, as by x = jnp.where(jnp.isnan(x), 0, x):"
        " behind an operation, its derivative is NaN even where the value is not used."
    )
    if bad.size:
        raise ValueError(
            f"NaN in {name} reaches the outputs of example {bad[0]} ({bad.size} of "
            f"{len(x)} examples): the model does not mask it. {remedy}"
        )
    (slopes,) = pull(jnp.ones_like(f))
    for leaf_name, leaf in named_leaves(slopes):
        if not bool(jnp.isfinite(leaf).all()):
            raise ValueError(
                f"NaN in {name} reaches the derivative of the outputs with respect to "
                f"`{leaf_name}`, though not the outputs. {remedy}"
            )


def check_loss(loss: AbstractLoss, n_outputs: int, dtype: np.dtype, y: Array) -> None:
    """Calls the loss abstractly on the outputs and the target of one example.

    Args:
        loss: The loss.
        n_outputs: Number of outputs K.
        dtype: Dtype of the outputs.
        y: All targets.

    Raises:
        ValueError: If it fails, or returns anything but a real scalar.
    """
    f = jax.ShapeDtypeStruct((n_outputs,), dtype)
    must = (
        f"The loss maps the outputs [{n_outputs}] and the target {list(y.shape[1:])} "
        f"({y.dtype}) of ONE example to a real scalar; Problem sums over examples."
    )
    try:
        value = eqx.filter_eval_shape(loss, f, y[0])
    except Exception as error:
        raise ValueError(f"{must} It cannot be called on them: {error}") from error
    if not isinstance(value, jax.ShapeDtypeStruct):
        raise ValueError(f"{must} It returned a {type(value).__name__}.")
    if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
        found = f"{value.dtype} of shape {list(value.shape)}"
        raise ValueError(f"{must} It returned {found}.")


def check_output(model: Any, x: Array) -> int:
    """Calls the model abstractly on one example.

    Args:
        model: The model.
        x: Inputs.

    Returns:
        Number of outputs K.

    Raises:
        ValueError: If it fails, or returns anything but a real vector.
    """
    try:
        out = eqx.filter_eval_shape(model, x[0])
    except Exception as error:
        remedy = "A model maps ONE example to [K]; Problem does the batching."
        if "unbound axis name" in str(error):
            remedy = (
                "A layer such as BatchNorm computes with the whole batch: fix its "
                "statistics with equinox.nn.inference_mode(model), or take them over "
                "the training set with ntkflow.models.BatchStatistics(model, state, x)."
            )
        raise ValueError(
            f"The model cannot be called on one example of shape {list(x.shape[1:])} "
            f"and dtype {x.dtype}: {error}\n{remedy}"
        ) from error
    must = (
        "On one example the model must return a real vector of K outputs; for an input "
        f"of shape {list(x.shape[1:])} it returned"
    )
    if not eqx.is_array(out) and not isinstance(out, jax.ShapeDtypeStruct):
        raise ValueError(
            f"{must} a {type(out).__name__}. Wrap it in a module that returns the "
            "outputs alone."
        )
    if len(out.shape) != 1:
        found = f"shape {list(out.shape)}" if out.shape else "a scalar"
        remedy = "" if out.shape else " Return shape [1] for a single output."
        raise ValueError(f"{must} {found}.{remedy}")
    if not jnp.issubdtype(out.dtype, jnp.floating):
        raise ValueError(
            f"{must} {out.dtype}. Return real numbers: of a complex output, its real "
            "and imaginary parts as two outputs."
        )
    return out.shape[0]
