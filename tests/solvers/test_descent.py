import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.solvers import (
    MAX_UPDATES_EPS,
    BetweenUpdates,
    Descent,
    EqualSteps,
    EqualStepsState,
    rounding,
)
from tests.solvers.quick import quick_jit


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_ends_of_equal_steps_do_not_drift(dtype):
    """A million ends, each within its rounding of k times the length."""
    length = 0.0137
    k = jnp.arange(1, 1_000_001, dtype=jnp.int32)

    def end(k):
        state = EqualStepsState(jnp.zeros((), dtype), k)
        made = EqualSteps(length).adapt_step_size(
            0.0, 0.0, None, None, None, None, 1.0, state
        )
        return made[2], made[4].proposed

    ends, proposed = jax.jit(jax.vmap(end))(k)
    assert ends.dtype == dtype
    np.testing.assert_array_equal(proposed, k + 1)
    exact = np.longdouble(length) * np.asarray(k + 1)
    # The length and the product are each rounded once, a save time once more.
    ends = np.asarray(ends)
    assert (np.abs(ends - exact) <= np.finfo(dtype).eps * exact).all()
    saved = exact.astype(dtype)
    near = np.asarray(jax.vmap(rounding)(jnp.asarray(ends)))
    assert (np.abs(saved - ends) <= near).all()
    # No two updates are near one time, as far as runs are allowed to go.
    assert len(k) < MAX_UPDATES_EPS / np.finfo(dtype).eps
    assert 2 * near[-1] < length


def test_a_save_time_an_ulp_off_is_an_update():
    t0, t1 = jnp.float32(1000.0), jnp.float32(1000.01)
    y0, y1 = {"a": jnp.zeros(2, jnp.float32)}, {"a": jnp.ones(2, jnp.float32)}
    between = BetweenUpdates(t0=t0, t1=t1, y0=y0, y1=y1)
    for t, expected in (
        (np.nextafter(t0, t1), 0.0),
        (np.nextafter(t1, t0), 1.0),
        (t1, 1.0),
        (t0, 0.0),
    ):
        np.testing.assert_array_equal(between.evaluate(t)["a"], expected)
    middle = 0.5 * (t0 + t1)
    exact = (np.float64(middle) - np.float64(t0)) / (np.float64(t1) - np.float64(t0))
    np.testing.assert_allclose(between.evaluate(middle)["a"], exact, rtol=1e-6)
    change = between.evaluate(t0, middle)["a"]
    np.testing.assert_array_equal(change, between.evaluate(middle)["a"])
    nowhere = BetweenUpdates(t0=t0, t1=t0, y0=y0, y1=y0)
    np.testing.assert_array_equal(nowhere.evaluate(t0)["a"], 0.0)


def test_bare_descent_is_euler_with_a_cut_last_step():
    eta, end = 0.1, 0.55
    solution = quick_jit(dfx.diffeqsolve)(
        dfx.ODETerm(lambda t, y, args: -y),
        Descent(eta),
        0.0,
        end,
        None,
        jnp.array([1.0]),
        stepsize_controller=EqualSteps(eta),
    )
    assert solution.ys is not None
    np.testing.assert_allclose(solution.ys[-1], 0.9**5 * 0.95, rtol=1e-14)
    assert int(solution.stats["num_steps"]) == 6


@pytest.mark.parametrize("rate", [0.0, -0.1, float("nan")])
def test_rates_that_are_not_positive_are_refused(rate):
    with pytest.raises(ValueError, match="learning_rate must be positive"):
        Descent(rate)
