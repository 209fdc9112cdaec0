"""Kernels of parameters that are functions of depth, against closed forms."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow import flows, models

from ..compilation import QUICK
from . import affine

TIGHT = {"rtol": 1e-11, "atol": 1e-11}


def compute(function, model, **options):
    """On [N, N], compiled cheaply."""
    x = jnp.asarray(affine.X)
    call = jax.jit(lambda x: function(model, x, **options), compiler_options=QUICK)
    return call(x)[:, 0, :, 0]


def test_lyapunov_form_is_the_closed_form():
    model = affine.network(**TIGHT)
    found = compute(flows.lyapunov_kernel, model)
    np.testing.assert_allclose(found, affine.l2_kernel(model), rtol=1e-9)


@pytest.mark.slow
def test_two_forms_of_l2_agree(key):
    """Two states and two outputs; the readout is not trained, the field not symmetric.

    Rows and columns are different examples, so that a transpose would show.
    """
    field = models.MLPField(2, 3, concat_time=True, w_std=1.5, key=key)
    readout = models.Frozen(models.Dense(2, 2, key=key))
    model = models.NeuralODE(field, None, readout, depth=models.Depth(1.0, **TIGHT))
    x = jnp.asarray([[0.4, -0.9], [-0.3, 0.5], [1.1, 0.2]])

    def both(x1, x2):
        integral = flows.depth_kernel(model, x1, x2, nodes=16)
        return integral, flows.lyapunov_kernel(model, x1, x2)

    integral, lyapunov = jax.jit(both, compiler_options=QUICK)(x[:1], x[1:])
    assert integral.shape == (1, 2, 2, 2)
    scale = np.linalg.norm(lyapunov)
    np.testing.assert_allclose(integral, lyapunov, rtol=0, atol=1e-9 * scale)


@pytest.mark.slow
def test_kernel_in_a_basis_is_the_double_integral():
    model, basis = affine.network(**TIGHT), models.PiecewiseConstant(3, affine.T)
    found = compute(flows.depth_kernel, model, basis=basis, nodes=5)
    expected = affine.basis_kernel(model, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.slow
def test_pieces_approach_l2_at_second_order():
    """θ in 16 pieces; fewer pieces are its sums, over the roots that keep them unit."""
    pieces = 16
    plain = affine.network(**TIGHT)
    basis = models.PiecewiseConstant(pieces, affine.T)
    field = models.BasisField.constant(plain.field, basis)
    model = affine.network(field, **TIGHT)

    def outputs(coefficients):
        changed = eqx.tree_at(lambda m: m.field.coefficients.q, model, coefficients)
        return jax.vmap(changed)(jnp.asarray(affine.X))[:, 0]

    start = field.coefficients.q
    jac = jax.jit(jax.jacrev(outputs), compiler_options=QUICK)(start)
    outside, errors = affine.outside(plain), []
    for count in (16, 8, 4, 2):
        kernel = np.einsum("ibp,jbp->ij", jac, jac) + outside
        expected = affine.basis_kernel(plain, count)
        np.testing.assert_allclose(kernel, expected, rtol=1e-8)
        errors.append(np.linalg.norm(kernel - affine.l2_kernel(plain)))
        jac = (jac[:, ::2] + jac[:, 1::2]) / np.sqrt(2)
    slope = np.polyfit(np.log([1, 2, 4, 8]), np.log(errors), 1)[0]
    assert abs(slope - 2) <= 0.05


def test_kernel_that_cannot_be_is_refused(key):
    x = jnp.asarray(affine.X)
    for form in (flows.depth_kernel, flows.lyapunov_kernel):
        with pytest.raises(ValueError, match=r"that of a NeuralODE.*got MLP"):
            form(models.MLP(1, 1, 2, 1, key=key), x)
        varying = models.BasisField([affine.network().field], models.Legendre(0))
        with pytest.raises(ValueError, match="same at every depth"):
            form(affine.network(varying), x)
    with pytest.raises(ValueError, match="`nodes` must be a positive integer"):
        flows.depth_kernel(affine.network(), x, nodes=0)
