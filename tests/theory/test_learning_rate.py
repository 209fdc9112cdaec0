import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.theory import max_learning_rate
from tests.theory.linear_models import linear_model
from tests.tolerances import roundoff

MODEL = linear_model()


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.95])
def test_updates_grow_beyond_it_alone(momentum):
    bound = float(max_learning_rate(MODEL.ntk, momentum=momentum))
    hessian = MODEL.hessian(0.0)
    for factor in (0.99, 1.01):
        here = before = np.ones(5)
        for _ in range(4000):
            step = momentum * (here - before) - factor * bound * hessian @ here
            here, before = here + step, here
            if np.linalg.norm(here) > 1e4:
                break
        assert (np.linalg.norm(here) > 1e4) == (factor > 1)
        assert (np.linalg.norm(here) < 10) == (factor < 1)


def test_kernel_matrix_and_eigenvalue_say_the_same():
    top = np.linalg.eigvalsh(MODEL.hessian(0.0))[-1]
    matrix = jnp.asarray(MODEL.ntk.reshape(8, 8))
    for given in (MODEL.ntk, matrix, top, float(top)):
        np.testing.assert_allclose(max_learning_rate(given), 2 / top, rtol=roundoff(8))
    slope = jax.grad(lambda k: max_learning_rate(k))(matrix)
    # By Euler's theorem, as it is of degree −1.
    np.testing.assert_allclose(jnp.vdot(slope, matrix), -2 / top, rtol=roundoff(64))


@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 2, 3, 1)])
def test_an_array_that_is_no_kernel_is_refused(shape):
    with pytest.raises(ValueError, match=r"got shape"):
        max_learning_rate(np.ones(shape))


@pytest.mark.parametrize("momentum", [-0.1, 1.0])
def test_momentum_out_of_range_is_refused(momentum):
    with pytest.raises(ValueError, match="`momentum` must be at least 0"):
        max_learning_rate(1.0, momentum=momentum)
