"""Preconditioned conjugate gradients against dense solves."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import ntkflow as nf
from ntkflow.kernels import solve

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

SIZE = 120


@pytest.fixture
def matrix():
    """Eigenvalues from 10⁴ down to 10⁻⁴, as a tangent kernel has."""
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(SIZE, SIZE)))
    values = np.logspace(4, -4, SIZE)
    found = (rotation * values) @ rotation.T
    return (found + found.T) / 2


@pytest.mark.parametrize("rank", [0, 10, 60, 500])
def test_solution_is_that_of_a_dense_solve(matrix, rank, key):
    v = np.random.default_rng(1).normal(size=SIZE)
    ridge, rtol = 0.1, 1e-9
    found = solve(matrix, v, ridge=ridge, rtol=rtol, rank=rank, key=key)
    shifted = matrix + ridge * np.eye(SIZE)
    expected = np.linalg.solve(shifted, v)
    residual = shifted @ np.asarray(found.value) - v
    assert np.linalg.norm(residual) <= 2 * rtol * np.linalg.norm(v)
    # An error of the residual is amplified by at most 1/ridge.
    bound = 2 * rtol * np.linalg.norm(v) / ridge
    assert np.linalg.norm(found.value - expected) <= bound


def test_preconditioning_saves_steps(matrix, key):
    v = np.random.default_rng(1).normal(size=SIZE)
    steps = [
        int(solve(matrix, v, ridge=1.0, rank=rank, key=key).stats["num_steps"])
        for rank in (0, 30, 80)
    ]
    # 68 of 120 eigenvalues exceed the ridge: with a rank of 80 hardly any is left.
    assert steps[0] > 2 * steps[1] > 4 * steps[2]
    assert steps[2] <= 15


@pytest.mark.parametrize("size", [2.0**-26, 2.0**26])  # so that rounding is the same
def test_the_unit_of_kernel_and_vector_does_not_matter(matrix, size, key):
    v = np.random.default_rng(1).normal(size=SIZE)
    expected = solve(matrix, v, ridge=1.0, rank=20, rtol=1e-6, key=key)
    found = solve(size * matrix, v / size, ridge=size, rank=20, rtol=1e-6, key=key)
    assert found.stats["num_steps"] == expected.stats["num_steps"]
    # Both keep the residual, which the ridge amplifies by at most one, to 1e-6.
    error = np.linalg.norm(found.value * size**2 - expected.value)
    assert error <= 2e-6 * np.linalg.norm(v)


def test_an_operator_is_solved_for_every_example_and_output(key):
    model = nf.models.MLP(3, 2, 64, 1, key=key)
    x = jax.random.normal(key, (15, 3))
    v = jax.random.normal(key, (15, 2))
    kernel = np.asarray(nf.ntk(model, x, outputs="full")).reshape(30, 30)
    operator = nf.NTKOperator(model, x)
    found = solve(operator, v, ridge=1e-2, rtol=1e-10, rank=10, key=key)
    assert found.value.shape == (15, 2)
    expected = np.linalg.solve(kernel + 1e-2 * np.eye(30), np.ravel(v))
    np.testing.assert_allclose(
        np.ravel(found.value), expected, atol=1e-7 * np.linalg.norm(expected)
    )


def test_a_singular_kernel_gives_the_solution_of_least_norm(key):
    factor = np.random.default_rng(0).normal(size=(SIZE, 20))
    matrix = factor @ factor.T
    v = matrix @ np.random.default_rng(1).normal(size=SIZE)
    found = solve(matrix, v, rtol=1e-10, rank=10, key=key)
    expected = np.linalg.pinv(matrix, rcond=1e-10) @ v
    error = np.linalg.norm(found.value - expected)
    assert error <= 1e-7 * np.linalg.norm(expected)


def test_the_solution_is_differentiable(matrix, key):
    v = jnp.asarray(np.random.default_rng(1).normal(size=SIZE))
    w = jnp.asarray(np.random.default_rng(2).normal(size=SIZE))

    def scalar(scale, v):
        found = solve(scale * matrix, v, ridge=1.0, rank=30, rtol=1e-10, key=key)
        return w @ found.value

    by_scale, by_vector = jax.grad(scalar, (0, 1))(1.0, v)
    inverse = np.linalg.inv(matrix + np.eye(SIZE))
    np.testing.assert_allclose(by_vector, inverse @ w, atol=1e-8)
    expected = -w @ inverse @ matrix @ inverse @ v
    np.testing.assert_allclose(by_scale, expected, rtol=1e-7)


def test_the_solution_with_an_operator_is_differentiable_in_the_parameters(key):
    model = nf.models.MLP(3, 2, 16, 1, key=key)
    params, static = eqx.partition(model, eqx.is_inexact_array)
    x, v = jax.random.normal(key, (6, 3)), jax.random.normal(key, (6, 2))

    def scalar(params, form):
        kernel = form(eqx.combine(params, static))
        solution = solve(kernel, v, ridge=0.5, rank=4, rtol=1e-12, key=key)
        return jnp.sum(v * solution.value)

    dense = jax.grad(scalar)(params, lambda m: nf.ntk(m, x, outputs="full"))
    free = jax.grad(scalar)(params, lambda m: nf.NTKOperator(m, x))
    for a, b in zip(jax.tree.leaves(dense), jax.tree.leaves(free), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


def test_no_solution_is_needed_for_zero(matrix, key):
    found = solve(matrix, jnp.zeros(SIZE), ridge=1.0, key=key)
    np.testing.assert_array_equal(found.value, 0.0)


def test_failing_to_converge_is_told(matrix, key):
    v = np.random.default_rng(1).normal(size=SIZE)
    with pytest.raises(Exception, match="max"):
        jax.block_until_ready(solve(matrix, v, rank=0, max_steps=3, key=key))
    found = solve(matrix, v, rank=0, max_steps=3, throw=False, key=key)
    assert found.result != lx.RESULTS.successful


def test_what_cannot_be_solved_is_refused(matrix, key):
    v = jnp.ones(SIZE)
    for options, match in (
        ({"ridge": -1.0}, "ridge"),
        ({"rank": -1}, "rank"),
        ({"rtol": 1e-17}, "below what float64 can hold"),
    ):
        with pytest.raises(ValueError, match=match):
            solve(matrix, v, key=key, **options)
    with pytest.raises(ValueError, match="right-hand side"):
        solve(matrix, v.reshape(60, 2), key=key)


@pytest.mark.parametrize("rank", [0, 8])
def test_a_kernel_of_zeros_is_solved_by_its_ridge_or_not_at_all(rank, key):
    zeros, v = jnp.zeros((20, 20)), jnp.arange(1.0, 21.0)
    found = solve(zeros, v, ridge=0.5, rank=rank, key=key)
    np.testing.assert_allclose(found.value, 2 * v, rtol=1e-5)
    nothing = solve(zeros, jnp.zeros(20), rank=rank, key=key)
    assert np.all(np.asarray(nothing.value) == 0)
    failed = solve(zeros, v, rank=rank, max_steps=5, throw=False, key=key)
    assert failed.result != lx.RESULTS.successful
    with pytest.raises(Exception, match=r"singular|max"):
        solve(zeros, v, rank=rank, max_steps=5, key=key)
