import decimal
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.theory import phi, phi_slopes
from tests.tolerances import roundoff

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

DTYPES = [jnp.float32, jnp.float64]
SIZES = [0.0, 1e-12, 1e-6, 1e-3, 0.1, 0.4, 0.6, 0.99, 1.01, 1.99, 2.01, 2.9, 3.1, 5.0]


def exact(k, z, drop=0.0):
    """φ_k(z − drop) = Σ (z − drop)ʲ/(j + k)!, to forty digits and more."""
    with decimal.localcontext() as context:
        context.prec = 90
        z = decimal.Decimal(float(z)) - decimal.Decimal(float(drop))
        term = total = decimal.Decimal(1) / math.factorial(k)
        j = k
        while abs(term) > decimal.Decimal(10) ** -70:
            j += 1
            term = term * z / j
            total += term
        return total


def exact_difference(k, z, drop):
    """(φ_k(z) − φ_k(z − drop))/drop, or φ_k' = φ_k − k φ_{k+1}, to as many."""
    with decimal.localcontext() as context:
        context.prec = 90
        if drop == 0:
            return exact(k, z) - k * exact(k + 1, z)
        return (exact(k, z) - exact(k, z, drop)) / decimal.Decimal(float(drop))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", range(5))
def test_phi_is_the_sum_of_its_series(k, dtype):
    z = np.array([-40.0, -17.0, *(-s for s in SIZES), *SIZES, 12.0], dtype)
    expected = np.array([float(exact(k, value)) for value in z])
    found = jax.jit(phi, static_argnums=0)(k, jnp.asarray(z))
    assert found.dtype == dtype
    # e^z itself inherits |z| roundings of its argument.
    np.testing.assert_allclose(found, expected, rtol=roundoff(2, dtype))


@pytest.mark.parametrize("k", range(1, 5))
def test_phi_falls_as_one_over_its_argument(k):
    z = jnp.array([-1e8, -1e30, -jnp.inf])
    leading = np.array([1e-8, 1e-30, 0.0]) / math.factorial(k - 1)
    np.testing.assert_allclose(phi(k, z), leading, rtol=1e-7)


@pytest.mark.parametrize("k", range(5))
def test_derivative_of_phi_is_finite_and_right_everywhere(k):
    z = jnp.array([-1e6, -40.0, *(-s for s in SIZES), *SIZES])
    slope = jax.vmap(jax.grad(lambda x: phi(k, x)))(z)
    expected = phi(k, z) - k * phi(k + 1, z)
    scale = phi(k, z) + k * phi(k + 1, z)
    assert (jnp.abs(slope - expected) <= roundoff(8) * scale).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", range(4))
def test_divided_difference_is_that_of_the_series(k, dtype):
    sizes = [0.0, 1e-9, 1e-3, 0.3, 2.0, 3.99, 4.01, 9.0, 30.0]
    z, drop = (a.ravel() for a in np.meshgrid(-np.array(sizes), sizes))
    z, drop = z.astype(dtype), drop.astype(dtype)
    found = phi_slopes(k, jnp.asarray(z), jnp.asarray(drop))[k]
    expected = [float(exact_difference(k, *pair)) for pair in zip(z, drop, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=roundoff(4, dtype))


@pytest.mark.parametrize("k", range(4))
def test_divided_difference_from_zero_is_the_next_phi(k):
    drop = jnp.geomspace(1e-8, 1e8, 60)
    found = phi_slopes(k, jnp.zeros_like(drop), drop)[k]
    np.testing.assert_allclose(found, phi(k + 1, -drop), rtol=roundoff(4))
