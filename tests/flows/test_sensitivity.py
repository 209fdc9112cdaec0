"""The sensitivity equations against a closed form."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow import flows, models
from ntkflow.flows._sensitivity import _largest

from ..compilation import QUICK
from . import affine


class Linear(eqx.Module):
    matrix: jax.Array

    def __call__(self, t, z):
        return self.matrix @ z


@pytest.mark.parametrize("mode", ["forward", "adjoint"])
def test_both_give_the_closed_form(mode):
    """f = R e^{TA} E x, all trained, in chunks that the parameters do not fill."""
    A = jnp.array([[0.3, -1.1], [0.9, -0.2]])
    layers = [
        models.Dense(n, m, "standard", use_bias=False, key=jax.random.key(n))
        for n, m in ((1, 2), (2, 3))
    ]
    model = models.NeuralODE(Linear(A), *layers, depth=models.Depth(1.3))
    solve = flows.Sensitivity(mode, rtol=1e-12, atol=1e-12, chunk=5)
    x = jnp.array([0.7])
    found = jax.jit(lambda x: solve.jacobian(model, x), compiler_options=QUICK)(x)

    def closed(params):
        E, R = params.encoder.weight, params.readout.weight
        return R @ jax.scipy.linalg.expm(1.3 * params.field.matrix) @ E @ x

    params, _ = models.partition(model)
    expected = jax.jit(jax.jacrev(closed), compiler_options=QUICK)(params)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.linalg.norm(a - b) <= 1e-10 * np.linalg.norm(b)


def test_error_is_the_largest_over_the_state_and_its_rows():
    z, rows = jnp.array([1.0, -1.0]), jnp.array([[3.0, 4.0], [0.0, 0.0]])
    assert _largest((z, rows)) == pytest.approx(np.sqrt(12.5))
    assert _largest((z, 0 * rows)) == 1


@pytest.mark.filterwarnings("ignore:An event without a root finder")
def test_sensitivity_that_cannot_be_is_refused(key):
    with pytest.raises(ValueError, match=r"mode 'backward'.*Valid names: 'adjoint'"):
        flows.Sensitivity("backward")
    with pytest.raises(ValueError, match="`chunk` must be a positive integer"):
        flows.Sensitivity(chunk=0)
    x = jnp.ones(1)
    with pytest.raises(ValueError, match=r"takes a NeuralODE.*got MLP\. "):
        flows.Sensitivity().jacobian(models.MLP(1, 1, 2, 1, key=key), x)
    ends = affine.network(event=diffrax.Event(lambda t, y, args, **kw: y[0] > 1))
    with pytest.raises(ValueError, match="NeuralODE with an event"):
        flows.Sensitivity().jacobian(ends, x)
    fixed = affine.network(controller=diffrax.ConstantStepSize(), dt0=0.1)
    with pytest.raises(ValueError, match="no tolerances"):
        flows.Sensitivity().jacobian(fixed, x)
