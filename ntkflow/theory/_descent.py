"""Gradient descent against gradient flow where the kernel is constant.

Each mode decays by 1 − ηλ an update, and by e^{−ηλ} in the flow's time of one. Here λ
is an eigenvalue of cΘ, with c the problem's time scale, and the loss the squared error.
For networks whose kernel moves, `nf.flows.Modified` predicts the gap to the same order.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._types import FullKernel
from ._filters import decompose


def descent_decay(
    eigenvalues: Float[Array, "*modes"], learning_rate: float, steps: Int[Array, " T"]
) -> Float[Array, "T *modes"]:
    """What k updates of gradient descent leave of each mode, (1 − ηλ)^k.

    Args:
        eigenvalues: λ, in units of 1/time.
        learning_rate: η, in units of time.
        steps: k.

    Returns:
        The factors; beyond ηλ = 2 they grow.

    Source: LeCun, Kanter & Solla (1991), eq. 3.
    Verified by:
        tests/theory/test_descent.py::test_factors_are_those_of_the_recursion
    """
    factors = 1 - learning_rate * eigenvalues
    powers = jnp.expand_dims(steps, tuple(range(1, 1 + factors.ndim)))
    powers = powers.astype(factors.dtype)
    return jnp.power(jnp.expand_dims(factors, 0), powers)


def descent_gap_of_modes(
    eigenvalues: Float[Array, "*modes"], t: Float[Array, " T"]
) -> Float[Array, "T *modes"]:
    """The gap between descent and flow per learning rate, −½λ²t e^{−λt}.

    (1 − ηλ)^{t/η} = e^{−λt} + η · gap + O(η²): descent is ahead of its flow, by most
    where λt = 1 for the mode and λ = 2/t for the time.

    Args:
        eigenvalues: λ, in units of 1/time.
        t: Training time.

    Returns:
        The gap of a mode of size one, in units of 1/time.

    Source: derived here, from log(1 − ηλ) = −ηλ − ½η²λ² + O(η³); it is the modified
    equation of Hairer, Lubich & Wanner (2006), section IX.1, for a linear field.
    Verified by:
        tests/theory/test_descent.py::test_gap_of_modes_has_slope_one_and_then_two
    """
    times = jnp.expand_dims(t, tuple(range(1, 1 + eigenvalues.ndim)))
    rates = jnp.expand_dims(eigenvalues, 0)
    return -0.5 * rates**2 * times * jnp.exp(-rates * times)


def descent_gap(
    ntk_train: FullKernel,
    f0_train: Float[Array, "N K"],
    y_train: Float[Array, "N K"],
    t: Float[Array, " T"],
) -> Float[Array, "T N K"]:
    """The gap between the outputs of descent and of its flow, per learning rate.

    f_descent(t) = f_flow(t) + η · gap(t) + O(η²) with gap = −½tH²e^{−Ht}(f₀ − y), at
    the times t = kη of updates, for a model linear in its parameters.

    Args:
        ntk_train: H = cΘ on the training set, `outputs="full"`; singular ones too.
        f0_train: Outputs at t = 0.
        y_train: Targets.
        t: Training time.

    Returns:
        The gap, in units of outputs per time.

    Source: as `descent_gap_of_modes`.
    Verified by:
        tests/theory/test_descent.py::test_gap_of_outputs_predicts_descent_of_a_kernel
    """
    shape = f0_train.shape
    kernel = ntk_train.reshape(f0_train.size, f0_train.size)
    rates, modes, floor = decompose(0.5 * (kernel + kernel.T))
    # Up to the floor an eigenvalue is round-off, and counts as zero.
    rates = jnp.where(rates <= floor, jnp.zeros_like(rates), rates)
    parts = jnp.matmul(modes.T, jnp.ravel(f0_train - y_train), precision="highest")
    gaps = descent_gap_of_modes(rates, t) * jnp.expand_dims(parts, 0)
    return jnp.matmul(gaps, modes.T, precision="highest").reshape(len(t), *shape)
