"""The distribution of the outputs of infinitely wide networks, at any time."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._decays import Ended, Flow
from ._inputs import Given, Layout, as_amount, as_outputs, as_times, layout_of
from ._predict import Predictions, over_times, warn_of_rounding


class Gaussian(NamedTuple):
    """A normal distribution of outputs.

    Attributes:
        mean: [..., N, K].
        covariance: [..., N, N], that of each output, which are independent; or
            [..., N, K, N, K].
    """

    mean: Float[Array, "*T N K"]
    covariance: Float[Array, "..."]


def ensemble(
    nngp_train: Given,
    ntk_train: Given,
    y_train: Given,
    t: float | int | Given,
    *,
    nngp_test_train: Given | None = None,
    nngp_test: Given | None = None,
    ntk_test_train: Given | None = None,
    ridge: float | int | Given = 0.0,
) -> Predictions:
    """Mean and covariance over initial weights of the outputs at time t.

    Networks of infinite width start as a Gaussian process of covariance 𝒦 and follow
    `frozen_flow` with the kernel Θ. With W = Θ(x, X) tφ₁(−Θt)

        mean = W y,    covariance = 𝒦(x, x') − W𝒦(X, x') − 𝒦(x, X)Wᵀ + W𝒦W'ᵀ.

    At t = ∞ it is what ensembles of trained networks end as, sometimes called the NTK's
    posterior, though it is that of no prior; for the latter see `nngp_posterior`. Modes
    below rounding are treated as in `frozen_flow`.

    Args:
        nngp_train: 𝒦(X, X), [N, N] or [N, K, N, K].
        ntk_train: Θ(X, X), of the same shape.
        y_train: Targets [N, K].
        t: Training time, a number or an array [T]; infinity is a time.
        nngp_test_train: 𝒦(X_test, X).
        nngp_test: 𝒦(X_test, X_test).
        ntk_test_train: Θ(X_test, X).
        ridge: Strength of the weight decay towards θ₀, in the kernel's unit.

    Returns:
        A `Gaussian` on the training set, and one on the test set, the latter None
        without one; with times [T] they lead.

    Raises:
        ValueError: A shape does not fit, a kernel is not symmetric, a time or the ridge
            is negative, or only some of the kernels of the test set are given.

    Source: Lee et al. (2019), eqs. 14-16.

    Verified by:
        tests/theory/test_posterior.py::test_moments_are_those_of_many_linear_models
    """
    layout = layout_of(ntk_train, y_train)
    ntk = layout.square("ntk_train", ntk_train, layout.examples)
    prior = _read_prior(layout, nngp_train, nngp_test_train, nngp_test, ntk.dtype)
    if (ntk_test_train is None) != (prior.cross is None):
        raise ValueError(
            "A test set needs all of `nngp_test_train`, `nngp_test` and "
            "`ntk_test_train`."
        )
    cross = None
    if ntk_test_train is not None:
        count = nngp_test_train.shape[0] if nngp_test_train is not None else None
        cross = layout.cross("ntk_test_train", ntk_test_train, count, layout.examples)
        cross = cross.astype(ntk.dtype)
    y = as_outputs("y_train", y_train, (layout.examples, layout.outputs), ntk.dtype)
    decay = Flow(as_times(t, ntk.dtype))
    amount = as_amount("ridge", ridge, ntk.dtype)
    unit = jnp.eye(layout.rows, dtype=ntk.dtype)
    moved, left, unsure = over_times(decay, amount, ntk, unit)
    warn_of_rounding(unsure, stacklevel=3)
    columns = layout.columns(y)
    # The residual −y at the mean start is what is left of itself.
    mean = layout.restore(_minus(columns, _dot(left, columns)))
    train = _gaussian(layout, mean, _dot(_dot(left, prior.train), left))
    if cross is None or prior.cross is None or prior.test is None:
        return Predictions(train, None)
    weights = _dot(cross, moved)
    shared = _dot(weights, prior.cross.T)
    learned = _dot(_dot(weights, prior.train), jnp.swapaxes(weights, -1, -2))
    both = shared + jnp.swapaxes(shared, -1, -2)
    covariance = _minus(prior.test, both - learned)
    mean = layout.restore(_dot(weights, columns))
    return Predictions(train, _gaussian(layout, mean, covariance))


def nngp_posterior(
    nngp_train: Given,
    y_train: Given,
    noise: float | int | Given,
    *,
    nngp_test_train: Given | None = None,
    nngp_test: Given | None = None,
) -> Predictions:
    """The posterior of a Gaussian process, given observations with noise.

    With the kernel of a network of infinite width it is the Bayesian posterior over its
    weights; or that after the readout alone was trained, without noise.

    Args:
        nngp_train: 𝒦(X, X), [N, N] or [N, K, N, K].
        y_train: Observations [N, K].
        noise: Variance of an observation's noise; with zero a singular kernel is
            inverted where it has rank, as in `frozen_flow` at t = ∞.
        nngp_test_train: 𝒦(X_test, X).
        nngp_test: 𝒦(X_test, X_test).

    Returns:
        A `Gaussian` of the function without noise on the training set, and one on the
        test set, the latter None without one.

    Source: Rasmussen & Williams (2006), eqs. 2.22-2.24; Lee et al. (2018), section 2.

    Verified by:
        tests/theory/test_posterior.py::test_posterior_is_the_conditional_distribution
    """
    layout = layout_of(nngp_train, y_train)
    given = jnp.asarray(nngp_train).dtype
    prior = _read_prior(layout, nngp_train, nngp_test_train, nngp_test, given)
    y = as_outputs("y_train", y_train, (layout.examples, layout.outputs), given)
    amount = as_amount("noise", noise, given)
    unit = jnp.eye(layout.rows, dtype=given)
    moved, left, _ = over_times(Ended(), amount, prior.train, unit)
    columns = layout.columns(y)
    mean = layout.restore(_minus(columns, _dot(left, columns)))
    train = _gaussian(layout, mean, _dot(left, prior.train))
    if prior.cross is None or prior.test is None:
        return Predictions(train, None)
    weights = _dot(prior.cross, moved)
    covariance = prior.test - _dot(weights, prior.cross.T)
    mean = layout.restore(_dot(weights, columns))
    return Predictions(train, _gaussian(layout, mean, covariance))


class _Prior(NamedTuple):
    """𝒦 as matrices; on the test set None without one."""

    train: Float[Array, "n n"]
    cross: Float[Array, "nt n"] | None
    test: Float[Array, "nt nt"] | None


def _read_prior(
    layout: Layout,
    train: Given,
    cross: Given | None,
    test: Given | None,
    dtype: np.dtype,
) -> _Prior:
    own = layout.square("nngp_train", train, layout.examples).astype(dtype)
    if cross is None and test is None:
        return _Prior(own, None, None)
    if cross is None or test is None:
        raise ValueError(
            "A test set needs both `nngp_test_train` and `nngp_test`, the kernels of "
            "the prior between test and training set and on the test set."
        )
    between = layout.cross("nngp_test_train", cross, None, layout.examples)
    there = layout.square("nngp_test", test, cross.shape[0])
    return _Prior(own, between.astype(dtype), there.astype(dtype))


def _gaussian(
    layout: Layout, mean: Float[Array, "*T N K"], covariance: Float[Array, "*T n n"]
) -> Gaussian:
    """Symmetric to the last digit."""
    symmetric = 0.5 * (covariance + jnp.swapaxes(covariance, -1, -2))
    return Gaussian(mean, layout.restore_kernel(symmetric))


def _minus(a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.broadcast_to(a, b.shape) - b


def _dot(a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, "..."]:
    """Matrices times matrices, one of which may lead with times."""
    if a.ndim < b.ndim:
        return jnp.einsum("ij,tjk->tik", a, b, precision="highest")
    if a.ndim > b.ndim:
        return jnp.einsum("tij,jk->tik", a, b, precision="highest")
    return jnp.matmul(a, b, precision="highest")
