import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.infinite._angle import arctan2
from tests.tolerances import roundoff


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_angle_is_that_of_numpy(dtype):
    small = np.geomspace(1e-12, 1, 500)
    theta = np.concatenate([np.linspace(-np.pi, np.pi, 20_001), small, -small])
    for length in (1e-9, 1.0, 1e9):
        y = (length * np.sin(theta)).astype(dtype)
        x = (length * np.cos(theta)).astype(dtype)
        found = jax.jit(arctan2)(y, x)
        assert found.dtype == dtype
        exact = np.arctan2(y.astype(np.longdouble), x.astype(np.longdouble))
        np.testing.assert_allclose(found, exact, rtol=roundoff(2, dtype))


def test_angle_of_nothing_is_a_right_one_with_a_finite_derivative():
    zero = jnp.zeros(())
    assert arctan2(zero, zero) == np.pi / 2
    assert np.isfinite(jax.grad(arctan2)(zero, zero))


def test_derivative_of_the_angle_is_that_of_the_library():
    point = jnp.asarray([0.3, 1.2, -0.1]), jnp.asarray([0.5, -0.4, -2.0])
    direction = jnp.ones(3), 0.7 * jnp.ones(3)
    _, found = jax.jvp(arctan2, point, direction)
    _, exact = jax.jvp(jnp.arctan2, point, direction)
    np.testing.assert_allclose(found, exact, rtol=roundoff(2))
