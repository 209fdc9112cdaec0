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


@pytest.mark.parametrize("form", [flows.depth_kernel, flows.lyapunov_kernel])
def test_two_forms_of_l2_agree(form):
    model = affine.network(**TIGHT)
    options = {"nodes": 12} if form is flows.depth_kernel else {}
    expected = affine.l2_kernel(model)
    np.testing.assert_allclose(compute(form, model, **options), expected, rtol=1e-9)


@pytest.mark.slow
def test_kernel_in_a_basis_is_the_double_integral():
    model, basis = affine.network(**TIGHT), models.PiecewiseConstant(3, affine.T)
    found = compute(flows.depth_kernel, model, basis=basis, nodes=5)
    expected = affine.basis_kernel(model, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


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
