import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from ntkflow.measures import Sharpness, leading_curvature
from ntkflow.measures._curvature import ACCURACY
from ntkflow.models import MLP
from ntkflow.problem import CrossEntropy, Problem

from .snapshots import IN, K, make_problem, move, read, snapshot

pytestmark = pytest.mark.usefixtures("cheaply_compiled")


@eqx.filter_jit
def dense_hessian(problem, params):
    flat, unravel = ravel_pytree(params)
    return problem.time_scale * jax.hessian(lambda p: problem.objective(unravel(p)))(
        flat
    )


found_at = eqx.filter_jit(leading_curvature)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"decay": 0.3, "reduction": "mean"},
        {"y": np.array([0, 1, 1, 0, 1]), "loss": CrossEntropy()},
    ],
)
def test_sharpness_is_the_largest_eigenvalue_of_the_dense_hessian(options):
    problem = make_problem(test=False, **options)
    params = move(problem)
    exact = np.linalg.eigvalsh(dense_hessian(problem, params))
    curvature = found_at(problem, params)
    now = snapshot(problem, params, curvature=curvature)
    found = read(Sharpness(), now)
    error = found["sharpness_error"]
    assert error <= ACCURACY * found["sharpness"] + 1e-12 * exact[-1]
    assert np.abs(exact - found["sharpness"]).min() <= error + 1e-12 * exact[-1]
    # Of a Rayleigh quotient: below the largest, by at most error²/gap.
    gap = found["sharpness"] - exact[-2]
    missed = exact[-1] - found["sharpness"]
    assert -1e-12 * exact[-1] <= missed <= error**2 / gap + 1e-12 * exact[-1]


class Diagonal(eqx.Module):
    weight: jax.Array

    def __call__(self, x):
        return x * self.weight


def quadratic(diagonal):
    """f_i = d_i θ_i of one example, so that the Hessian is diag(d²)."""
    model = Diagonal(jnp.ones(len(diagonal)))
    d = np.sqrt(np.asarray(diagonal))[None]
    return Problem(model, d, np.zeros((1, len(diagonal))))


def test_a_direction_that_overtakes_is_found_from_a_warm_start():
    # The start is an eigenvector, exactly, but no longer that of the largest value.
    diagonal = np.concatenate([[5.0, 5.5], np.linspace(0, 4, 60)])
    problem = quadratic(diagonal)
    start = jnp.zeros(62).at[0].set(1.0)
    curvature = found_at(problem, problem.params, start)
    np.testing.assert_allclose(curvature.value, 5.5, rtol=ACCURACY**2 * 11)


@pytest.mark.parametrize("size", [1, 2, 5, 40])
def test_flat_and_small_hessians_are_exact(size):
    # Fewer distinct eigenvalues than vectors: every Krylov space closes early.
    for diagonal in (np.zeros(size), np.full(size, 3.0), np.arange(size) % 2.0):
        curvature = found_at(quadratic(diagonal), quadratic(diagonal).params)
        np.testing.assert_allclose(curvature.value, diagonal.max(), atol=1e-13)
        assert curvature.error <= 1e-12


def test_largest_is_meant_by_sign_not_by_size():
    problem = make_problem(
        y=np.full((5, K), -30.0), test=False
    )  # the residual's part of the Hessian outweighs the kernel's
    params = move(problem, size=1.0)
    exact = np.linalg.eigvalsh(dense_hessian(problem, params))
    assert exact[0] < 0
    found = found_at(problem, params)
    np.testing.assert_allclose(found.value, exact[-1], rtol=1e-3)


def test_sharpness_holds_in_single_precision(key):
    single = make_problem(
        MLP(IN, K, 4, 1, key=key, dtype=np.float32), dtype=np.float32, test=False
    )
    exact = np.linalg.eigvalsh(dense_hessian(single, single.params))[-1]
    found = found_at(single, single.params)
    assert found.value.dtype == np.float32
    np.testing.assert_allclose(found.value, exact, rtol=1e-4)


def test_missing_curvature_is_named():
    with pytest.raises(ValueError, match="no 'curvature'"):
        read(Sharpness(), snapshot(make_problem()))
