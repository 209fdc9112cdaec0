import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.theory import frozen_descent, frozen_flow, frozen_momentum
from tests.theory.linear_models import forced, linear_model
from tests.tolerances import roundoff

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

TIMES = np.array([0.0, 1e-3, 0.3, 2.0, 20.0])
MODEL = linear_model(params=5)
RATES = np.linalg.eigvalsh(MODEL.hessian(0.0))

momentum = jax.jit(frozen_momentum)
descent = jax.jit(frozen_descent)


@pytest.mark.parametrize("ridge", np.array([0.0, 0.7]))
@pytest.mark.parametrize("damping", np.array([0.0, 0.3, 2 * RATES[2] ** 0.5, 30.0]))
def test_momentum_is_that_of_the_parameters(damping, ridge):
    """Without damping, with little, critical in one mode, and over in all of them."""
    args, kwargs = MODEL.arguments()
    found = momentum(*args, TIMES, damping=damping, ridge=ridge, **kwargs)
    size = len(RATES)
    own = np.block([
        [np.zeros((size, size)), np.eye(size)],
        [-MODEL.hessian(ridge), -damping * np.eye(size)],
    ])
    force = np.concatenate([np.zeros(size), -MODEL.slope])
    for i, t in enumerate(TIMES):
        expected = MODEL.outputs(forced(own, force, t)[:size])
        # The phase of a fast oscillation inherits as many roundings as its radians.
        tolerance = roundoff(40 * size) * (1 + t * np.sqrt(RATES[-1]))
        for part, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(part[i], other, atol=tolerance * 10)


def test_momentum_ends_where_the_flow_ends():
    args, kwargs = MODEL.arguments()
    times = np.array([1.0, 2.0, 5.0, 9.0, np.inf])
    found = momentum(
        *args, times, damping=np.asarray(0.4), ridge=np.asarray(0.1), **kwargs
    )
    expected = frozen_flow(*args, jnp.inf, ridge=0.1, **kwargs)
    for part, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(part[-1], other, atol=roundoff(200))


def test_momentum_without_damping_has_no_end():
    args, _ = MODEL.arguments()
    with pytest.raises(ValueError, match="t must be finite"):
        frozen_momentum(*args, np.inf, damping=0.0)
    with pytest.raises(ValueError, match="`damping` must be finite and not negative"):
        frozen_momentum(*args, 1.0, damping=-1.0)


@pytest.mark.parametrize("ridge", np.array([0.0, 0.7]))
@pytest.mark.parametrize("eta", np.array([0.01, 1.0, 1.9]) / RATES[-1])
def test_descent_is_that_of_the_parameters(eta, ridge):
    args, kwargs = MODEL.arguments()
    steps = np.array([0, 1, 2, 37, 300])
    found = descent(*args, steps, learning_rate=eta, ridge=ridge, **kwargs)
    params, hessian = np.zeros(5), MODEL.hessian(ridge)
    for k in range(301):
        if k in steps:
            (i,) = np.flatnonzero(steps == k)
            for part, other in zip(found, MODEL.outputs(params), strict=True):
                np.testing.assert_allclose(part[i], other, atol=roundoff(4 * (k + 20)))
        params = params - eta * (hessian @ params + MODEL.slope)


def test_many_small_steps_are_the_flow():
    """Without the digits that 1 − ηλ loses: 10⁹ steps, of which 10⁻⁹ is left over."""
    args, kwargs = MODEL.arguments()
    steps, t = np.array([10**6, 10**7, 10**8, 10**9, 10**10]), 0.8
    rate = np.asarray(t / 1e9)
    found = descent(*args, steps, learning_rate=rate, ridge=np.asarray(0.0), **kwargs)
    expected = frozen_flow(*args, rate * steps, **kwargs)
    gap = rate * RATES[-1] * 2 * np.abs(expected.test).max()
    for part, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(part, other, atol=gap)


@pytest.mark.parametrize(
    ("steps", "rate", "message"),
    [
        (-1, 0.1, "`steps` must not be negative"),
        (np.array(1.5), 0.1, "`steps` must be an integer"),
        (3, -0.1, "`learning_rate` must be finite and not negative"),
    ],
)
def test_descent_refuses_what_is_no_number_of_updates(steps, rate, message):
    args, _ = MODEL.arguments()
    with pytest.raises(ValueError, match=message):
        frozen_descent(*args, steps, learning_rate=rate)
