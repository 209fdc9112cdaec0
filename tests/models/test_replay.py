"""A solve repeated step by step: the same values, and the same derivatives."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
import pytest

import ntkflow as nf
from ntkflow import models
from ntkflow.models import Steps, find_steps, is_replayable, replayed

from ..compilation import QUICK
from . import closed_forms

T = 1.5
X = jnp.asarray([[0.3], [-0.8], [6.0]])
"""The last example needs more steps than the others."""


class Bent(eqx.Module):
    """A field of two uses of one weight, one of them outside of the nonlinearity."""

    w: jax.Array

    def __call__(self, t, z):
        return jnp.tanh(self.w @ z) * jnp.cos(3 * t) + 0.3 * (self.w @ z)


def bent(depth, key):
    return models.NeuralODE(
        Bent(jax.random.normal(key, (3, 3))),
        encoder=models.Dense(1, 3, key=key),
        depth=depth,
    )


def evaluate(model, x):
    return jax.vmap(model)(x)


def both(model, x):
    """Outputs and the kernel's Jacobian, by reverse mode; both of the parameters."""
    params, static = eqx.partition(model, eqx.is_inexact_array)

    def outputs(params):
        return evaluate(eqx.combine(params, static), x)

    def jacobian(params):
        parts = jax.tree.leaves(jax.jacrev(outputs)(params))
        return jnp.concatenate([p.reshape(*p.shape[:2], -1) for p in parts], axis=-1)

    return jax.jit(lambda p: (outputs(p), jacobian(p)), compiler_options=QUICK)(params)


FIXED = diffrax.ConstantStepSize()
DEPTHS = {
    "Tsit5": models.Depth(T, rtol=1e-5, atol=1e-5),
    "Bosh3": models.Depth(T, solver=diffrax.Bosh3(), rtol=1e-3, atol=1e-3),
    "Euler": models.Depth(T, solver=diffrax.Euler(), controller=FIXED, dt0=0.25),
}


@pytest.mark.parametrize(
    "name", [pytest.param("Tsit5", marks=pytest.mark.slow), "Bosh3", "Euler"]
)
def test_replay_is_the_solve(key, name):
    """To rounding: the steps are the same, and held fixed in both derivatives."""
    model = bent(DEPTHS[name], key)
    steps = find_steps(evaluate, model, X)
    assert 6 <= steps.accepted <= steps.attempted <= 40
    values, jacobian = both(model, X)
    found, found_jacobian = both(replayed(model, steps), X)
    np.testing.assert_allclose(found, values, rtol=1e-13)
    size = np.abs(jacobian).max()
    np.testing.assert_allclose(found_jacobian, jacobian, rtol=0, atol=1e-12 * size)


def test_pieces_of_depth_are_stepped_over_alike(key):
    """A stage that lay behind a jump and not before it would see the next piece."""
    fields = [models.MLPField(2, 3, key=k) for k in jax.random.split(key, 3)]
    field = models.BasisField(fields, models.PiecewiseConstant(3, T))
    depth = models.Depth(T, solver=diffrax.Bosh3(), rtol=1e-4, atol=1e-4)
    model = models.NeuralODE(field, depth=depth)
    x = jnp.asarray([[0.3, -0.8], [2.0, 0.1]])
    values, jacobian = both(model, x)
    found, found_jacobian = both(replayed(model, find_steps(evaluate, model, x)), x)
    np.testing.assert_allclose(found, values, rtol=1e-13)
    size = np.abs(jacobian).max()
    np.testing.assert_allclose(found_jacobian, jacobian, rtol=0, atol=1e-12 * size)


def test_states_along_depth_are_those_of_the_solve(key):
    depth, z = DEPTHS["Tsit5"], jnp.asarray([0.4, -0.2, 1.0])
    field, ts = Bent(jax.random.normal(key, (3, 3))), np.array([0.2, 0.9, T])
    repeated = replayed(depth, Steps(30, 40))
    np.testing.assert_allclose(
        repeated.along(field, z, ts), depth.along(field, z, ts), rtol=1e-13
    )
    even = DEPTHS["Euler"]
    ts = np.array([0.5, 1.0])
    np.testing.assert_allclose(
        replayed(even, Steps(30, 40)).along(field, z, ts),
        even.along(field, z, ts),
        rtol=1e-13,
    )


def test_replayed_kernel_is_the_closed_form():
    depth = models.Depth(
        closed_forms.T, solver=diffrax.Dopri8(), rtol=1e-12, atol=1e-12
    )
    start = replayed(
        models.NeuralODE(
            closed_forms.field("linear"), readout=closed_forms.Readout(), depth=depth
        ),
        Steps(40, 60),
    )

    def kernel(params, number, x):
        model = eqx.tree_at(
            lambda m: (m.field.params, m.field.number), start, (params, number)
        )
        return nf.ntk(model, x)

    kernel = jax.jit(kernel, compiler_options=QUICK)
    for name in ("affine", "tanh", "linear"):
        field, x = closed_forms.field(name), closed_forms.examples(name)
        found = kernel(field.params, field.number, jnp.asarray(x))
        expected = closed_forms.kernel(name)
        error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        assert error <= 1e-10, name


def test_solves_that_cannot_be_repeated_stay():
    finder = optimistix.Newton(rtol=1e-8, atol=1e-8)
    event = diffrax.Event(lambda t, y, args, **_: y[0] - 2, finder)
    clipped = diffrax.ClipStepSizeController(
        diffrax.PIDController(rtol=1e-5, atol=1e-5), jump_ts=jnp.asarray([0.5])
    )
    for depth in (
        models.Depth(solver=diffrax.Kvaerno3()),
        models.Depth(event=event),
        models.Depth(adjoint=diffrax.BacksolveAdjoint()),
        models.Depth(adjoint=diffrax.ForwardMode()),
        models.Depth(controller=clipped),
    ):
        assert not is_replayable(depth)
        assert replayed(depth, Steps(4, 4)) is depth
    assert is_replayable({"inside": [models.Depth()]})
    assert not is_replayable(models.Dense(2, 3, key=jax.random.key(0)))


def test_more_steps_than_were_counted_are_refused(key):
    model = replayed(bent(DEPTHS["Tsit5"], key), Steps(3, 3))
    with pytest.raises(eqx.EquinoxRuntimeError, match="max_steps=3"):
        eqx.filter_jit(evaluate)(model, X)


def test_accepted_steps_beyond_the_count_are_refused(key):
    model = replayed(bent(DEPTHS["Tsit5"], key), Steps(3, 60))
    with pytest.raises(eqx.EquinoxRuntimeError, match="max_steps=3"):
        eqx.filter_jit(evaluate)(model, X)
