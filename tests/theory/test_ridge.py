import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from ntkflow.theory import (
    early_stopping_matrix,
    early_stopping_ridge,
    frozen_flow,
    kernel_ridge,
    ridge_filter,
)
from tests.theory.linear_models import linear_model
from tests.tolerances import roundoff

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

MODEL = linear_model(params=5)


def ridge_of(model, ridge):
    (kernel, f0, y), test = model.arguments()
    return kernel_ridge(kernel, y, ridge, f0_train=f0, **test)


@pytest.mark.parametrize("params", [5, 12])
def test_ridge_regression_is_that_of_the_features(params):
    model = linear_model(params=params)
    ridge = 0.3
    expected = model.outputs(-np.linalg.solve(model.hessian(ridge), model.slope))
    scale = 1 + np.linalg.norm(model.ntk) / ridge
    for part, other in zip(ridge_of(model, ridge), expected, strict=True):
        np.testing.assert_allclose(part, other, atol=roundoff(8) * scale)


def test_flow_with_a_ridge_ends_at_ridge_regression():
    args, kwargs = MODEL.arguments()
    flow = frozen_flow(*args, np.inf, ridge=0.3, **kwargs)
    for part, other in zip(ridge_of(MODEL, 0.3), flow, strict=True):
        np.testing.assert_allclose(part, other, atol=roundoff(1000))


def test_targets_alone_are_learned_from_zero():
    (kernel, _, y), test = MODEL.arguments()
    cross = test["ntk_test_train"]
    found = kernel_ridge(kernel, y, 0.5, ntk_test_train=cross)
    zero = jnp.zeros_like(y)
    given = kernel_ridge(
        kernel, y, 0.5, f0_train=zero, ntk_test_train=cross, f0_test=zero[:3]
    )
    for part, other in zip(found, given, strict=True):
        np.testing.assert_array_equal(part, other)


def test_ridge_of_a_mode_shrinks_as_stopping_does():
    rates = np.array([0.0, 1e-12, 1e-3, 0.5, 2.0, 40.0])
    times = np.array([1e-3, 0.7, 30.0])
    found = early_stopping_ridge(jnp.asarray(rates), times)
    assert found.shape == (3, 6)
    np.testing.assert_allclose(found[:, 0], 1 / times, rtol=roundoff(1))
    stopped = -np.expm1(-np.multiply.outer(times, rates))
    ridge = ridge_filter(jnp.broadcast_to(rates, (3, 6)), found)
    np.testing.assert_allclose(ridge, stopped, rtol=roundoff(4))
    # Far on the ridge underflows and does not overflow; at the end there is none.
    late = early_stopping_ridge(jnp.array([0.0, 1e-3, 1e300]), np.inf)
    np.testing.assert_array_equal(late, 0)
    assert early_stopping_ridge(jnp.array([1e5]), 1.0)[0] == 0
    far = early_stopping_ridge(jnp.array([700.0]), 1.0)[0]
    np.testing.assert_allclose(far, 700 * np.exp(-700.0), rtol=roundoff(4))


def test_one_ridge_for_all_modes_misses_by_a_fifth():
    """By 0.20363 at λt = 2.51286, with the ridge 1/t."""

    def gap(rate):
        return float(ridge_filter(jnp.array([rate]), 1.0)[0] + np.expm1(-rate))

    worst = scipy.optimize.minimize_scalar(
        gap, bounds=(0.0, 50.0), method="bounded", options={"xatol": 1e-9}
    )
    assert abs(worst.x - 2.51286) <= 5e-6
    assert abs(-worst.fun - 0.20363) <= 5e-6


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("params", [3, 12])
def test_early_stopping_is_a_matrix_ridge_off_the_sample(params, shared):
    """Also of a singular kernel, and about outputs that are not zero."""
    model, t = linear_model(params=params), 0.6
    (kernel, f0, y), test = model.arguments()
    if shared:
        kernel = kernel[:, 0, :, 0]
        test["ntk_test_train"] = test["ntk_test_train"][:, 0, :, 0]
    matrix = early_stopping_matrix(kernel, t)
    assert matrix.shape == kernel.shape
    found = kernel_ridge(kernel, y, matrix, f0_train=f0, **test)
    expected = frozen_flow(kernel, f0, y, t, **test)
    condition = 1 + t * np.linalg.norm(kernel)
    for part, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(part, other, atol=roundoff(40) * condition)


def test_derivative_of_the_matrix_ridge_is_right_at_equal_eigenvalues():
    """Central differences, extrapolated; of λ = 0 the derivative is −½."""
    rng = np.random.default_rng(0)
    modes, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    kernel = (modes * np.array([0.3, 0.3, 0.3, 2.0, 9.0])) @ modes.T
    half = rng.standard_normal((5, 5))
    change, t, h = half + half.T, 0.8, 2e-3
    at = jax.jit(lambda k: early_stopping_matrix(k, t))
    _, found = jax.jvp(at, (jnp.asarray(kernel),), (jnp.asarray(change),))

    def central(h):
        low, high = (at(jnp.asarray(kernel + s * change)) for s in (-h, h))
        return np.asarray(high - low) / (2 * h)

    expected = (4 * central(h / 2) - central(h)) / 3
    scale = np.linalg.norm(change) ** 5
    np.testing.assert_allclose(found, expected, atol=h**4 * scale)
    _, slope = jax.jvp(at, (jnp.zeros((5, 5)),), (jnp.eye(5),))
    np.testing.assert_allclose(slope, -0.5 * np.eye(5), atol=roundoff(5))


@pytest.mark.parametrize(
    ("ridge", "message"),
    [
        (0.0, "`ridge` must be finite and positive"),
        (np.ones((3, 3)), r"`ridge` must have shape \[4, 2, 4, 2\]"),
        (-np.einsum("ij,kl->ikjl", np.eye(4), np.eye(2)), "not positive definite"),
    ],
)
def test_a_ridge_that_regularizes_nothing_is_refused(ridge, message):
    with pytest.raises(ValueError, match=message):
        ridge_of(MODEL, ridge)


def test_early_stopping_refuses_what_is_no_kernel_or_time():
    with pytest.raises(ValueError, match=r"\[N, K, N, K\]"):
        early_stopping_matrix(np.ones(3), 1.0)
    with pytest.raises(ValueError, match="must be symmetric"):
        early_stopping_matrix(np.triu(np.ones((3, 3))), 1.0)
    with pytest.raises(ValueError, match="must be one time"):
        early_stopping_matrix(np.eye(3), np.ones(2))
    with pytest.raises(ValueError, match="must not be negative"):
        early_stopping_ridge(jnp.ones(2), -1.0)


def test_targets_and_kernels_that_are_none_are_refused():
    with pytest.raises(ValueError, match="`y_train` is not finite"):
        kernel_ridge(np.eye(3), np.full((3, 1), np.nan), 1.0)
    with pytest.raises(ValueError, match="`ntk_test_train` is empty"):
        kernel_ridge(np.eye(3), np.ones((3, 1)), 1.0, ntk_test_train=np.ones((0, 3)))
