"""Heavy ball and plain updates where the kernel does not move."""

import jax.numpy as jnp

from ._decays import Descent, Oscillation
from ._inputs import Given, as_amount, as_times, refuse
from ._predict import Predictions, predict, read_task


def frozen_momentum(
    ntk_train: Given,
    f0_train: Given,
    y_train: Given,
    t: float | int | Given,
    *,
    damping: float | int | Given,
    ntk_test_train: Given | None = None,
    f0_test: Given | None = None,
    ridge: float | int | Given = 0.0,
) -> Predictions:
    """Outputs at time t of the heavy ball with a constant kernel.

    θ̈ + γθ̇ = −∇L from rest, with the loss of `frozen_flow`: each mode is an oscillator
    r̈ + γṙ + λr = 0, underdamped where λ > γ²/4. At t = ∞ the outputs are those of
    `frozen_flow`. For θ̈ + γθ̇ = −c∇L give c times the kernels. Modes below rounding
    are treated as there, with what a mode without an eigenvalue is moved for t: t/γ at
    late times, t²/2 without damping.

    Args:
        ntk_train: Θ(X, X), [N, N] or [N, K, N, K].
        f0_train: Outputs [N, K] at t = 0.
        y_train: Targets [N, K].
        t: Training time, a number or an array [T].
        damping: γ, in units of 1/time; zero for none, and then t must be finite.
        ntk_test_train: Θ(X_test, X), [Nt, N] or [Nt, K, N, K].
        f0_test: Outputs [Nt, K] at t = 0 on the test set.
        ridge: Strength of the weight decay towards θ₀, in the kernel's unit.

    Returns:
        As `frozen_flow`.

    Source: Polyak (1964), section 2, for one mode.

    Verified by:
        tests/theory/test_frozen_momentum.py::test_momentum_is_that_of_the_parameters
    """
    task = read_task(ntk_train, f0_train, y_train, ntk_test_train, f0_test)
    dtype = task.kernel.dtype
    drag, times = as_amount("damping", damping, dtype), as_times(t, dtype)
    times = refuse(
        times,
        (drag == 0) & jnp.any(jnp.isinf(times)),
        "Without damping the heavy ball never comes to rest: t must be finite.",
    )
    return predict(task, Oscillation(times, drag), ridge)


def frozen_descent(
    ntk_train: Given,
    f0_train: Given,
    y_train: Given,
    steps: int | Given,
    *,
    learning_rate: float | int | Given,
    ntk_test_train: Given | None = None,
    f0_test: Given | None = None,
    ridge: float | int | Given = 0.0,
) -> Predictions:
    """Outputs after k updates of gradient descent with a constant kernel.

    θ ← θ − η∇L with the loss of `frozen_flow`: each mode is multiplied by 1 − ηλ.
    Beyond `max_learning_rate` it grows. With a time scale c give cη for η. Modes below
    rounding are treated as in `frozen_flow` at t = ηk.

    Args:
        ntk_train: Θ(X, X), [N, N] or [N, K, N, K].
        f0_train: Outputs [N, K] before the first update.
        y_train: Targets [N, K].
        steps: k, an integer or an array [T] of them.
        learning_rate: η, in units of time.
        ntk_test_train: Θ(X_test, X), [Nt, N] or [Nt, K, N, K].
        f0_test: Outputs [Nt, K] before the first update on the test set.
        ridge: Strength of the weight decay towards θ₀, in the kernel's unit.

    Returns:
        As `frozen_flow`.

    Raises:
        ValueError: The steps are no integers, or of more than one axis.

    Source: LeCun, Kanter & Solla (1991), eq. 3.

    Verified by:
        tests/theory/test_frozen_momentum.py::test_descent_is_that_of_the_parameters
    """
    task = read_task(ntk_train, f0_train, y_train, ntk_test_train, f0_test)
    count = jnp.asarray(steps)
    if not jnp.issubdtype(count.dtype, jnp.integer) or count.ndim > 1:
        raise ValueError(
            "`steps` must be an integer or an array [T] of integers, got shape "
            f"{list(count.shape)} of {count.dtype}."
        )
    count = refuse(count, ~jnp.all(count >= 0), "`steps` must not be negative.")
    rate = as_amount("learning_rate", learning_rate, task.kernel.dtype)
    return predict(task, Descent(count, rate), ridge)
