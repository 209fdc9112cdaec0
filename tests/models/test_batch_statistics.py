"""BatchNorm in batch mode is a function of one example and a fixed batch."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import ntkflow as nf
from ntkflow.models import BatchStatistics, partition
from tests.models.stateful import AXIS, trained_before, whole_batch
from tests.tolerances import roundoff, solver

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

N, K, RTOL = 4, 2, 1e-6


@pytest.fixture(params=["ema", "batch"], scope="module")
def case(request, key):
    """The model, and the network in batch mode as a function of its weights."""
    x = jax.random.normal(key, (N, 3))
    network, state = trained_before(request.param, key, x)
    # As never trained before: the running mean of "ema" then is that of the batch.
    _, fresh = eqx.nn.make_with_state(type(network))(request.param, key)
    fresh = eqx.tree_at(
        lambda s: s.get(network.last.uv_index), fresh, state.get(network.last.uv_index)
    )
    params, rest = eqx.partition(network, eqx.is_inexact_array)
    flat, unravel = ravel_pytree(params)

    def outputs(weights):
        copy = jax.tree.map(lambda leaf: leaf, fresh)
        return whole_batch(eqx.combine(unravel(weights), rest), copy, x)[0]

    return BatchStatistics(network, state, x), outputs, flat


one_mode = pytest.mark.parametrize("case", ["batch"], indirect=True)


def test_outputs_are_those_of_the_whole_batch(case):
    model, outputs, flat = case
    found = jax.jit(jax.vmap(model))(model.x.tree)
    np.testing.assert_allclose(found, outputs(flat), atol=roundoff(50))


def test_only_weights_are_trained(case):
    model, _, flat = case
    params, _ = partition(model)
    np.testing.assert_array_equal(ravel_pytree(params)[0], flat)


@one_mode
@pytest.mark.parametrize("method", ["structured", "contraction", "vector_products"])
def test_kernel_is_that_of_the_coupled_outputs(case, method):
    model, outputs, flat = case
    jac = np.asarray(jax.jit(jax.jacrev(outputs))(flat)).reshape(N * K, -1)
    found = nf.ntk(model, model.x.tree, outputs="full", method=method)
    scale = np.abs(jac @ jac.T).max()
    np.testing.assert_allclose(
        found.reshape(N * K, N * K), jac @ jac.T, atol=roundoff(500) * scale
    )


@one_mode
def test_operator_is_that_of_the_coupled_outputs(case, key):
    model, outputs, flat = case
    v = jax.random.normal(key, (N, K))
    jac = np.asarray(jax.jit(jax.jacrev(outputs))(flat)).reshape(N * K, -1)
    expected = jac @ (jac.T @ np.ravel(v))
    found = nf.NTKOperator(model, model.x.tree).mv(v).ravel()
    scale = np.abs(jac @ jac.T).max() * np.linalg.norm(v)
    np.testing.assert_allclose(found, expected, atol=roundoff(500) * scale)


@one_mode
def test_gradient_and_residual_flow_are_those_of_the_whole_batch(case):
    model, outputs, flat = case
    x, y = model.x.tree, jnp.ones((N, K))
    problem = nf.Problem(model, x, y, x_test=0.5 * x[:2], y_test=y[:2])
    run = nf.simulate(
        problem,
        [0.0, 0.3],
        flows=[nf.flows.Gradient(), nf.flows.Residual("evolving")],
        measures=[],
        solver=diffrax.Tsit5(),
        rtol=RTOL,
        progress=False,
    )
    slope = jax.grad(lambda w: 0.5 * jnp.sum((outputs(w) - y) ** 2))
    step = 0.3 / 100

    @jax.jit
    def integrated(w):  # classical Runge–Kutta, its own error below 1e-9 here
        def advance(w, _):
            k1 = -slope(w)
            k2 = -slope(w + step / 2 * k1)
            k3 = -slope(w + step / 2 * k2)
            k4 = -slope(w + step * k3)
            return w + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4), None

        return outputs(jax.lax.scan(advance, w, None, 100)[0])

    expected = np.asarray(integrated(flat))
    scale = np.linalg.norm(np.asarray(outputs(flat)) - y)
    for flow in ("gradient", "residual_evolving"):
        found = run.dataset.f_train.sel(flow=flow).isel(time=-1)
        np.testing.assert_allclose(found, expected, atol=solver(RTOL) * scale)


def test_statistics_are_computed_once_for_all_examples(case):
    model, _, _ = case

    def largest(n):
        jaxpr = jax.make_jaxpr(jax.vmap(model))(jnp.ones((n, 3)))
        shapes = [v.aval.shape for e in jaxpr.eqns for v in e.outvars]
        return max(np.prod(shape, dtype=int) for shape in shapes)

    # No array has an axis for the batch and one for the examples.
    assert largest(50) <= 50 * 4


def test_images_are_normalized_over_positions_as_well(key):
    class Image(eqx.Module):
        conv: eqx.nn.Conv2d
        norm: eqx.nn.BatchNorm

        def __init__(self, key):
            self.conv = eqx.nn.Conv2d(1, 3, 2, key=key)
            self.norm = eqx.nn.BatchNorm(
                3, AXIS, mode="batch", channelwise_affine=False
            )

        def __call__(self, x, state):
            h, state = self.norm(self.conv(x), state)
            return jnp.mean(jnp.tanh(h), (1, 2)), state

    network, state = eqx.nn.make_with_state(Image)(key)
    x = jax.random.normal(key, (3, 1, 4, 4))
    model = BatchStatistics(network, state, x)
    found = jax.jit(jax.vmap(model))(x)
    np.testing.assert_allclose(
        found, whole_batch(network, state, x)[0], atol=roundoff(50)
    )


class Twice(eqx.Module):
    norm: eqx.nn.BatchNorm

    def __init__(self):
        self.norm = eqx.nn.BatchNorm(3, AXIS, mode="batch")

    def __call__(self, x, state):
        h, state = self.norm(x, state)
        return self.norm(jnp.tanh(h), state)


def test_what_has_no_one_set_of_statistics_is_refused(case, key):
    model, _, _ = case
    x = model.x.tree
    network, state = eqx.nn.make_with_state(Twice)()
    with pytest.raises(ValueError, match="called more than once"):
        BatchStatistics(network, state, x)(x[0])
    with pytest.raises(ValueError, match="this one has none"):
        BatchStatistics(eqx.nn.Linear(3, 2, key=key), state, x)
    with pytest.raises(ValueError, match=r"at least one example.*\[0, 3\]"):
        BatchStatistics(network, state, x[:0])
    with pytest.raises(ValueError, match=r"got a .*Array.* for the state"):
        BatchStatistics(network, x, x)
