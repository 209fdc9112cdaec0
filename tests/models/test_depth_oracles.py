"""Kernels and outputs of differential equations against their closed forms."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkflow as nf
from ntkflow import models

from ..compilation import QUICK
from ..kernels import quick
from . import closed_forms

TIGHT = 1e-12


def distance(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


def network(name, dtype=jnp.float64, **settings):
    return models.NeuralODE(
        closed_forms.field(name, dtype),
        readout=closed_forms.Readout(),
        depth=models.Depth(closed_forms.T, **settings),
    )


def test_kernel_is_the_closed_form():
    def both(params, number, x):
        model = eqx.tree_at(
            lambda m: (m.field.params, m.field.number), start, (params, number)
        )
        return nf.ntk(model, x), jax.vmap(model)(x)

    # An order so high that no step is replayed from a checkpoint: compiled cheaply, a
    # replayed step may be rounded otherwise, accepted where it was rejected, and the
    # derivative wrong by up to 1e-8.
    start = network("linear", solver=diffrax.Dopri8(), rtol=TIGHT, atol=TIGHT)
    both = jax.jit(both, compiler_options=QUICK)
    for name in closed_forms.PARAMS:
        field, x = closed_forms.field(name), closed_forms.examples(name)
        kernel, f = both(field.params, field.number, jnp.asarray(x))
        expected = closed_forms.kernel(name)
        flow = np.array([[closed_forms.solution(name, xi)] for xi in x])
        assert distance(kernel, expected) <= 1e-10, name
        assert distance(f, flow) <= 1e-10, name


class LogDensity(eqx.Module):
    theta: jax.Array

    def __call__(self, t, z):
        return self.theta * z


@pytest.mark.slow
def test_density_has_the_closed_form():
    """v = θz, data to base: log p = log N(xe^{θT}) + dθT; its slope T(d − |z_T|²)."""
    theta, t1 = 0.4, closed_forms.T
    x = jnp.asarray(closed_forms.PLANE)
    depth = models.Depth(t1, rtol=TIGHT, atol=TIGHT)
    model = models.CNF(LogDensity(jnp.asarray(theta)), 2, depth=depth)
    end = np.sum(np.asarray(x) ** 2, axis=1) * np.exp(2 * theta * t1)
    slope = t1 * (2 - end)

    def both(theta):
        flow = eqx.tree_at(lambda m: m.field.theta, model, theta)
        return nf.ntk(flow, x), jax.vmap(flow)(x)

    kernel, f = jax.jit(both, compiler_options=QUICK)(model.field.theta)
    expected = -0.5 * end - np.log(2 * np.pi) + 2 * theta * t1
    assert distance(f[:, 0], expected) <= 1e-10
    assert distance(kernel, np.outer(slope, slope)) <= 1e-10


@pytest.mark.slow
def test_float32_kernel_keeps_to_its_default_tolerance():
    """Θ = T²xx'e^{2θT}; a kernel errs up to 170 times the tolerance of a step."""
    theta, t1 = 0.75, 1.5
    x = np.array([[0.5], [2.0], [-1.0]], np.float32)
    field = LogDensity(jnp.asarray(theta, jnp.float32))
    model = models.NeuralODE(field, depth=models.Depth(t1))
    kernel = quick.ntk(model, jnp.asarray(x))
    assert kernel.dtype == jnp.float32
    expected = t1**2 * np.exp(2 * theta * t1) * np.float64(x) @ np.float64(x).T
    assert (
        distance(np.float64(kernel), expected)
        <= 170 * model.depth.tolerances(x.dtype)[0]
    )


@pytest.mark.slow
def test_backsolve_finds_the_parameters_of_the_field():
    """They go through diffrax's `args`; its tolerances are those of the way back."""
    theta, t1 = 0.75, 1.5
    x = np.array([[0.5], [2.0]])
    back = diffrax.BacksolveAdjoint(
        solver=diffrax.Dopri8(),
        stepsize_controller=diffrax.PIDController(rtol=TIGHT, atol=TIGHT),
    )
    depth = models.Depth(
        t1, solver=diffrax.Dopri8(), rtol=TIGHT, atol=TIGHT, adjoint=back
    )
    model = models.NeuralODE(LogDensity(jnp.asarray(theta)), depth=depth)
    expected = t1**2 * np.exp(2 * theta * t1) * x @ x.T
    assert distance(quick.ntk(model, jnp.asarray(x)), expected) <= 1e-10
