import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import ntkflow as nf
from ntkflow.theory import (
    frozen_flow,
    frozen_flow_by_products,
    kernel_ridge,
    kernel_ridge_by_products,
)
from ntkflow.theory._large import _Action, _krylov
from tests.tolerances import roundoff, solver

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

N, NT, K = 30, 4, 2
RNG = np.random.default_rng(0)
FEATURES = RNG.standard_normal((N + NT, 40)) * np.logspace(0, -3, 40)
KERNEL, CROSS = FEATURES[:N] @ FEATURES[:N].T, FEATURES[N:] @ FEATURES[:N].T
F0, Y = RNG.standard_normal((2, N, K))
F0_TEST = RNG.standard_normal((NT, K))
LENGTH = np.linalg.norm(F0 - Y)
TIMES = np.array([0.0, 0.5, 20.0])
TEST = {"ntk_test_train": CROSS, "f0_test": F0_TEST}
PSD = frozenset({lx.symmetric_tag, lx.positive_semidefinite_tag})


def as_operator(matrix):
    structure = jax.ShapeDtypeStruct((N, K), np.float64)
    tags = PSD if len(matrix) == N else frozenset()
    return lx.FunctionLinearOperator(lambda v: jnp.asarray(matrix) @ v, structure, tags)


def as_full(matrix):
    return np.einsum("ij,kl->ikjl", matrix, np.eye(K))


@pytest.mark.parametrize("form", [np.asarray, as_operator, as_full])
def test_ridge_by_products_is_the_dense_one(form, key):
    ridge, rtol = 0.1, 1e-9
    test = TEST | {"ntk_test_train": form(CROSS)}
    found = kernel_ridge_by_products(
        form(KERNEL), F0, Y, ridge, rtol=rtol, rank=10, key=key, **test
    )
    expected = kernel_ridge(KERNEL, Y, ridge, f0_train=F0, **TEST)
    # An error of the residual is amplified by at most 1/ridge in the weights.
    for part, other, kernel in zip(found, expected, (KERNEL, CROSS), strict=True):
        bound = 2 * rtol * LENGTH * np.linalg.norm(kernel, 2) / ridge
        np.testing.assert_allclose(part, other, atol=bound)


@pytest.mark.parametrize("form", [np.asarray, as_operator])
def test_flow_by_products_is_the_dense_one(form):
    found = frozen_flow_by_products(
        form(KERNEL), F0, Y, TIMES, ridge=0.02, steps=30, rtol=1e-9, **TEST
    )
    expected = frozen_flow(KERNEL, F0, Y, TIMES, ridge=0.02, **TEST)
    np.testing.assert_allclose(found.train, expected.train, atol=1e-9 * LENGTH)
    # The weights are off by t times as much at most.
    bound = 1e-9 * LENGTH * TIMES[-1] * np.linalg.norm(CROSS, 2)
    np.testing.assert_allclose(found.test, expected.test, atol=bound)


def test_error_of_the_flow_is_bounded_and_refused():
    """The bound holds for every number of steps, and is not far from the error."""
    times, start = jnp.asarray(TIMES), jnp.asarray(F0 - Y)
    expected = frozen_flow(KERNEL, F0, Y, TIMES).train - Y[None]
    kernel, seen = _Action(jnp.asarray(KERNEL)), []
    for steps in (3, 12):
        _, left, bound, _ = _krylov(kernel, start, times, jnp.asarray(0.0), steps)
        error = np.linalg.norm(left - expected, axis=(1, 2)) / LENGTH
        assert (error <= bound + roundoff(N)).all()
        seen.append(error[1:] / bound[1:])
    assert (np.array(seen) > 0.01).all()
    with pytest.raises(ValueError, match="Raise `steps` or rtol"):
        frozen_flow_by_products(KERNEL, F0, Y, TIMES, steps=3)


def test_a_space_that_closes_early_is_exact():
    """Of rank two, and more steps than that; and with nothing to learn."""
    thin = FEATURES[:, :2]
    kernel, cross = thin[:N] @ thin[:N].T, thin[N:] @ thin[:N].T
    test = TEST | {"ntk_test_train": cross}
    for y in (Y, F0):
        found = frozen_flow_by_products(kernel, F0, y, TIMES, steps=30, **test)
        expected = frozen_flow(kernel, F0, y, TIMES, **test)
        for part, other in zip(found, expected, strict=True):
            tolerance = roundoff(N) * LENGTH * TIMES[-1] * np.linalg.norm(kernel)
            np.testing.assert_allclose(part, other, atol=tolerance)


@pytest.mark.slow
def test_derivatives_of_the_flow_are_those_of_the_dense_one():
    """By kernel, targets and time, where the space has closed too."""
    args = (jnp.asarray(KERNEL), jnp.asarray(Y), jnp.asarray(2.0))
    half = RNG.standard_normal((N, N))
    change = jnp.asarray(half + half.T), jnp.asarray(F0), jnp.asarray(0.7)

    def by_products(kernel, y, t):
        return frozen_flow_by_products(kernel, F0, y, t, steps=30).train

    def dense(kernel, y, t):
        return frozen_flow(kernel, F0, y, t).train

    _, found = jax.jit(lambda: jax.jvp(by_products, args, change))()
    _, expected = jax.jit(lambda: jax.jvp(dense, args, change))()
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=solver(1e-8) * scale)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ntk_train": np.eye(3)}, r"`ntk_train` must have shape \[30, 30\]"),
        (
            {"ntk_train": lx.MatrixLinearOperator(jnp.eye(3))},
            "must be an operator from",
        ),
        ({"y_train": np.ones(N)}, r"`y_train` must have shape \[N, K\]"),
        ({"t": np.inf}, "must be finite here"),
        ({"steps": 0}, "`steps` must be positive"),
        ({"f0_test": F0_TEST}, "needs both `ntk_test_train` and `f0_test`"),
    ],
)
def test_bad_input_is_one_clear_error(change, message):
    good = {"ntk_train": KERNEL, "f0_train": F0, "y_train": Y, "t": 1.0}
    with pytest.raises(ValueError, match=message):
        frozen_flow_by_products(**(good | change))


@pytest.mark.slow
def test_an_operator_of_a_network_predicts_as_its_kernel(key):
    """The kernel never formed: nf.NTKOperator on the training set."""
    model = nf.models.MLP(3, K, 8, 1, key=key)
    x = RNG.standard_normal((N, 3))
    kernel = nf.ntk(model, x, outputs="full")
    f0 = jax.vmap(model)(jnp.asarray(x))
    found = frozen_flow_by_products(nf.NTKOperator(model, x), f0, Y, 0.3, steps=40)
    expected = frozen_flow(kernel, f0, Y, 0.3)
    bound = 1e-6 * np.linalg.norm(f0 - Y)
    np.testing.assert_allclose(found.train, expected.train, atol=bound)
