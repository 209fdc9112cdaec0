"""Cases from public reports on JAX: mutable arrays, sparse weights, manual axes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.sparse import BCOO
from jax.sharding import PartitionSpec

import ntkflow as nf

from ..tolerances import roundoff

METHODS = ("auto", "contraction", "structured", "vector_products")
KEYS = jax.random.split(jax.random.key(0), 3)
W, V = jax.random.normal(KEYS[0], (3, 4)), jax.random.normal(KEYS[1], (2, 3))
X = jax.random.normal(KEYS[2], (5, 4))


class Network(eqx.Module):
    """Vtanh(2Wx), the sum of two terms written into a mutable array or not."""

    w: jax.Array
    v: jax.Array
    mutable: bool = eqx.field(static=True)

    def __call__(self, x):
        if not self.mutable:
            return self.v @ jnp.tanh(2.0 * (self.w @ x))
        buffer = jax.new_ref(jnp.zeros(len(self.w), x.dtype))
        for _ in range(2):
            buffer[...] += self.w @ x
        return self.v @ jnp.tanh(buffer[...])


def expected(function, *leaves):
    """The trace kernel of a function of some arrays, from `jacrev`."""

    def rows(x):
        jacobians = jax.jacrev(function, tuple(range(len(leaves))))(*leaves, x)
        return jnp.concatenate([j.reshape(len(V), -1) for j in jacobians], axis=1)

    flat = np.stack([np.asarray(rows(x)) for x in X])
    return np.einsum("akp,bkp->ab", flat, flat)


@pytest.mark.parametrize("method", METHODS)
def test_weights_that_go_through_mutable_arrays_count(method):
    kernel = expected(lambda w, v, x: Network(w, v, False)(x), W, V)
    model = Network(W, V, True)
    if method == "structured":
        with pytest.raises(ValueError, match="mutable arrays"):
            nf.ntk(model, X, method=method)
        return
    error = np.abs(nf.ntk(model, X, method=method) - kernel).max()
    assert error <= roundoff(50) * np.abs(kernel).max()


class Sparse(eqx.Module):
    w: BCOO
    v: jax.Array

    def __call__(self, x):
        return self.v @ jnp.tanh(self.w @ x)


@pytest.mark.parametrize("method", METHODS)
def test_sparse_weights_are_the_entries_they_hold(method):
    dense = jnp.where(jnp.abs(W) > 0.6, W, jnp.zeros_like(W))
    held = jnp.nonzero(dense)

    def function(entries, v, x):
        return v @ jnp.tanh(jnp.zeros_like(W).at[held].set(entries) @ x)

    kernel = expected(function, dense[held], V)
    found = nf.ntk(Sparse(BCOO.fromdense(dense), V), X, method=method)
    np.testing.assert_allclose(
        found, kernel, rtol=0, atol=roundoff(50) * np.abs(kernel).max()
    )


@pytest.mark.parametrize(
    "read",
    [
        nf.ntk,
        lambda model, x: nf.ntk(model, X, x).T,
        lambda model, x: nf.ntk(jax.tree.map(lambda w: w + 0 * x[0, 0], model), X),
        lambda model, x: nf.NTKOperator(model, x).mv(jnp.ones((len(x), 2))),
        nf.kernels.plan,
    ],
    ids=["kernel", "columns", "weights", "operator", "plan"],
)
def test_manual_axes_are_refused_by_name(read):
    mesh = jax.make_mesh((1,), ("d",), (jax.sharding.AxisType.Auto,))
    model = Network(W, V, False)

    def inside(x, *, checked):
        rows = PartitionSpec("d")
        return jax.shard_map(
            lambda own: read(model, own),
            mesh=mesh,
            in_specs=(rows,),
            out_specs=rows,
            check_vma=checked,
        )(x)

    if read is not nf.kernels.plan:
        np.testing.assert_allclose(inside(X, checked=False), read(model, X), rtol=1e-12)
    with pytest.raises(ValueError, match="check_vma=False"):
        inside(X, checked=True)
