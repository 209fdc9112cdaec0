"""Lookups that miss their table, and what is dropped there, against `jacrev`."""

import functools

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from jax.lax import GatherDimensionNumbers, GatherScatterMode

import ntkflow as nf
from ntkflow.kernels import _example, _factors

from ..compilation import FUSED, QUICK
from ..tolerances import roundoff
from . import quick
from .modules import Formula

PRODUCTS = ("operator", "linearized", "vector_products")
WAYS = (*PRODUCTS, "matrix", "contraction", "factored", "nested", "assembled")
ROWS, WIDTH = 5, 3


def gathered(w, i, mode):
    numbers = GatherDimensionNumbers((1,), (0,), (0,))
    return jax.lax.gather(w, i[:, None], numbers, (1, WIDTH), mode=mode, fill_value=0.5)


def each(function):
    """One lookup an iteration, inside a scan."""
    return lambda w, i: jax.lax.scan(lambda c, j: (c, function(w, j)), 0, i)[1]


def taken(mode, fill=None):
    return lambda w, i: jnp.take(w, i, axis=0, mode=mode, fill_value=fill)


def normed(h):
    return jnp.linalg.norm(h, axis=1, keepdims=True)


def guarded(h):
    """Log of the norm of what is there, nothing for padding."""
    size = normed(h)
    return h[:, :1] * jnp.where(size > 0, jnp.log(size), jnp.zeros_like(size))


READS = {
    "promised": lambda w, i: gathered(w, i, GatherScatterMode.PROMISE_IN_BOUNDS),
    "promised_in_scan": each(
        lambda w, j: w.at[j].get(mode="promise_in_bounds", wrap_negative_indices=False)
    ),
    "promised_in_cond": lambda w, i: jax.lax.cond(
        i[0] >= 0,
        lambda: gathered(w, i, GatherScatterMode.PROMISE_IN_BOUNDS),
        lambda: w[:3],
    ),
    "clipped": lambda w, i: gathered(w, i, GatherScatterMode.CLIP),
    "filled": lambda w, i: gathered(w, i, GatherScatterMode.FILL_OR_DROP),
    "sum_with_bias": lambda w, i: taken("fill", 0)(w, i) + w.sum(0, keepdims=True),
    "guarded": lambda w, i: guarded(taken("fill", 0)(w, i)),
    "guarded_in_scan": each(lambda w, j: guarded(taken("fill", 0)(w, j)[None])[0]),
    "sliced": each(lambda w, j: jax.lax.dynamic_index_in_dim(w, j, keepdims=False)),
    "no_number": taken("fill"),
    "norm_of_padding": lambda w, i: normed(taken("fill", 0)(w, i)),
    "norm_of_padding_in_scan": each(
        lambda w, j: normed(taken("fill", 0)(w, j)[None])[0]
    ),
}
DROPPED = ("no_number", "norm_of_padding", "norm_of_padding_in_scan")
FINITE = tuple(name for name in READS if name not in DROPPED)


def build(names, n_rows):
    """Outputs [2] of tables, each read in its own way."""
    reads = {name: READS[name] for name in names}

    def function(p, i):
        return sum(
            jnp.stack([jnp.sum(h[0] + h[1]), jnp.sum(h[1] - 2.0 * h[2])])
            for h in (jnp.tanh(read(p[name], i)) for name, read in reads.items())
        )

    keys = jax.random.split(jax.random.key(3), len(reads))
    tables = {
        name: jax.random.normal(k, (n_rows, WIDTH))
        for name, k in zip(reads, keys, strict=True)
    }
    return Formula(tables, function)


def examples(n_rows, dtype):
    """Indices inside the table, below it and above it, as far as the dtype goes."""
    x = np.array([[1, 2, 2], [0, n_rows - 1, 1], [1, n_rows, 3], [-2, n_rows + 1, 1]])
    x = np.concatenate([x, [[1, -n_rows - 3, 2**31 + 1]]])
    info = np.iinfo(dtype)
    return jnp.asarray(np.clip(x, info.min, info.max).astype(dtype))


