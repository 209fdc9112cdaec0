import decimal
import math

import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.solvers._mode_phis import ModePhis
from ntkflow.solvers._oscillator import oscillator_phis
from tests.solvers.quick import quick_jit

VALUES = [0.0, 1e-12, 1e-4, 0.5, 1.0, 9.0, 400.0]


def exact(count, h, damping, shift, value):
    """Σ (hM)ʲ/(j + k)! for all k, to as many digits as are lost in it, and more."""
    d = decimal.Decimal
    rate = max(damping, math.sqrt(shift + value))
    with decimal.localcontext() as context:
        context.prec = 60 + int(2 * h * rate)
        h, damping, square = d(h), d(damping), d(shift) + d(value)
        power = np.array([[d(1), d(0)], [d(0), d(1)]])
        matrix = np.array([[d(0), h], [-h * square, -h * damping]])
        factors = [1 / d(math.factorial(k)) for k in range(count + 1)]
        found = [power * factor for factor in factors]
        j, tiny = 0, d(10) ** -(context.prec - 5)
        while j < 5 or abs(power * factors[0]).max() > tiny:
            j, power = j + 1, power @ matrix
            factors = [factor / (j + k) for k, factor in enumerate(factors)]
            found = [a + power * f for a, f in zip(found, factors, strict=True)]
        return found


def exact_slopes(count, h, damping, shift, value):
    with decimal.localcontext() as context:
        context.prec = 60 + int(2 * h * max(damping, math.sqrt(shift + value)))
        # At λ = 0 the difference over a step far below what is compared.
        value = value or 1e-25
        low = exact(count, h, damping, shift, 0.0)
        high = exact(count, h, damping, shift, value)
        step = decimal.Decimal(h) * decimal.Decimal(value)
        return [(a - b) / step for a, b in zip(low, high, strict=True)]


@quick_jit
def functions(h, damping, shift, values):
    return oscillator_phis(3, h, damping, shift, values)


UNDAMPED, UNDER, CRITICAL, OVER = 0.0, 0.3, 2.0, 60.0


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shift", [0.0, 0.5])
@pytest.mark.parametrize("damping", [UNDAMPED, UNDER, CRITICAL, OVER])
def test_functions_are_those_of_the_exponential(damping, shift, dtype):
    h, damping, shift, *values = (
        float(a) for a in np.asarray([0.7, damping, shift, *VALUES], dtype)
    )
    found = functions(*(jnp.asarray(a, dtype) for a in (h, damping, shift, values)))
    assert found.large.dtype == found.slopes.dtype == dtype
    found = ModePhis(*(np.asarray(own, float) for own in found))
    for i, value in enumerate(values):
        rate = max(damping, math.sqrt(shift + value), 1 / h)
        # A doubling of some ten operations doubles what rounding has left before: in
        # all roundings by the number of doublings' power of two, at most 4h · rate.
        bound = 40 * np.finfo(dtype).eps * h * rate
        # An entry's size, from the units of the two components at this rate.
        size = np.array([[1, 1 / rate], [rate, 1]])
        large = np.array(exact(3, h, damping, shift, value), float)
        assert np.all(np.abs(found.large[..., i] - large) <= bound * size)
        slopes = np.array(exact_slopes(3, h, damping, shift, value), float)
        size *= h / (1 + h**2 * value)
        assert np.all(np.abs(found.slopes[..., i] - slopes) <= bound * size)
        if value == 0:
            assert np.all(np.abs(found.small - large) <= bound * size / h)
