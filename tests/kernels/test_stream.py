"""Kernels on disk are the kernels, whatever happens on the way."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkflow as nf
from ntkflow.kernels import StoredKernel, _stream, stream

from ..tolerances import roundoff

LAYOUTS = ("full", "diagonal", "trace")
SMALL = 40_000


@pytest.fixture
def case(key):
    model = nf.models.MLP(3, 2, 5, 1, key=key)
    return model, jax.random.normal(key, (61, 3)), jax.random.normal(key, (13, 3))


def close(actual, expected):
    return np.linalg.norm(actual - expected) <= roundoff(50) * np.linalg.norm(expected)


@pytest.mark.parametrize("outputs", LAYOUTS)
@pytest.mark.parametrize("crossed", [False, True])
def test_streamed_kernel_is_the_kernel(outputs, crossed, case, tmp_path):
    model, x1, x2 = case
    pair = (x1, x2) if crossed else (x1,)
    stored = stream(
        model, *pair, path=tmp_path, outputs=outputs, max_bytes=SMALL, progress=False
    )
    assert len(list(tmp_path.glob("tile-*"))) > 1
    expected = np.asarray(nf.ntk(model, *pair, outputs=outputs))
    assert stored.shape == expected.shape
    assert close(stored.to_numpy(), expected)
    shape = (pair[-1].shape[0],) if outputs == "trace" else (pair[-1].shape[0], 2)
    vector = np.asarray(jax.random.normal(jax.random.key(3), shape))
    formula = {"full": "ikjl,jl->ik", "trace": "ij,j->i", "diagonal": "ijk,jk->ik"}
    assert close(stored.mv(vector), np.einsum(formula[outputs], expected, vector))
    again = StoredKernel(tmp_path)
    np.testing.assert_array_equal(again.to_numpy(), stored.to_numpy())


def test_an_interrupted_stream_goes_on(case, tmp_path, monkeypatch):
    model, x, _ = case
    compute, made = _stream.compute_kernels, []

    def failing(*arguments, **options):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(1)
        return compute(*arguments, **options)

    options = {"path": tmp_path, "max_bytes": 4_000, "progress": False}
    monkeypatch.setattr(_stream, "compute_kernels", failing)
    with pytest.raises(KeyboardInterrupt):
        stream(model, x, **options)
    with pytest.raises(ValueError, match="unfinished"):
        StoredKernel(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("tile-*")}
    assert len(before) == 3
    monkeypatch.setattr(_stream, "compute_kernels", compute)
    stored = stream(model, x, **options)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert close(stored.to_numpy(), np.asarray(nf.ntk(model, x)))


def test_another_kernel_is_not_mixed_in(case, tmp_path):
    model, x, _ = case
    stream(model, x, path=tmp_path, progress=False)
    with pytest.raises(ValueError, match="another kernel"):
        stream(model, 2.0 * x, path=tmp_path, progress=False)
    with pytest.raises(ValueError, match="holds no kernel"):
        StoredKernel(tmp_path / "nowhere")


def test_a_truncated_tile_is_named(case, tmp_path):
    model, x, _ = case
    stored = stream(model, x, path=tmp_path, max_bytes=SMALL, progress=False)
    part = max(tmp_path.glob("tile-*"))
    part.write_bytes(part.read_bytes()[:-10])
    with pytest.raises(ValueError, match=part.name):
        stored.to_numpy()


def chain(key, *, first=0.0, scale=1.0, dropped=0):
    """A network behind a layer that is not trained, with an array in a closure."""
    keys = jax.random.split(key, 3)
    frozen = nf.models.Dense(3, 4, key=keys[0])
    frozen = jax.tree.map(lambda leaf: leaf + first, frozen)
    model = (nf.models.Frozen(frozen), nf.models.MLP(4, 2, 5, 1, key=keys[1]))
    factor = scale * jnp.ones(2)
    dropout = eqx.nn.Dropout(0.5)

    def apply(model, x):
        h = dropout(model[0](x), key=jax.random.fold_in(keys[2], dropped))
        return factor * model[1](h)

    return {"model": model, "apply": apply}


def without_biases(key):
    given = chain(key)
    trainable = jax.tree.map(
        lambda leaf: eqx.is_array(leaf) and leaf.ndim > 1, given["model"]
    )
    return given | {"trainable": trainable}


OTHERS = {
    "frozen layer": lambda key: chain(key, first=0.1),
    "array in a closure": lambda key: chain(key, scale=2.0),
    "dropout's key": lambda key: chain(key, dropped=1),
    "filter": without_biases,
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_kernel_is_refused(other, key, tmp_path):
    x = jax.random.normal(key, (7, 3))
    settings = {"path": tmp_path / "kernel", "progress": False}
    stream(x1=x, **chain(key), **settings)
    stream(x1=x, **chain(key), **settings)
    with pytest.raises(ValueError, match="holds another kernel"):
        stream(x1=x, **OTHERS[other](key), **settings)
