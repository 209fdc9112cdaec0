"""Derivatives of functions of a kernel, where eigenvalues are equal, close or zero."""

import decimal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from ntkflow.theory._decays import Descent, Ended, Flow, Oscillation
from ntkflow.theory._filters import apply_filter
from ntkflow.theory._shifted import Shifted
from tests.tolerances import roundoff

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

RATES = np.array([0.0, 0.0, 1e-9, 0.5, 0.5, 0.5 + 1e-7, 0.51, 3.0, 3.0, 40.0])
N = len(RATES)
MODES, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((N, N)))
KERNEL = (MODES * RATES) @ MODES.T
EYE, NONE = np.eye(N), np.zeros((N, N))

apply = jax.jit(apply_filter)


def direction(seed=1):
    half = np.random.default_rng(seed).standard_normal((N, N))
    return half + half.T


def flow(kernel, t, damping):
    """A matrix and the blocks of its exponential that are A and R."""
    return scipy.linalg.expm, t * np.block([[-kernel, EYE], [NONE, NONE]]), (0, 1), 1


def oscillation(kernel, t, damping):
    rows = [[NONE, EYE, NONE], [-kernel, -damping * EYE, EYE], [NONE, NONE, NONE]]
    return scipy.linalg.expm, t * np.block(rows), (0, 2), 1


def descent(kernel, steps, rate):
    block = np.block([[EYE - rate * kernel, rate * EYE], [NONE, EYE]])
    return lambda m: np.linalg.matrix_power(m, steps), block, (0, 1), 1


def values(make, *args):
    function, matrix, (row, column), _ = make(*args)
    found = function(matrix)
    cut = [slice(N * i, N * (i + 1)) for i in (row, column)]
    return found[cut[0], cut[1]], found[cut[0], cut[0]]


def derivatives(make, args, change):
    """By the block matrix [[M, Ṁ], [0, M]], exactly; the matrices are affine."""
    function, matrix, (row, column), _ = make(*args)
    moved = tuple(a + b for a, b in zip(args, change, strict=True))
    rate = make(*moved)[1] - matrix
    size = len(matrix)
    found = function(np.block([[matrix, rate], [np.zeros_like(matrix), matrix]]))
    corner = found[:size, size:]
    cut = [slice(N * i, N * (i + 1)) for i in (row, column)]
    return corner[cut[0], cut[1]], corner[cut[0], cut[0]]


# Where some modes are critically damped; and where 1 − ηλ is negative.
CASES = [
    (flow, 0.8, 0.0),
    (flow, 0.0, 0.0),
    pytest.param(oscillation, 0.8, 0.0, marks=pytest.mark.slow),
    pytest.param(oscillation, 2.0, 2 * np.sqrt(3.0), marks=pytest.mark.slow),
    pytest.param(oscillation, 3.0, 9.0, marks=pytest.mark.slow),
    (descent, 1, 0.02),
    (descent, 30, 0.045),
]


def decay_of(make, time, parameter):
    if make is flow:
        return Flow(jnp.asarray(time))
    if make is oscillation:
        return Oscillation(jnp.asarray(time), jnp.asarray(parameter))
    return Descent(jnp.asarray(time), jnp.asarray(parameter))


@pytest.mark.parametrize(("make", "time", "parameter"), CASES)
def test_derivative_by_the_kernel_is_that_of_a_block_matrix(make, time, parameter):
    # Arrays, as a Python number is of another type to jit.
    decay = decay_of(make, np.asarray(time), np.asarray(parameter))
    filters = Shifted(decay, jnp.asarray(0.0))
    change = direction()
    found, slope = tangent_by_kernel(filters, jnp.asarray(change))
    expected = values(make, KERNEL, time, parameter)
    slopes = derivatives(make, (KERNEL, time, parameter), (change, 0 * time, 0.0))
    for i in range(2):
        # The moved part is compared in the unit of what moves it, the time squared.
        scale = max(1.0, np.abs(expected[i]).max())
        np.testing.assert_allclose(found[i], expected[i], atol=roundoff(40 * N) * scale)
        scale = max(1.0, np.abs(slopes[i]).max())
        np.testing.assert_allclose(slope[i], slopes[i], atol=roundoff(80 * N) * scale)


@jax.jit
def tangent_by_kernel(filters, change):
    unit = jnp.asarray(EYE)
    return jax.jvp(
        lambda kernel: apply_filter(filters, kernel, unit),
        (jnp.asarray(KERNEL),),
        (change,),
    )


@pytest.mark.slow
@pytest.mark.parametrize(("make", "time", "parameter"), [CASES[0], CASES[3]])
def test_derivatives_by_time_and_damping_are_those_of_a_block_matrix(
    make, time, parameter
):
    def at(time, parameter):
        filters = Shifted(decay_of(make, time, parameter), jnp.asarray(0.0))
        return apply_filter(filters, jnp.asarray(KERNEL), jnp.asarray(EYE))

    found = jax.jit(jax.jacfwd(at, argnums=(0, 1)))(time, parameter)
    expected = derivatives(make, (KERNEL, time, parameter), (NONE, 1.0, 0.0))
    for i in range(2):
        scale = max(1.0, np.abs(expected[i]).max())
        tolerance = roundoff(80 * N) * scale
        np.testing.assert_allclose(found[0][i], expected[i], atol=tolerance)
    if make is oscillation:
        h = 1e-4
        high, low = (values(make, KERNEL, time, parameter + s) for s in (h, -h))
        for i in range(2):
            central = (high[i] - low[i]) / (2 * h)
            np.testing.assert_allclose(found[1][i], central, atol=10 * h**2)


