"""Activations by name, and the weight scale each calls for."""

from collections.abc import Callable
from types import MappingProxyType

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._errors import unknown_name


def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The Gaussian error linear unit x Φ(x), with Φ the exact normal distribution.

    `jax.nn.gelu` defaults to a tanh approximation, whose infinite-width kernel is not
    the one in the literature.

    Args:
        x: Preactivations.

    Returns:
        x Φ(x), elementwise.

    Source: Hendrycks and Gimpel (2016), section 2.
    Verified by: tests/models/test_activations.py::test_gelu_is_the_exact_erf_form
    """
    return jax.nn.gelu(x, approximate=False)


def identity(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The linear activation.

    Args:
        x: Preactivations.

    Returns:
        The same array.
    """
    return x


ACTIVATIONS = MappingProxyType({
    "abs": jnp.abs,
    "cos": jnp.cos,
    "elu": jax.nn.elu,
    "erf": jax.scipy.special.erf,
    "gelu": gelu,
    "identity": identity,
    "leaky_relu": jax.nn.leaky_relu,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "sin": jnp.sin,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
})
"""Name to function. `leaky_relu` has JAX's slope of 0.01 below zero."""

# The identity far above zero and (nearly) nothing far below it: about half of the
# second moment is lost.
_RELU_LIKE = (
    jax.nn.elu,
    jax.nn.gelu,
    gelu,
    jax.nn.leaky_relu,
    jax.nn.relu,
    jax.nn.silu,
    jax.nn.softplus,
)


def resolve_activation(activation: str | Callable) -> Callable:
    """The function behind an activation given by name or as a callable.

    Args:
        activation: A name in `ACTIVATIONS`, or an elementwise callable, which is
            returned as it is; an equinox module with parameters of its own, such as
            `eqx.nn.PReLU`, is trained with the model.

    Returns:
        The elementwise function.

    Raises:
        ValueError: If the name is unknown; the message has the nearest valid one.
    """  # ruff: ignore[docstring-missing-exception, docstring-extraneous-exception]
    if isinstance(activation, str):
        if activation not in ACTIVATIONS:
            raise unknown_name("activation", activation, ACTIVATIONS)
        return ACTIVATIONS[activation]
    return activation


def default_w_std(activation: str | Callable) -> float:
    """The weight scale that keeps signals of order one through many layers.

    Args:
        activation: A name in `ACTIVATIONS`, or a callable.

    Returns:
        √2 for ReLU and its smooth relatives, given by name or as the function of
        `jax.nn`; 1 for every other activation.

    Source: He et al. (2015), eq. 10.
    Verified by: tests/models/test_activations.py::test_relu_gain_keeps_second_moments
    """
    function = resolve_activation(activation)
    # By identity: a callable need not be hashable, nor comparable.
    relu_like = any(function is known for known in _RELU_LIKE)
    return 2.0**0.5 if relu_like else 1.0
