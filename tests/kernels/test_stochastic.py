"""Stochastic estimates against dense spectra, in units of their own errors."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import ntkflow as nf
from ntkflow.kernels import estimate_effective_rank, estimate_trace, spectral_density

from ..tolerances import roundoff

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

SIZE = 80
SPECTRA = {
    "decaying": 1.0 / np.arange(1, SIZE + 1) ** 2,
    "slowly decaying": 1.0 / np.sqrt(np.arange(1, SIZE + 1)),
    "one large": np.concatenate([[30.0], np.linspace(1.0, 0.1, SIZE - 1)]),
}
KEYS = range(40)


@pytest.fixture(params=SPECTRA)
def spectrum(request):
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(SIZE, SIZE)))
    values = SPECTRA[request.param]
    matrix = (rotation * values) @ rotation.T
    return values, jnp.asarray((matrix + matrix.T) / 2)


def scores(estimate, matrix, expected):
    """(value − expected) / error for many keys."""
    keys = jax.vmap(jax.random.key)(jnp.asarray(KEYS))
    found = jax.jit(jax.vmap(lambda key: estimate(matrix, n_samples=12, key=key)))(keys)
    return (np.asarray(found.value) - expected) / np.asarray(found.error)


def check(found):
    # Errors by leaving one out are themselves estimates from 12 numbers, so that the
    # scores have heavier tails than the normal; their mean is unbiased all the same.
    assert np.median(np.abs(found)) <= 2.0
    assert abs(np.mean(found)) <= 5 * np.std(found) / np.sqrt(found.size) + 0.2
    # An error far too large tells nothing. The median of 40 scores is 0.67 ± 0.12.
    assert np.median(np.abs(found)) >= 0.3


def test_trace_is_within_its_error(spectrum):
    values, matrix = spectrum
    check(scores(estimate_trace, matrix, values.sum()))


def test_effective_rank_is_within_its_error(spectrum):
    values, matrix = spectrum
    expected = values.sum() ** 2 / np.sum(values**2)
    check(scores(estimate_effective_rank, matrix, expected))


def test_a_kernel_of_low_rank_is_captured_exactly(key):
    values = np.concatenate([np.arange(5.0, 0.0, -1.0), np.zeros(SIZE - 5)])
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(SIZE, SIZE)))
    matrix = jnp.asarray((rotation * values) @ rotation.T)
    trace = estimate_trace(matrix, n_samples=12, key=key)
    rank = estimate_effective_rank(matrix, n_samples=12, key=key)
    np.testing.assert_allclose(trace.value, 15.0, rtol=roundoff(SIZE))
    np.testing.assert_allclose(rank.value, 225 / 55, rtol=roundoff(SIZE))


def test_quadrature_has_the_moments_of_its_vector(spectrum, key):
    _, matrix = spectrum
    n_steps = 5
    found = spectral_density(matrix, n_samples=3, n_steps=n_steps, key=key)
    vectors = jax.random.rademacher(key, (3, SIZE), np.float64)
    power = vectors
    for p in range(2 * n_steps):
        moments = jnp.sum(vectors * power, axis=1) / SIZE
        quadrature = jnp.sum(found.weights * found.nodes**p, axis=1)
        np.testing.assert_allclose(quadrature, moments, rtol=roundoff(SIZE))
        power = power @ matrix


def test_density_counts_eigenvalues(spectrum, key):
    values, matrix = spectrum
    found = spectral_density(matrix, n_samples=30, n_steps=40, key=key)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1.0, rtol=roundoff(SIZE))
    for threshold in np.quantile(values, [0.2, 0.5, 0.9]):
        above = found.above(threshold + 1e-6)
        expected = float(np.sum(values > threshold + 1e-6))
        assert abs(above.value - expected) <= 5 * above.error + 1.0
    grid = np.linspace(-2.0, 40.0, 20_001)
    area = np.trapezoid(found(jnp.asarray(grid), 0.05), grid)
    np.testing.assert_allclose(area, 1.0, atol=1e-6)


def test_density_of_a_kernel_of_low_rank_is_finite(key):
    matrix = jnp.diag(jnp.concatenate([jnp.asarray([3.0, 2.0]), jnp.zeros(SIZE - 2)]))
    found = spectral_density(matrix, n_samples=4, n_steps=30, key=key)
    assert np.all(np.isfinite(found.nodes))
    for threshold, count in ((2.5, 1), (1.0, 2)):
        # The sign of a coordinate does not matter to a diagonal matrix.
        np.testing.assert_allclose(found.above(threshold).value, count, rtol=1e-9)


@pytest.mark.parametrize("values", [[0.0], [1.0], [4.0, 0.0]])
def test_density_where_lanczos_ends_exactly_has_all_moments(values, key):
    # In 16 dimensions signs are scaled to a quarter, so that what is left is no
    # round-off but zero; and they do not matter to a diagonal matrix.
    diagonal = np.repeat(values, 16 // len(values))
    found = spectral_density(jnp.diag(diagonal), n_samples=2, n_steps=20, key=key)
    for p in range(4):
        mean = jnp.mean(jnp.sum(found.weights * found.nodes**p, axis=1))
        np.testing.assert_allclose(mean, np.mean(diagonal**p), rtol=roundoff(16))


def test_an_operator_is_estimated_like_its_kernel(key):
    model = nf.models.MLP(3, 2, 16, 1, key=key)
    x = jax.random.normal(key, (20, 3))
    operator = nf.NTKOperator(model, x)
    kernel = nf.ntk(model, x, outputs="full")
    for estimate in (estimate_trace, estimate_effective_rank):
        found = estimate(operator, n_samples=8, key=key)
        expected = estimate(kernel, n_samples=8, key=key)
        np.testing.assert_allclose(found.value, expected.value, rtol=roundoff(1000))
    trace = estimate_trace(operator, n_samples=20, key=key)
    exact = jnp.sum(lx.diagonal(operator))
    assert abs(trace.value - exact) <= 5 * trace.error + roundoff(1000) * exact
    density = spectral_density(operator, n_samples=4, n_steps=20, key=key)
    assert density.size == 40


def test_wrong_numbers_of_vectors_are_refused(key):
    for wrong in (1, SIZE + 1):
        with pytest.raises(ValueError, match="between 2 and the kernel's size"):
            estimate_trace(jnp.eye(SIZE), n_samples=wrong, key=key)
    with pytest.raises(ValueError, match="at least 2"):
        spectral_density(jnp.eye(SIZE), n_samples=1, key=key)
    with pytest.raises(ValueError, match="symmetric"):
        estimate_trace(lx.MatrixLinearOperator(jnp.ones((3, 3))), key=key)


@pytest.mark.parametrize("rows", [4, 5, 7, 8])
def test_small_kernels_are_read_exactly(rows, key):
    """As many vectors as rows, and down to half as many: what the defaults meet."""
    x = jax.random.normal(key, (rows, 4))
    model = nf.models.MLP(4, 1, 4, 1, key=key)
    operator, kernel = nf.NTKOperator(model, x), np.asarray(nf.ntk(model, x))
    rank = estimate_effective_rank(operator, n_samples=4, key=key)
    expected = np.trace(kernel) ** 2 / np.sum(kernel**2)
    np.testing.assert_allclose(rank.value, expected, rtol=roundoff(rows**2))
    assert rank.error == 0
    if rows == 4:
        trace = estimate_trace(operator, n_samples=4, key=key)
        np.testing.assert_allclose(trace.value, np.trace(kernel), rtol=roundoff(rows))
        assert trace.error == 0


@pytest.mark.parametrize("rows", [6, 40])
def test_a_kernel_of_zeros_has_trace_and_rank_zero(rows, key):
    zeros = jnp.zeros((rows, rows))
    for estimate in (estimate_trace, estimate_effective_rank):
        found = estimate(zeros, n_samples=5, key=key)
        assert found.value == found.error == 0
    broken = jnp.full((rows, rows), jnp.nan)
    assert np.isnan(estimate_trace(broken, n_samples=5, key=key).value)
