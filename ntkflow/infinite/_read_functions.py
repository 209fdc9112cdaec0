"""Functions inside a module: activations, and what acts on positions."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped

from ntkflow.infinite._activation import AbstractActivation
from ntkflow.infinite._elementwise import (
    Elementwise,
    Elu,
    Sigmoid,
    Silu,
    Softplus,
    Tanh,
)
from ntkflow.infinite._erf import Erf
from ntkflow.infinite._flatten import Flatten
from ntkflow.infinite._gelu import Gelu
from ntkflow.infinite._layer import AbstractLayer
from ntkflow.infinite._pooling import GlobalAvgPool, GlobalSumPool
from ntkflow.infinite._reading import Reading, refusal
from ntkflow.infinite._relu import Abs, LeakyRelu, Relu
from ntkflow.infinite._sign import Sign
from ntkflow.infinite._trigonometric import Cos, Sin
from ntkflow.models import ACTIVATIONS

KNOWN: tuple[tuple[Callable[[Array], Array], Callable[[], AbstractLayer]], ...] = (
    (jnp.abs, Abs),
    (jnp.cos, Cos),
    (jax.nn.elu, Elu),
    (jax.scipy.special.erf, Erf),
    (ACTIVATIONS["gelu"], Gelu),
    (jax.nn.leaky_relu, LeakyRelu),
    (jax.nn.relu, Relu),
    (jax.nn.sigmoid, Sigmoid),
    (jax.nn.silu, Silu),
    (jnp.sign, Sign),
    (jnp.sin, Sin),
    (jax.nn.softplus, Softplus),
    (jnp.tanh, Tanh),
)
"""Functions and their layers."""


def read_function(function: Any, path: str, reading: Reading) -> list[AbstractLayer]:
    """The layers of a function without parameters.

    A function is told by its values, so that it does not matter how it is written.

    Args:
        function: Maps one example's units and positions.
        path: Where it is.
        reading: What is known at this place.

    Returns:
        One layer, or none for the identity.

    Raises:
        ValueError: The function has parameters, fails, or is none that could be read.
    """  # ruff: ignore[docstring-missing-exception, docstring-extraneous-exception]
    if any(eqx.is_array(leaf) for leaf in jax.tree.leaves(function)):
        raise refusal(
            path,
            function,
            "it has parameters of its own, which the limit's duals do not train",
            "Take an activation without parameters",
        )
    owner = getattr(function, "__self__", None)
    if isinstance(owner, AbstractActivation):
        return [owner]
    for known, layer in KNOWN:
        if function is known:
            return [layer()]
    x = _probe(reading.probe_shape)
    try:
        value = jnp.asarray(function(x))
    except Exception as error:
        raise refusal(
            path,
            function,
            f"it fails on an array of shape {x.shape}",
            "Give from_module x_shape, the shape of one example, if it needs that "
            "shape; or build the layers by hand",
        ) from error
    return _by_values(function, x, value, path, reading)


def _by_values(
    function: Callable[[Array], Array],
    x: Shaped[Array, "..."],
    value: Shaped[Array, "..."],
    path: str,
    reading: Reading,
) -> list[AbstractLayer]:
    if value.shape == x.shape and _is_elementwise(function, x):
        return _elementwise(function)
    units = x.shape[:1]
    flat = np.asarray(x).reshape(*units, -1)
    for shape, expected, layer in (
        ((flat.size,), flat.ravel(), Flatten),
        (units, np.mean(flat, axis=1), GlobalAvgPool),
        (units, np.sum(flat, axis=1), GlobalSumPool),
    ):
        if value.shape == shape and np.allclose(value, expected):
            _refuse_unknown_rank(function, path, reading, layer)
            reading.advance(function, path, 0)
            return [layer()]
    raise refusal(
        path,
        function,
        f"it maps shape {x.shape} to {value.shape}, and is neither elementwise nor one "
        "of ravel and the mean or the sum over all positions",
        "Give from_module x_shape, the shape of one example, if it means one of them; "
        "or build the layers by hand",
    )


def _refuse_unknown_rank(
    function: Any, path: str, reading: Reading, layer: Callable[[], AbstractLayer]
) -> None:
    if reading.rank is None and layer is not Flatten:
        raise refusal(
            path,
            function,
            "which axes are positions is not known here",
            "Give from_module x_shape, the shape of one example",
        )


def _elementwise(function: Callable[[Array], Array]) -> list[AbstractLayer]:
    x = _line()
    value = function(x)
    if np.array_equal(value, x):
        return []
    # Minus what is at -1, without a negative zero.
    slope = 0.0 - float(function(jnp.full(1, -1.0, x.dtype))[0])
    if np.allclose(value, np.where(x > 0, x, slope * x), rtol=1e-6, atol=0.0):
        return [LeakyRelu(slope)]
    for known, layer in KNOWN:
        if np.array_equal(value, known(x)):
            return [layer()]
    return [Elementwise(function)]


def _is_elementwise(
    function: Callable[[Array], Array], x: Shaped[Array, "..."]
) -> bool:
    """An entry depends on its own entry alone, and on it as every other does."""
    order = np.random.default_rng(1).permutation(x.size)
    given = np.asarray(x).ravel()
    moved = np.where(np.arange(x.size) == 0, given + 7.0, given).astype(given.dtype)
    value, mixed, other = (
        np.asarray(function(jnp.asarray(entries.reshape(x.shape)))).ravel()
        for entries in (given, given[order], moved)
    )
    close = functools.partial(np.allclose, rtol=1e-5, atol=1e-6)
    return close(mixed, value[order]) and close(other[1:], value[1:])


def _probe(shape: tuple[int, ...]) -> Shaped[Array, "..."]:
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=shape), jnp.result_type(float))


def _line() -> Shaped[Array, " n"]:
    """Numbers of all sizes and both signs."""
    positive = np.geomspace(1e-4, 1e4, 401)
    x = np.concatenate([-positive[::-1], [0.0], positive])
    return jnp.asarray(x, jnp.result_type(float))
