"""Parameters in a basis of depth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow import models
from tests import tolerances

T = 1.7
BASES = [models.PiecewiseConstant(4, T), models.Legendre(3, T), models.Legendre(0, T)]


@pytest.mark.parametrize("basis", BASES, ids=repr)
def test_bases_are_orthonormal(basis):
    """By Gauss's rule on each of four pieces, exact for products of cubics."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    starts = np.arange(4)[:, None]
    ts = (T / 4 * (starts + (nodes + 1) / 2)).ravel()
    values = np.asarray(jax.vmap(basis)(jnp.asarray(ts)))
    gram = values.T @ (np.tile(weights, 4)[:, None] * T / 8 * values)
    bound = tolerances.roundoff(32)
    np.testing.assert_allclose(gram, np.eye(len(gram)), rtol=0, atol=bound)
    np.testing.assert_allclose(values @ basis.one, np.ones(32), rtol=0, atol=bound)


def test_parameters_are_the_sum_over_the_basis(key):
    fields = [models.MLPField(2, 3, key=k) for k in jax.random.split(key, 3)]
    basis = models.Legendre(2, T)
    t, z = jnp.array(0.4), jnp.array([0.3, -0.8])
    weights = [float(w) for w in basis(t)]
    mixed = jax.tree.map(
        lambda *leaves: (
            sum(w * leaf for w, leaf in zip(weights, leaves, strict=True))
            if isinstance(leaves[0], jax.Array)
            else leaves[0]
        ),
        *fields,
    )
    found = models.BasisField(fields, basis)(t, z)
    bound = tolerances.roundoff(30)
    np.testing.assert_allclose(found, mixed(t, z), rtol=0, atol=bound)


def test_constant_parameters_give_the_field_itself(key):
    field = models.MLPField(2, 3, key=key)
    z = jnp.array([0.3, -0.8])
    for basis in BASES:
        varying = models.BasisField.constant(field, basis)
        for t in (0.0, 0.9, T):
            np.testing.assert_allclose(
                varying(jnp.asarray(t), z),
                field.mlp(z),
                rtol=0,
                atol=tolerances.roundoff(30),
            )


def test_steps_end_where_the_basis_jumps(key):
    basis = models.PiecewiseConstant(4, 2.0)
    assert (
        basis.jumps
        == models.BasisField.constant(models.MLPField(2, 3, key=key), basis).jumps
    )
    controller = models.Depth(2.0).stepping(jnp.float64, basis.jumps)
    np.testing.assert_array_equal(controller.jump_ts, [0.5, 1.0, 1.5])


def test_fields_that_do_not_go_with_the_basis_are_refused(key):
    field, other = (models.MLPField(2, n, key=key) for n in (3, 4))
    with pytest.raises(ValueError, match="got none"):
        models.BasisField([], models.Legendre(0))
    with pytest.raises(ValueError, match=r"shape \[3\] for 2 fields"):
        models.BasisField([field, field], models.Legendre(2))
    with pytest.raises(ValueError, match="2 different ones"):
        models.BasisField([field, other], models.Legendre(1))
    with pytest.raises(ValueError, match="`pieces`"):
        models.PiecewiseConstant(0)
    with pytest.raises(ValueError, match="`degree`"):
        models.Legendre(-1)
