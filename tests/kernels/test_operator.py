"""The matrix-free operator is the dense kernel, for lineax and by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import ntkflow as nf

from ..tolerances import roundoff
from .modules import CASES

pytestmark = pytest.mark.usefixtures("cheaply_compiled")


@pytest.fixture
def case(key):
    model, x = CASES["ntk_mlp"](key)
    kernel = np.asarray(nf.ntk(model, x, outputs="full", method="contraction"))
    return nf.NTKOperator(model, x), kernel, jax.random.normal(key, (3, 3))


def test_operator_is_the_dense_kernel(case):
    operator, kernel, v = case
    expected = np.einsum("akbl,bl->ak", kernel, v)
    scale = np.linalg.norm(kernel)
    for found in (
        operator.mv(v),
        eqx.filter_jit(operator.mv)(v),
        lx.linearise(operator).mv(v),
        lx.materialise(operator).mv(v),
        operator.T.mv(v),
        lx.conj(operator).mv(v),
    ):
        assert found.shape == v.shape
        np.testing.assert_allclose(found, expected, atol=roundoff(100) * scale)
    matrix = kernel.reshape(9, 9)
    np.testing.assert_allclose(operator.as_matrix(), matrix, atol=roundoff(100) * scale)
    np.testing.assert_allclose(
        lx.diagonal(operator), np.diag(matrix), atol=roundoff(100) * scale
    )
    for band, offset in zip(lx.tridiagonal(operator), (0, -1, 1), strict=True):
        np.testing.assert_allclose(
            band, np.diag(matrix, offset), atol=roundoff(100) * scale
        )


def test_batches_do_not_change_the_operator(key):
    model, x = CASES["ntk_mlp"](key)
    x = jax.random.normal(key, (13, x.shape[1]))
    whole, v = nf.NTKOperator(model, x), jax.random.normal(key, (13, 3))
    expected = whole.mv(v)
    batches = set()
    for bound in (1, 5_000, 10_000, 20_000):
        operator = nf.NTKOperator(model, x, max_bytes=bound)
        batches.add(operator.batch)
        for found in (operator.mv(v), lx.linearise(operator).mv(v)):
            error = np.linalg.norm(found - expected)
            assert error <= roundoff(100) * np.linalg.norm(expected)
    assert min(batches) == 1
    assert len(batches) >= 3


def test_a_bound_on_memory_makes_batches(key):
    model = nf.models.MLP(16, 2, 256, 3, key=key)
    x = jax.random.normal(key, (2000, 16))

    def memory(operator):
        arrays, static = eqx.partition(operator, eqx.is_array)
        product = jax.jit(lambda arrays, v: eqx.combine(arrays, static).mv(v))
        compiled = product.lower(arrays, jnp.ones((2000, 2))).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    free, bound = nf.NTKOperator(model, x), nf.NTKOperator(model, x, max_bytes=10**6)
    assert bound.batch < free.batch == 2000
    params = sum(leaf.nbytes for leaf in jax.tree.leaves(bound.params))
    assert memory(bound) <= 10**6 + 2 * params
    assert memory(free) > 10**7


def test_operator_tells_lineax_what_it_is(case):
    operator = case[0]
    assert operator.in_structure() == operator.out_structure()
    assert operator.in_size() == 9
    assert lx.is_symmetric(operator)
    assert lx.is_positive_semidefinite(operator)
    for no in (
        lx.is_diagonal,
        lx.is_tridiagonal,
        lx.has_unit_diagonal,
        lx.is_lower_triangular,
        lx.is_upper_triangular,
        lx.is_negative_semidefinite,
    ):
        assert not no(operator)


def test_conjugate_gradients_solve_with_the_operator(case):
    operator, kernel, v = case
    rtol = 1e-10
    ridge = 0.1 * lx.IdentityLinearOperator(operator.in_structure())
    shifted = lx.TaggedLinearOperator(
        lx.linearise(operator) + ridge, lx.positive_semidefinite_tag
    )
    solution = lx.linear_solve(shifted, v, lx.CG(rtol=rtol, atol=rtol)).value
    matrix = kernel.reshape(9, 9) + 0.1 * np.eye(9)
    expected = np.linalg.solve(matrix, np.ravel(v))
    bound = 10 * rtol * np.linalg.cond(matrix) * np.linalg.norm(expected)
    assert np.linalg.norm(np.ravel(solution) - expected) <= bound


def test_operator_takes_apply_and_trainable(key):
    model = eqx.nn.MLP(3, 2, 5, 1, key=key)
    x = jax.random.normal(key, (4, 3))
    mask = jax.tree.map(lambda _: False, model)
    mask = eqx.tree_at(lambda m: m.layers[0].weight, mask, replace=True)
    options = {"apply": lambda m, xi: jnp.sin(m(xi))[:1], "trainable": mask}
    kernel = np.asarray(nf.ntk(model, x, outputs="full", **options))
    operator = nf.NTKOperator(model, x, **options)
    v = jax.random.normal(key, (4, 1))
    expected = np.einsum("akbl,bl->ak", kernel, v)
    np.testing.assert_allclose(operator.mv(v), expected, atol=roundoff(100))


def test_operator_refuses_what_the_kernel_refuses(key):
    model = eqx.nn.MLP(3, "scalar", 5, 1, key=key)
    with pytest.raises(ValueError, match=r"shape \[K\], got \[\]"):
        nf.NTKOperator(model, jnp.ones((4, 3)))
