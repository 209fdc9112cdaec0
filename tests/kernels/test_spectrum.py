"""Eigenvalues and eigenpairs against numpy, for spectra that are hard on Lanczos."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import ntkflow as nf
from ntkflow.kernels import _action, _spectrum, eigenvalues, top_eigenpairs

from ..tolerances import roundoff

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

SIZE = 90
SPECTRA = {
    "decaying": 1.0 / np.arange(1, SIZE + 1) ** 2,
    "each five times": np.repeat(1.0 / np.arange(1, SIZE // 5 + 1) ** 2, 5),
    "of low rank": np.concatenate([np.arange(4.0, 0.0, -1.0), np.zeros(SIZE - 4)]),
    "all equal": np.ones(SIZE),
    "zero": np.zeros(SIZE),
    "with negatives": np.linspace(1.0, -1.0, SIZE),
}


@pytest.fixture(params=SPECTRA)
def spectrum(request):
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(SIZE, SIZE)))
    values = SPECTRA[request.param]
    matrix = (rotation * values) @ rotation.T
    return values, (matrix + matrix.T) / 2


@pytest.fixture
def lanczos(monkeypatch):
    """Small matrices would be solved densely."""
    monkeypatch.setattr(_spectrum, "DENSE", 1)


def test_eigenvalues_match_numpy(spectrum):
    values, matrix = spectrum
    found = eigenvalues(jnp.asarray(matrix))
    np.testing.assert_allclose(found, values, atol=roundoff(SIZE))
    full = jnp.asarray(matrix).reshape(SIZE // 3, 3, SIZE // 3, 3)
    np.testing.assert_array_equal(eigenvalues(full), found)


@pytest.mark.usefixtures("lanczos")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_top_eigenpairs_match_numpy(spectrum, dtype, key):
    values, matrix = spectrum
    k = 7
    matrix = jnp.asarray(matrix, dtype)
    found, vectors = jax.jit(lambda m: top_eigenpairs(m, k, key=key))(matrix)
    atol = roundoff(SIZE, dtype)
    np.testing.assert_allclose(found, values[:k], atol=atol)
    gram = np.asarray(vectors.T @ vectors)
    np.testing.assert_allclose(gram, np.eye(k), atol=atol)
    residual = np.asarray(matrix @ vectors - vectors * found[None, :])
    assert np.linalg.norm(residual, axis=0).max() <= atol


@pytest.mark.usefixtures("lanczos")
def test_lanczos_that_does_not_settle_falls_back_to_a_dense_solve(
    spectrum, key, monkeypatch
):
    values, matrix = spectrum
    monkeypatch.setattr(_spectrum, "CYCLES", 1)
    found, _ = top_eigenpairs(jnp.asarray(matrix), 7, key=key)
    np.testing.assert_allclose(found, values[:7], atol=roundoff(SIZE))


@pytest.mark.usefixtures("lanczos")
def test_operator_that_does_not_settle_says_so(key, monkeypatch):
    monkeypatch.setattr(_spectrum, "CYCLES", 1)
    matrix = lx.MatrixLinearOperator(jnp.diag(jnp.arange(90.0)), lx.symmetric_tag)
    with pytest.raises(Exception, match="spectrum is too flat"):
        jax.block_until_ready(top_eigenpairs(matrix, 7, key=key))


@pytest.mark.parametrize("dense", [True, False])
def test_top_eigenpairs_of_an_operator_are_those_of_its_kernel(dense, key, monkeypatch):
    monkeypatch.setattr(_spectrum, "DENSE", 1000 if dense else 1)
    model = nf.models.MLP(3, 2, 16, 1, key=key)
    x = jax.random.normal(key, (20, 3))
    expected = np.linalg.eigvalsh(nf.ntk(model, x, outputs="full").reshape(40, 40))
    values, vectors = top_eigenpairs(nf.NTKOperator(model, x), 3, key=key)
    assert vectors.shape == (40, 3)
    np.testing.assert_allclose(values, expected[::-1][:3], rtol=roundoff(200))


@pytest.mark.usefixtures("lanczos")
def test_same_key_gives_the_same_eigenpairs_also_under_vmap(key):
    matrix = jnp.diag(1.0 / jnp.arange(1.0, 91.0))
    first = top_eigenpairs(matrix, 3, key=key)
    second = top_eigenpairs(matrix, 3, key=key)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    stack = jnp.stack([matrix, 2.0 * matrix])
    values, _ = jax.vmap(lambda m: top_eigenpairs(m, 3, key=key))(stack)
    np.testing.assert_allclose(values[0], first[0], rtol=roundoff(90))
    np.testing.assert_allclose(values[1], 2 * first[0], rtol=roundoff(90))


@pytest.mark.parametrize("k", [0, 91])
def test_impossible_counts_are_refused(k, key):
    with pytest.raises(ValueError, match="between 1 and the size 90"):
        top_eigenpairs(jnp.eye(90), k, key=key)


def test_kernels_that_are_no_matrix_are_refused():
    with pytest.raises(ValueError, match="one matrix an output"):
        _action.as_square.__wrapped__(jnp.ones((4, 4, 2)))


def test_asymmetric_operators_are_refused(key):
    operator = lx.MatrixLinearOperator(jnp.triu(jnp.ones((3, 3))))
    with pytest.raises(ValueError, match="symmetric"):
        top_eigenpairs(operator, 1, key=key)
