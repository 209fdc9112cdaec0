"""Ours against neural-tangents 0.6.5, on every layer that both have."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.infinite import Sequential
from ntkflow.infinite._compute import Examples, moments_of
from tests.infinite.neural_tangents import ours
from tests.tolerances import roundoff

with np.load(Path(__file__).parent / "neural_tangents" / "reference.npz") as file:
    STORED = dict(file)
PLACE = {str(name): i for i, name in enumerate(STORED["names"])}
CASES = ours.cases(STORED)

SLOW = ("images/", "volumes/", "sequences/conv_local", "sequences/resize")
"""Families that go through the same formulas as sequences, and take longer."""


def examples(family):
    """Rows, and columns of which the first are the rows themselves."""
    x1, x2 = STORED[f"{family}.x1"], STORED[f"{family}.x2"]
    x = jnp.asarray(np.concatenate([x1, x2]))
    mask = None
    if f"{family}.mask1" in STORED:
        mask = jnp.concatenate([STORED[f"{family}.mask{side}"] for side in "12"])
    columns = Examples(x, mask, jnp.arange(len(x), dtype=jnp.int32))
    return jax.tree.map(lambda leaf: leaf[: len(x1)], columns), columns


def kernels(network, rows, columns):
    end = network.propagate(moments_of(rows, columns, network.needs_pairs(False)))
    return jnp.stack([end.nngp, end.ntk])


def expected(name):
    place = PLACE[name]
    return np.concatenate([STORED["own"][place], STORED["cross"][place]], axis=-1)


def parallel(family):
    """Where two examples are one another's multiples."""
    rows, columns = (e.x.reshape(e.x.shape[0], -1) for e in examples(family))
    product = np.abs(rows @ columns.T)
    sizes = [np.linalg.norm(x, axis=1) for x in (rows, columns)]
    return product > (1 - roundoff(100)) * np.outer(*sizes)


def check(name, found):
    """1e-10, but where the angle between two examples is 0 or π.

    An angle is there only as good as the root of a rounding, √(10 eps) in kernels that
    are not smooth in it: on the diagonal theirs is, and ours is exact.
    """
    theirs = expected(name)
    aligned = parallel(name.split("/")[0]) & np.ones_like(theirs, bool)
    if "/rectified_" in name:
        # Theirs divides by the sine of the angle, and is anything where that is 0.
        theirs = np.where(aligned, np.nan, theirs)
    assert np.all(np.isfinite(found))
    assert np.all(np.isfinite(theirs[~aligned]))
    kept = np.isfinite(theirs)
    scale = np.max(np.abs(theirs[kept]))
    loose = np.sqrt(10 * np.finfo(float).eps)
    allowed = 1e-10 * np.abs(theirs) + roundoff(10) * scale
    allowed = np.where(aligned, loose * (np.abs(theirs) + scale), allowed)
    assert np.all(np.abs(found - theirs)[kept] <= allowed[kept])


def test_every_case_is_compared():
    assert set(PLACE) == set(CASES)


@pytest.mark.usefixtures("cheaply_compiled")
@pytest.mark.parametrize("name", [n for n in CASES if n.startswith(("vec", "unit"))])
def test_kernels_of_vectors_are_those_of_neural_tangents(name):
    # Not compiled: all cases share the few operations they are made of.
    rows, columns = examples(name.split("/")[0])
    check(name, np.asarray(kernels(Sequential(CASES[name]), rows, columns)))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[pytest.mark.slow] if n.startswith(SLOW) else [])
        for n in CASES
        if not n.startswith(("vec", "unit"))
    ],
)
def test_kernels_over_positions_are_those_of_neural_tangents(name):
    network = Sequential(CASES[name])
    found = jax.jit(lambda r, c: kernels(network, r, c))(*examples(name.split("/")[0]))
    check(name, np.asarray(found))
