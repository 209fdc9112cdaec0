"""Kernels of Neural ODEs whose solves are repeated step by step."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkflow as nf
from ntkflow.models import find_steps, replayed

from ..compilation import QUICK
from . import quick

X = jnp.asarray([[0.03, 0.1], [-0.08, 0.2], [4.0, 3.0]])


def network(key, **settings):
    keys = jax.random.split(key, 3)
    settings = {"rtol": 1e-5, "atol": 1e-5} | settings
    settings["solver"] = diffrax.Bosh3()
    return nf.models.NeuralODE(
        nf.models.MLPField(3, 5, key=keys[0], w_std=2.0),
        encoder=nf.models.Dense(2, 3, key=keys[1]),
        readout=nf.models.Dense(3, 2, key=keys[2]),
        depth=nf.models.Depth(1.5, **settings),
    )


def evaluate(model, x):
    return jax.vmap(model)(x)


def test_structured_kernel_is_that_of_the_jacobian(key):
    """J by reverse mode through the solve itself, whatever its steps are."""
    model = network(key)
    params, static = eqx.partition(model, eqx.is_inexact_array)

    def rows(params):
        jac = jax.jacrev(lambda p: jax.vmap(eqx.combine(p, static))(X))(params)
        return [leaf.reshape(6, -1) for leaf in jax.tree.leaves(jac)]

    jac = jax.jit(rows, compiler_options=QUICK)(params)
    expected = sum(row @ row.T for row in jac).reshape(3, 2, 3, 2)
    repeated = replayed(nf.models.Scaled(model, 2.0), find_steps(evaluate, model, X))
    found = quick.ntk(repeated, X, outputs="full", method="structured")
    bound = 1e-12 * np.abs(expected).max()
    np.testing.assert_allclose(found / 4, expected, rtol=0, atol=bound)


def test_every_use_of_a_weight_is_seen(key):
    """Three stages a step, and as many steps as the slowest example of either side."""

    def positions(plan):
        return plan.leaves["field.mlp.layers[0].weight"].shape[0][1]

    model = network(key)
    steps = find_steps(evaluate, model, X).accepted
    few = nf.kernels.plan(model, X[:2], method="structured")
    across = nf.kernels.plan(model, X[:2], X[2:], method="structured")
    assert positions(few) < positions(across) == 3 * steps


@pytest.mark.slow
def test_unknown_values_leave_the_solve_as_it_is(key):
    """Under `jit` steps cannot be counted: the solve is opaque, the kernel the same."""
    model = network(key)
    found = nf.ntk(model, X[:1], X[1:])
    np.testing.assert_allclose(quick.ntk(model, X[:1], X[1:]), found, rtol=1e-11)


def test_failure_and_misuse_are_told_before_anything_is_repeated(key):
    with pytest.raises(eqx.EquinoxRuntimeError, match="example 2, of 3"):
        nf.ntk(network(key, max_steps=36), X)
    with pytest.raises(ValueError, match=r"fails on one example of shape \(3,\)"):
        nf.ntk(network(key), jnp.ones((4, 3)))
