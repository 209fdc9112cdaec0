"""Stopping the flow early is ridge regression, with one ridge for each eigenvalue."""

from typing import final

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import Scalar
from ._decays import NEAR, slope
from ._filters import AbstractFilter, apply_filter
from ._inputs import Given, Layout, as_times
from ._phi import phis


def early_stopping_ridge(
    eigenvalues: Float[Array, "*modes"], t: float | int | Given
) -> Float[Array, "..."]:
    """The ridge of each mode that does what stopping at time t does, λ/(e^{λt} − 1).

    λ/(λ + μ) = 1 − e^{−λt}. It is exact mode by mode, for the squared error, a constant
    kernel and no momentum; t is the flow's time, k steps of size η being t = kη. One
    ridge for all modes is an approximation: with 1/t the two factors differ by at most
    0.20363, at λt = 2.51286.

    Args:
        eigenvalues: λ, none negative, in units of 1/time.
        t: Training time, a number or an array [T]; infinity is a time.

    Returns:
        μ of the eigenvalues' shape; with times [T] they lead. At λ = 0 it is 1/t.

    Source: Ali, Kolter & Tibshirani (2019), section 3; solved for the ridge.

    Verified by:
        tests/theory/test_ridge.py::test_ridge_of_a_mode_shrinks_as_stopping_does
    """
    rates = jnp.asarray(eigenvalues)
    times = as_times(t, rates.dtype)
    shape = (*times.shape, *rates.shape)
    at = times.reshape(*times.shape, *[1] * rates.ndim)
    return _ridge(jnp.broadcast_to(rates, shape), jnp.broadcast_to(at, shape))


def early_stopping_matrix(
    ntk_train: Given, t: float | int | Given
) -> Float[Array, "..."]:
    """The matrix M = Θ(e^{Θt} − 1)⁻¹, with which `kernel_ridge` stops early.

    (Θ + M)⁻¹ = tφ₁(−Θt): ridge regression about f₀ with this matrix is `frozen_flow` at
    time t, on and off the sample.

    Args:
        ntk_train: Θ(X, X), [N, N] or [N, K, N, K].
        t: One training time, positive; infinity is a time.

    Returns:
        M, of the kernel's shape.

    Raises:
        ValueError: The shape is none of a kernel, or there are several times.

    Source: as `early_stopping_ridge`.

    Verified by:
        tests/theory/test_ridge.py::test_early_stopping_is_a_matrix_ridge_off_the_sample
    """
    shape = ntk_train.shape
    if len(shape) not in {2, 4}:
        raise ValueError(
            f"`ntk_train` must have shape [N, N] or [N, K, N, K], got {list(shape)}."
        )
    layout = Layout(shape[0], shape[1] if len(shape) == 4 else 1, len(shape) == 4)
    kernel = layout.square("ntk_train", ntk_train, layout.examples)
    time = as_times(t, kernel.dtype)
    if time.ndim:
        raise ValueError(
            "`t` must be one time, as every time has a matrix of its own: use jax.vmap."
        )
    unit = jnp.eye(layout.rows, dtype=kernel.dtype)
    return apply_filter(_Ridge(time), kernel, unit)[0].reshape(shape)


@final
class _Ridge(AbstractFilter):
    """μ at one time."""

    t: Float[Array, ""]

    def values(
        self, rates: Float[Array, "*shape"], floor: Scalar
    ) -> Float[Array, "c *shape"]:
        return self._at(rates)[None]

    def slopes(
        self, low: Float[Array, "*shape"], high: Float[Array, "*shape"], floor: Scalar
    ) -> Float[Array, "c *shape"]:
        return slope(self._at, low, high, self.t * (high - low) < NEAR)[None]

    def _at(self, rates: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return _ridge(rates, jnp.broadcast_to(self.t, rates.shape))


def _ridge(
    rates: Float[Array, "*shape"], t: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    ended = jnp.isinf(t)
    time = jnp.where(ended, jnp.ones_like(t), t)
    left, learned = phis(1, -rates * time)
    # As e^{λt} would overflow: e^{−λt}/(tφ₁(−λt)).
    return jnp.where(ended, jnp.zeros_like(t), left / (time * learned))
