"""What a solve in depth is held to, and what it refuses."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
import pytest

import ntkflow as nf
from ntkflow import models
from ntkflow.models._solve_failure import checked

from ..kernels import quick
from . import euler


class Wave(eqx.Module):
    """Slow near zero, and the faster the larger the state."""

    theta: jax.Array

    def __call__(self, t, z):
        return self.theta * jnp.sin(40 * z) * z


def wave(**settings):
    return models.NeuralODE(Wave(jnp.array(1.7)), depth=models.Depth(**settings))


BATCH = jnp.array([[0.0], [0.001], [2.0], [0.0]])


def test_failed_example_of_a_batch_is_named():
    model = wave(solver=diffrax.Heun(), max_steps=16, rtol=1e-6, atol=1e-6)
    with pytest.raises(
        eqx.EquinoxRuntimeError, match=r"example 2, of 4 .*max_steps=16. Raise"
    ):
        eqx.filter_jit(lambda m, x: jax.vmap(m)(x))(model, BATCH)


class Failing(eqx.Module):
    """Fails where a solve of examples above 1 would."""

    weight: jax.Array

    def __call__(self, x):
        bound = jax.lax.stop_gradient(jnp.where(x[0] > 1, 1, 0))
        good = checked(16)(bound) == 0
        return jnp.where(good, self.weight * x, jnp.nan)


def test_kernel_names_the_failed_example_also_in_tiles_of_one():
    model = Failing(jnp.ones(()))
    least = nf.kernels.plan(model, BATCH).estimates["contraction"].least
    with pytest.raises(eqx.EquinoxRuntimeError, match="example 2, of 4"):
        nf.ntk(model, BATCH, max_bytes=least, method="contraction")
    with pytest.raises(eqx.EquinoxRuntimeError, match="example 1, of 3"):
        nf.ntk(model, BATCH[:2], BATCH[1:], max_bytes=least, method="contraction")


@pytest.mark.slow
def test_event_in_depth_moves_with_the_parameters():
    """ẋ = θ until x₀ = 1: x₁ is x₁(0) + θ₁(1 − x₀(0))/θ₀ there."""

    class Drift(eqx.Module):
        theta: jax.Array

        def __call__(self, t, z):
            return self.theta

    def reached(t, y, args, **kwargs):
        return y[0] - 1.0

    finder = optimistix.Newton(rtol=1e-12, atol=1e-12)
    depth = models.Depth(10.0, event=diffrax.Event(reached, finder))
    theta = np.array([0.7, -0.4])
    model = models.NeuralODE(
        Drift(jnp.asarray(theta)), readout=lambda z: z[1:], depth=depth
    )
    x = np.array([[0.2, 0.5], [-0.6, 0.1]])
    left = 1 - x[:, 0]
    jac = np.stack([-theta[1] * left / theta[0] ** 2, left / theta[0]], axis=1)
    np.testing.assert_allclose(
        quick.ntk(model, jnp.asarray(x)), jac @ jac.T, rtol=1e-10
    )


@pytest.mark.slow
def test_stiff_field_needs_few_implicit_steps():
    """v = (−λ(z₀ − θ), θ z₀): after the layer z₀ = θ, and z₁ is θ²T + (x₀ − θ)θ/λ."""

    class Stiff(eqx.Module):
        theta: jax.Array

        def __call__(self, t, z):
            return jnp.stack([-1e6 * (z[0] - self.theta), self.theta * z[0]])

    depth = models.Depth(
        2.0, solver=diffrax.Kvaerno5(), rtol=1e-9, atol=1e-11, max_steps=128
    )
    theta, x = 0.6, np.array([[1.0, 0.0], [-2.0, 0.3]])
    model = models.NeuralODE(
        Stiff(jnp.asarray(theta)), readout=lambda z: z[1:], depth=depth
    )
    slope = 4 * theta + (x[:, 0] - 2 * theta) / 1e6
    kernel = quick.ntk(model, jnp.asarray(x))
    np.testing.assert_allclose(kernel, np.outer(slope, slope), rtol=1e-7)


def test_default_tolerances_are_what_the_dtype_holds():
    depth = models.Depth()
    assert depth.tolerances(jnp.float64) == (1e-8, 1e-8)
    rtol, atol = depth.tolerances(jnp.float32)
    assert rtol == atol == 16 * np.finfo(np.float32).eps
    assert models.Depth(rtol=1e-3).tolerances(jnp.float64) == (1e-3, 1e-8)
    given = models.Depth(controller=diffrax.PIDController(rtol=1e-4, atol=1e-6))
    assert given.tolerances(jnp.float64) == (1e-4, 1e-6)
    assert euler.depth().tolerances(jnp.float64) is None
    with pytest.raises(ValueError, match=r"rtol=1e-08 is below what float32 can hold"):
        models.Depth(rtol=1e-8).tolerances(jnp.float32)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"t1": 0}, "`t1` must be positive"),
        ({"rtol": -1.0}, "`rtol` must be positive"),
        ({"dt0": 0.0}, "`dt0` must be positive"),
        ({"max_steps": 0}, "`max_steps` must be an integer of at least 1"),
        ({"max_steps": None}, "max_steps=None.*RecursiveCheckpointAdjoint, whose"),
        (
            {"max_steps": None, "adjoint": diffrax.DirectAdjoint()},
            "max_steps=None.*DirectAdjoint, whose",
        ),
        (
            {"rtol": 1e-3, "controller": diffrax.PIDController(rtol=1e-3, atol=1e-3)},
            "beside PIDController",
        ),
        ({"controller": diffrax.ConstantStepSize()}, "steps of `dt0`"),
        (
            {
                "adjoint": diffrax.BacksolveAdjoint(),
                "event": diffrax.Event(lambda t, y, args, **kw: y[0] > 1),
            },
            "cannot go back from an event",
        ),
    ],
)
def test_invalid_solve_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        models.Depth(**settings)


@pytest.mark.parametrize(
    "adjoint",
    [
        diffrax.ForwardMode(),
        diffrax.BacksolveAdjoint(),
        diffrax.RecursiveCheckpointAdjoint(checkpoints=10),
    ],
)
def test_steps_may_be_unbounded_where_the_adjoint_needs_no_bound(adjoint):
    assert models.Depth(max_steps=None, adjoint=adjoint).max_steps is None


@pytest.mark.parametrize("ts", [[], [0.0, 1.0], [0.5, 0.5], [0.5, 1.5]])
def test_depths_out_of_order_are_refused(ts):
    with pytest.raises(ValueError, match=r"positive increasing|depth ends at t1=1.0"):
        models.Depth().along(Wave(jnp.ones(())), jnp.ones(1), np.array(ts))
