"""The error of a kernel by the solver inside the model."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkflow as nf
from ntkflow.models import loosest, tightened


def fast(key, rtol):
    """State 4, two hidden layers of 32, gain 3: at 1e-2 the kernel is all wrong."""
    k1, k2, k3 = jax.random.split(key, 3)
    return nf.models.NeuralODE(
        nf.models.MLPField(4, 32, 2, w_std=3.0, key=k1),
        nf.models.Dense(2, 4, key=k2),
        nf.models.Dense(4, 1, key=k3),
        depth=nf.models.Depth(3.0, rtol=rtol, atol=rtol),
    )


def distance(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


@pytest.mark.slow
def test_estimate_is_within_five_times(key):
    x = jax.random.normal(jax.random.key(9), (4, 2))
    truth = nf.ntk_error_estimate(fast(key, 1e-10), x).kernel  # at 1e-12
    errors = []
    for rtol in (1e-2, 1e-3, 1e-4, 1e-6, 1e-8):
        found = nf.ntk_error_estimate(fast(key, rtol), x)
        error = distance(found.loose, truth)
        assert error / 5 <= found.error <= 5 * error
        assert distance(found.kernel, truth) <= error / 5
        errors.append(error)
    assert errors == sorted(errors, reverse=True)
    # What symmetry does not show: predicted to 1e-2, a kernel wrong by half or more.
    assert errors[0] > 0.5
    assert errors[-1] < 1e-5


class Foreign(eqx.Module):
    weight: jax.Array
    controller: diffrax.PIDController

    def __call__(self, x):
        return self.weight * x


class Rough(eqx.Module):
    """In place of a solver: wrong by its tolerance, exactly."""

    weight: jax.Array
    controller: diffrax.PIDController

    def __call__(self, x):
        return (1 + self.controller.rtol) * self.weight * x


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_error_is_that_of_the_looser_kernel(dtype):
    """(1 + rtol)²xx'; in float32 the tighter kernel is computed in float64."""
    rtol = 2e-6 if dtype == jnp.float32 else 1e-10
    model = Rough(jnp.ones((), dtype), diffrax.PIDController(rtol=rtol, atol=rtol))
    x = jnp.array([[1.0], [2.0], [4.0]], dtype)
    found = nf.ntk_error_estimate(model, x)
    assert (found.loose.dtype, found.kernel.dtype) == (dtype, jnp.float64)
    truth = np.asarray(x, np.float64) @ np.asarray(x, np.float64).T
    error = distance(np.asarray(found.loose, np.float64), truth)
    eps = float(jnp.finfo(dtype).eps)
    assert found.error == pytest.approx(error, rel=rtol + 8 * eps / error)
    assert found.error == pytest.approx(2 * rtol, abs=8 * eps)
    assert distance(found.kernel, truth) <= 2.1 * rtol / 100


def test_every_tolerance_is_tightened(key):
    clipped = diffrax.ClipStepSizeController(
        diffrax.PIDController(rtol=1e-4, atol=1e-6), step_ts=jnp.array([0.5])
    )
    model = [
        fast(key, 1e-3),
        nf.models.Depth(2.0, controller=clipped),
        nf.models.Depth(max_steps=77),
        Foreign(jnp.ones(()), diffrax.PIDController(rtol=1e-5, atol=1e-7)),
    ]
    first, second, third, last = tightened(model, 10, jnp.float64, jnp.float64)

    def both(controller):
        return np.array([float(controller.rtol), float(controller.atol)])

    np.testing.assert_allclose(both(first.depth.controller.tree), 1e-4)
    np.testing.assert_allclose(both(second.controller.tree), [1e-5, 1e-7])
    np.testing.assert_array_equal(second.controller.tree.step_ts, [0.5])
    np.testing.assert_allclose(both(third.controller.tree), 1e-9)
    np.testing.assert_allclose(both(last.controller), [1e-6, 1e-8])
    assert (second.t1, third.max_steps) == (2.0, 77)
    assert eqx.tree_equal(first.field, model[0].field)
    found = [loosest(m) for m in (model, first, model[2])]
    np.testing.assert_array_equal(found, [1e-3, 0, 0])


def test_estimate_that_cannot_be_is_refused(key):
    x = jnp.ones((2, 2))
    with pytest.raises(ValueError, match="factor must be above 1"):
        nf.ntk_error_estimate(fast(key, 1e-3), x, factor=1.0)
    with pytest.raises(ValueError, match=r"rtol=1e-16 is below what float64 can hold"):
        nf.ntk_error_estimate(fast(key, 1e-14), x)
    with pytest.raises(ValueError, match="No tolerance was found in MLP"):
        nf.ntk_error_estimate(nf.models.MLP(2, 1, 3, 1, key=key), x)


def test_loose_tolerance_warns_before_a_kernel():
    x = jnp.ones((2, 1))
    loose = Foreign(jnp.ones(()), diffrax.PIDController(rtol=1e-3, atol=1e-6))
    for use in (nf.ntk, nf.NTKOperator):
        with pytest.warns(UserWarning, match=r"rtol=0.001.*1e-05 or below.*estimate"):
            use(loose, x)
    fine = Foreign(jnp.ones(()), diffrax.PIDController(rtol=1e-5, atol=1e-6))
    nf.ntk(fine, x)


class Drift(eqx.Module):
    """ẋ = θ, which every method solves exactly in whatever steps it likes."""

    theta: jax.Array

    def __call__(self, t, z):
        return self.theta


X = jnp.asarray([[0.2, 0.5], [-0.6, 0.1]])
THETA = np.array([0.7, -0.4])


def until(condition):
    """x₁ when x₀ is one: x₁(0) + θ₁(1 − x₀(0))/θ₀."""
    with pytest.warns(UserWarning, match="without a root finder"):
        depth = nf.models.Depth(10.0, event=diffrax.Event(condition))
    field = Drift(jnp.asarray(THETA))
    return nf.models.NeuralODE(field, readout=lambda z: z[1:], depth=depth)


@pytest.mark.slow
@pytest.mark.usefixtures("cheaply_compiled")
def test_estimate_sees_an_event_not_located():
    """All tolerances take the same steps here, and end depth at the end of one."""
    left = np.asarray(1 - X[:, 0])
    jac = np.stack([-THETA[1] * left / THETA[0] ** 2, left / THETA[0]], axis=1)
    found = nf.ntk_error_estimate(until(lambda t, y, args, **_: y[0] - 1), X)
    np.testing.assert_allclose(found.kernel, jac @ jac.T, rtol=1e-10)
    error = distance(found.loose, jac @ jac.T)
    assert error > 1
    np.testing.assert_allclose(found.error, error / (1 - 1 / found.factor), rtol=1e-8)


def test_an_event_that_cannot_be_located_has_no_estimate():
    with pytest.raises(ValueError, match="true or false"):
        nf.ntk_error_estimate(until(lambda t, y, args, **_: y[0] > 1), X)


def test_events_of_solves_of_ones_own_are_warned_of():
    class Own(eqx.Module):
        weight: jax.Array
        event: diffrax.Event

        def __call__(self, x):
            return self.weight * x

    def condition(t, y, args, **_):
        return y[0]

    with pytest.warns(UserWarning, match="without a root finder"):
        nf.ntk(Own(jnp.ones(2), diffrax.Event(condition)), X)
    # As it stands it warns where it is made, and not again where it is read.
    depth = until(condition).depth
    model = nf.models.NeuralODE(Drift(jnp.asarray(THETA)), depth=depth)
    assert nf.models.events_of(model) == []