def test_reverse_mode_is_the_transpose():
    """By kernel, vectors, ridge and time at once."""
    rng = np.random.default_rng(2)
    vectors, changes = (jnp.asarray(a) for a in rng.standard_normal((2, N, 2)))
    weights = jnp.asarray(rng.standard_normal((2, N, 2)))

    def at(kernel, vectors, ridge, t):
        return apply_filter(Shifted(Flow(t), ridge), kernel, vectors)

    args = (jnp.asarray(KERNEL), vectors, jnp.asarray(0.1), jnp.asarray(0.7))
    tangents = (jnp.asarray(direction()), changes, jnp.asarray(0.3), jnp.asarray(-0.2))

    @jax.jit
    def both():
        _, forward = jax.jvp(at, args, tangents)
        cotangents = jax.vjp(at, *args)[1](weights)
        pairs = zip(cotangents, tangents, strict=True)
        return jnp.vdot(weights, forward), sum(jnp.vdot(a, b) for a, b in pairs)

    forward, backward = both()
    np.testing.assert_allclose(forward, backward, rtol=roundoff(40 * N))


def test_derivative_at_the_end_is_that_of_the_pseudoinverse():
    """Golub & Pereyra (1973): along kernels of equal rank."""
    factor = np.random.default_rng(3).standard_normal((N, 4))
    moved = np.random.default_rng(4).standard_normal((N, 4))
    kernel, change = factor @ factor.T, moved @ factor.T + factor @ moved.T
    inverse = np.linalg.pinv(kernel, rcond=1e-10)
    outside = EYE - kernel @ inverse
    slope = (
        -inverse @ change @ inverse
        + inverse @ inverse @ change @ outside
        + outside @ change @ inverse @ inverse
    )
    _, found = jax.jvp(
        lambda k: apply(Shifted(Ended(), jnp.asarray(0.0)), k, jnp.asarray(EYE)),
        (jnp.asarray(kernel),),
        (jnp.asarray(change),),
    )
    tolerance = roundoff(40 * N) * np.linalg.norm(inverse) ** 2 * 100
    np.testing.assert_allclose(found[0], slope, atol=tolerance)
    projector = -change @ inverse - kernel @ slope
    np.testing.assert_allclose(found[1], projector, atol=tolerance * 100)


def exact_oscillation(rate, t, damping):
    """A and R as the power series of their equations, to sixty digits and more."""
    with decimal.localcontext() as context:
        context.prec = 250
        t, g, k = (decimal.Decimal(float(v)) for v in (t, damping, rate))
        found = []
        for start, force in [((decimal.Decimal(0),) * 2, 1), ((1, 0), 0)]:
            terms = [decimal.Decimal(start[0]), decimal.Decimal(start[1]) * t]
            for n in range(2, 1200):
                push = t**2 * (decimal.Decimal(force) if n == 2 else 0)
                own = -g * t * (n - 1) * terms[-1] - k * t**2 * terms[-2] + push
                terms.append(own / (n * (n - 1)))
            found.append(float(sum(terms)))
        return found


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_oscillators_are_those_of_their_power_series(dtype):
    """Under-, over- and critically damped, close to critical, and with no force."""
    for t, damping in [(1.0, 0.5), (2.0, 3.0), (5.0, 0.0), (4.0, 40.0), (1e-3, 2.0)]:
        own = np.asarray(damping, dtype)
        critical = np.asarray(own**2 / 4, dtype)
        near = [critical * dtype(1 + e) for e in (-0.1, -1e-6, 0.0, 1e-6, 0.1)]
        rates = np.array([0.0, 1e-9, 1e-3, 0.1, 1.0, 30.0, *near], dtype)
        args = jnp.asarray(t, dtype), jnp.asarray(own)
        found = oscillators(*args, jnp.asarray(rates))
        expected = [exact_oscillation(r, dtype(t), own) for r in rates]
        scale = np.max(np.abs(expected), axis=0)
        for i in range(2):
            # z = γ²t²/4 − λt² inherits roundings of its terms, and so does its root.
            tolerance = roundoff(16, dtype) * (1 + t * np.sqrt(rates)) * scale[i]
            assert found[i].dtype == dtype
            error = np.abs(np.asarray(found[i]) - np.array(expected)[:, i])
            assert (error <= tolerance).all()


@jax.jit
def oscillators(t, damping, rates):
    return Oscillation(t, damping).pair(rates, jnp.zeros_like(t))


def test_a_stiff_oscillator_creeps_as_the_flow_in_the_time_over_its_damping():
    """R = e^{−λt/γ}(1 + O(λ/γ²)), without loss of the digits of a slow decay."""
    t, damping = jnp.asarray(np.asarray(1e9)), jnp.asarray(np.asarray(1e8))
    rates = jnp.array([0.0, 1e-12, 1e-9, 1e-6, 1e-3, 0.01, 0.1, 0.5, 1.0, 3.0, 5.0])
    moved, left = oscillators(t, damping, rates)
    flow_moved, flow_left = Flow(t / damping).pair(rates, jnp.asarray(0.0))
    np.testing.assert_allclose(left, flow_left, rtol=roundoff(40))
    np.testing.assert_allclose(moved, flow_moved, rtol=roundoff(40))
