import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from ntkflow.theory import descent_decay, descent_gap, descent_gap_of_modes
from tests.tolerances import roundoff

ETAS = 0.1 * 0.5 ** np.arange(5)


def slope(errors):
    return np.polyfit(np.log(ETAS), np.log(errors), 1)[0]


def test_factors_are_those_of_the_recursion():
    rates, eta = np.array([[0.0, 0.3], [5.0, 12.0]]), 0.1
    r = np.ones_like(rates)
    found = descent_decay(jnp.asarray(rates), eta, jnp.arange(30))
    assert found.shape == (30, 2, 2)
    for k in range(30):
        # A power of a rounded factor; one beyond 1 in size changes sign at odd k.
        np.testing.assert_allclose(found[k], r, rtol=roundoff(4 * 30))
        r = r - eta * rates * r


def test_gap_of_modes_has_slope_one_and_then_two():
    rates, t = jnp.array([0.2, 1.0, 3.0]), 2.0
    flow = jnp.exp(-rates * t)
    predicted = descent_gap_of_modes(rates, jnp.array([t]))[0]
    steps = np.round(t / ETAS).astype(int)
    raw, corrected = [], []
    for eta, k in zip(ETAS, steps, strict=True):
        gap = descent_decay(rates, float(eta), jnp.array([k]))[0] - flow
        raw.append(np.abs(gap))
        corrected.append(np.abs(gap - eta * predicted))
    for mode in range(3):
        assert abs(slope(np.array(raw)[:, mode]) - 1) <= 0.2
        assert abs(slope(np.array(corrected)[:, mode]) - 2) <= 0.2


def test_gap_of_outputs_predicts_descent_of_a_kernel():
    """By powers and exponentials of matrices; the kernel is singular."""
    n, k, times = 3, 2, np.array([0.8, 1.6])
    features = np.random.default_rng(0).standard_normal((n * k, 4))
    kernel = features @ features.T / 4
    f0, y = np.asarray(jax.random.normal(jax.random.key(1), (2, n, k)))
    r0 = (f0 - y).ravel()
    predicted = descent_gap(
        jnp.asarray(kernel.reshape(n, k, n, k)),
        jnp.asarray(f0),
        jnp.asarray(y),
        jnp.asarray(times),
    )
    assert predicted.shape == (2, n, k)
    for t, gap in zip(times, predicted, strict=True):
        left = []
        for eta in ETAS:
            one = np.eye(n * k) - eta * kernel
            descent = np.linalg.matrix_power(one, round(t / eta)) @ r0
            flow = scipy.linalg.expm(-t * kernel) @ r0
            left.append(np.linalg.norm(descent - flow - eta * np.ravel(gap)))
        assert abs(slope(np.array(left)) - 2) <= 0.2
