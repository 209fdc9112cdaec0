"""What layers remember is no parameter, wherever parameters are asked for."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import ntkflow as nf
from ntkflow import models
from tests.models.stateful import Held, trained_before
from tests.tolerances import roundoff

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

NAMES = [
    "first.weight",
    "first.bias",
    "norm.weight",
    "norm.bias",
    "last.layer.weight",
    "last.layer.bias",
]
SAYS = r"`state` is an equinox.nn.State.*Frozen\(state\)"


one_mode = pytest.mark.parametrize("held", ["batch"], indirect=True)


@pytest.fixture(params=["ema", "batch"], scope="module")
def held(request, key):
    x = jax.random.normal(key, (5, 3))
    network, state = trained_before(request.param, key, x)
    return Held(eqx.nn.inference_mode(network), state), x


def weights(model):
    """The parameters, named one by one, as one vector; and the model of another."""

    def where(m):
        n = m.network
        inner = n.last.layer
        norm = n.norm
        return [
            n.first.weight, n.first.bias, norm.weight, norm.bias,
            inner.weight, inner.bias,
        ]  # fmt: skip

    flat, unravel = ravel_pytree(where(model))
    return flat, lambda v: eqx.tree_at(where, model, unravel(v))


def jacobian(model, x):
    flat, remade = weights(model)
    return jax.jit(jax.jacrev(lambda v: jax.vmap(remade(v))(x)))(flat)


def test_state_is_not_trained_and_is_said_to_be_found(held):
    model, _ = held
    with pytest.warns(UserWarning, match=SAYS):
        params, static = models.partition(model)
    assert [n for n, _ in models.named_leaves(params)] == [
        f"network.{n}" for n in NAMES
    ]
    assert eqx.tree_equal(eqx.combine(params, static), model)


@one_mode
@pytest.mark.parametrize("select", ["all", "function", "prefix"])
def test_no_filter_trains_a_state(held, select):
    model, _ = held
    filters = {
        "all": jax.tree.map(lambda _: True, model),
        "function": lambda _: True,
        "prefix": True,
    }
    with pytest.warns(UserWarning, match=SAYS):
        params, _ = models.partition(model, filters[select])
    assert jax.tree.leaves(params.state) == []
    assert len(jax.tree.leaves(params)) == len(NAMES)


def test_a_filter_that_leaves_the_state_out_is_told_nothing(held):
    model, _ = held
    everything = jax.tree.map(lambda _: True, model)
    without = eqx.tree_at(
        lambda m: m.state, everything, jax.tree.map(lambda _: False, model.state)
    )
    assert len(jax.tree.leaves(models.partition(model, without)[0])) == len(NAMES)
    frozen = eqx.tree_at(lambda m: m.state, model, models.Frozen(model.state))
    assert len(jax.tree.leaves(models.partition(frozen)[0])) == len(NAMES)


def test_the_state_a_layer_is_made_with_is_not_trained(key):
    # A module that was not made by make_with_state holds it in its StateIndex.
    layer = eqx.nn.BatchNorm(3, "batch", mode="batch")
    with pytest.warns(UserWarning, match=r"`batch_state_index` is an equinox.nn.State"):
        params, _ = models.partition(layer)
    assert [n for n, _ in models.named_leaves(params)] == ["weight", "bias"]


@pytest.mark.parametrize("method", ["structured", "contraction", "vector_products"])
def test_kernel_of_a_model_with_state_is_that_of_its_weights(held, method):
    model, x = held
    jac = jacobian(model, x)
    expected = np.einsum("akp,blp->akbl", jac, jac)
    with pytest.warns(UserWarning, match=SAYS):
        found = nf.ntk(model, x, outputs="full", method=method)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=roundoff(100) * scale)


@one_mode
def test_operator_and_velocity_leave_the_state_out(held):
    model, x = held
    y = jnp.ones((5, 2))
    jac = jacobian(model, x).reshape(10, -1)
    with pytest.warns(UserWarning, match=SAYS):
        operator = nf.NTKOperator(model, x)
    with pytest.warns(UserWarning, match=SAYS):
        problem = nf.Problem(model, x, y)
    matrix = operator.as_matrix()
    scale = np.abs(matrix).max()
    np.testing.assert_allclose(matrix, jac @ jac.T, atol=roundoff(100) * scale)
    slope = -jac.T @ (jax.vmap(model)(x) - y).ravel()

    flat, remade = weights(model)

    def kernel(v):
        j = jax.jacfwd(lambda u: jax.vmap(remade(u))(x).ravel())(v)
        return j @ j.T

    expected = jax.jit(lambda v, w: jax.jvp(kernel, (v,), (w,))[1])(flat, slope)
    found = np.asarray(nf.ntk_velocity(problem)).reshape(10, 10)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=roundoff(1000) * scale)


@one_mode
def test_training_leaves_the_state_as_it_was(held):
    model, x = held
    with pytest.warns(UserWarning, match=SAYS):
        problem = nf.Problem(model, x, jnp.ones((5, 2)))
    flows = [nf.flows.Gradient()]
    run = nf.simulate(problem, ts=[0.0, 0.1], flows=flows, measures=[], progress=False)
    end = run.model_at(-1)
    assert eqx.tree_equal(end.state, model.state)
    assert not eqx.tree_equal(end.network.norm.weight, model.network.norm.weight)
