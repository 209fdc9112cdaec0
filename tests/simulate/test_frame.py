"""A saved run is put back into the model that it trained, and into no other."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.flows import Gradient
from ntkflow.models import MLP, Frozen, Scaled
from ntkflow.problem import Problem
from ntkflow.simulate import Trajectory, simulate

X = jax.random.normal(jax.random.key(1), (4, 3))
Y = jax.random.normal(jax.random.key(2), (4, 1))
SETTINGS = {"flows": [Gradient()], "measures": (), "progress": False}


def net(alpha=0.5, *, seed=0, depth=1, width=5, activation="tanh", first=0.0):
    keys = jax.random.split(jax.random.key(seed))
    kept = Frozen(MLP(3, 3, 4, 1, key=jax.random.key(9)))
    kept = jax.tree.map(lambda a: a + first if eqx.is_array(a) else a, kept)
    own = MLP(3, 1, width, depth, activation, key=keys[0])
    return Scaled(eqx.nn.Sequential([eqx.nn.Lambda(kept), eqx.nn.Lambda(own)]), alpha)


def float32(model):
    return jax.tree.map(
        lambda a: a.astype(jnp.float32) if eqx.is_inexact_array(a) else a, model
    )


OTHERS = {
    "scale": (lambda: net(2.0), "a number, an option"),
    "depth": (lambda: net(depth=2), "that of the run float64"),
    "shallower": (lambda: net(depth=0), "that of the run float64"),
    "width": (lambda: net(width=6), r"is float64\[6\], that of the run float64\[5"),
    "dtype": (lambda: float32(net()), "is float32"),
    "activation": (lambda: net(activation="relu"), "a function"),
    "own activation": (lambda: net(activation=lambda h: jnp.sin(h)), "a function"),
    "start, which is subtracted": (lambda: net(seed=1), "not trained differs"),
    "frozen leaf": (lambda: net(first=0.1), "not trained differs"),
    "no model": (lambda: "model", "it has no"),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frame")
    run = simulate(
        Problem(net(), X, Y), [0.1, 0.2], checkpoint=folder / "kept", **SETTINGS
    )
    run.save(folder / "saved")
    return folder, run


@pytest.mark.parametrize("kind", ["saved", "kept"])
def test_a_run_is_read_into_its_own_model_alone(saved, kind):
    folder, run = saved
    expected = jax.vmap(run.model)(X)
    # Trained leaves may hold anything.
    for like in (net(), run.model):
        found = Trajectory.load(folder / kind, like=like).model
        np.testing.assert_array_equal(jax.vmap(found)(X), expected)
    for make, message in OTHERS.values():
        with pytest.raises(ValueError, match=rf"like= is not the model.*{message}"):
            Trajectory.load(folder / kind, like=make())


def test_a_run_of_some_leaves_is_read_back(tmp_path):
    """The leaves that a filter keeps are those of the model, which must be equal."""
    model = MLP(3, 1, 5, 1, key=jax.random.key(0))
    spec = jax.tree.map(lambda _: False, model)
    spec = eqx.tree_at(lambda m: m.layers[0].weight, spec, replace=True)
    run = simulate(Problem(model, X, Y, trainable=spec), [0.1], **SETTINGS)
    run.save(tmp_path / "run")
    found = Trajectory.load(tmp_path / "run", like=model)
    np.testing.assert_array_equal(found.model(X[0]), run.model(X[0]))
    other = MLP(3, 1, 5, 1, key=jax.random.key(1))
    with pytest.raises(ValueError, match="not trained differs"):
        Trajectory.load(tmp_path / "run", like=other)


def test_an_ensemble_is_read_back(tmp_path):
    models = eqx.filter_vmap(lambda key: MLP(3, 1, 5, 1, key=key))(
        jax.random.split(jax.random.key(0), 2)
    )
    one = MLP(3, 1, 5, 1, key=jax.random.key(0))
    run = simulate(Problem(one, X, Y), [0.1], ensemble=models, **SETTINGS)
    run.save(tmp_path / "run")
    found = Trajectory.load(tmp_path / "run", like=models).model
    np.testing.assert_array_equal(found.layers[0].weight, run.model.layers[0].weight)
    with pytest.raises(ValueError, match="like= is not the model"):
        Trajectory.load(tmp_path / "run", like=one)