@functools.cache
def reverse_kernels(names, n_rows, dtype):
    """J Jᵀ leaf by leaf from `jacrev`."""
    model, x = build(names, n_rows), examples(n_rows, dtype)

    def rows(p, xi):
        return jax.jacrev(lambda q: model.function(q, xi))(p)

    # Compiled as users do: cheaply compiled, XLA itself takes int8 indices modulo 256.
    pulled = jax.jit(jax.vmap(rows, (None, 0)), compiler_options=FUSED)
    jacobians = pulled(model.weights, x)
    kernels = {}
    for name, jac in jacobians.items():
        flat = np.asarray(jac).reshape(*jac.shape[:2], -1)
        kernels[f"weights['{name}']"] = np.einsum("akp,blp->akbl", flat, flat)
    return kernels


def computed(model, x, way, monkeypatch):
    """The kernel leaf by leaf, or from products the kernel itself."""
    if way in {"operator", "linearized"}:
        operator = nf.NTKOperator(model, x)
        units = jnp.eye(operator.in_size()).reshape(-1, len(x), 2)

        def products(e):
            kept = lx.linearise(operator) if way == "linearized" else operator
            return jax.lax.map(kept.mv, e)

        columns = jax.jit(products, compiler_options=QUICK)(units)
        return {"": np.asarray(columns).reshape(len(x), 2, len(x), 2)}
    if way == "matrix":
        operator = nf.NTKOperator(model, x)
        matrix = jax.jit(lambda: operator.as_matrix(), compiler_options=QUICK)()
        return {"": np.asarray(matrix).reshape(len(x), 2, len(x), 2)}
    if way == "vector_products":
        return {"": quick.ntk(model, x, outputs="full", method=way)}
    if way == "contraction":
        return quick.ntk(model, x, outputs="full", method=way, by_leaf=True)
    for form in ("factored", "nested", "jacobian"):
        if form != {"assembled": "jacobian"}.get(way, way):
            monkeypatch.setattr(_factors, f"{form}_flops", lambda *_: 1e30)
    return quick.ntk(model, x, outputs="full", method="structured", by_leaf=True)


def check(names, n_rows, dtype, way, monkeypatch):
    model, x = build(names, n_rows), examples(n_rows, dtype)
    expected = reverse_kernels(names, n_rows, dtype)
    assert all(np.isfinite(kernel).all() for kernel in expected.values())
    found = computed(model, x, way, monkeypatch)
    if way in {*PRODUCTS, "matrix"}:
        expected = {"": sum(expected.values())}
    scale = max(np.linalg.norm(kernel) for kernel in expected.values())
    for name, kernel in expected.items():
        error = np.linalg.norm(np.asarray(found[name]) - kernel)
        assert error <= roundoff(50) * scale, (name, error)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dropped", [False, True])
def test_every_method_is_the_reverse_one(way, dropped, monkeypatch):
    check(DROPPED if dropped else FINITE, ROWS, np.int32, way, monkeypatch)


@pytest.mark.parametrize(
    ("dtype", "n_rows"),
    [(np.int8, 300), (np.uint32, ROWS)],
)
def test_indices_of_any_dtype_miss_alike(dtype, n_rows, monkeypatch):
    """As many rows as the dtype does not hold, or indices that int32 does not."""
    names = ("promised", "clipped", "filled", "sliced")
    check(names, n_rows, dtype, "factored", monkeypatch)


def test_the_operator_sees_lookups_as_they_were_written():
    """What it takes derivatives of is written anew, and only that."""
    model, x = build(("promised",), ROWS), examples(ROWS, np.int32)
    operator = nf.NTKOperator(model, x)
    again, traced = _example.prepare(operator.example, operator.params, operator.x)
    written = {equation.primitive.name for equation in traced.jaxpr.eqns}
    assert again.agreeing
    assert "gather" in written
    assert traced.modes == operator.modes
    assert operator.modes.drops
