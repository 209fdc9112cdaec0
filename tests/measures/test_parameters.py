import jax
import numpy as np

from ntkflow.measures import ParameterDistance

from ..tolerances import roundoff
from .snapshots import make_problem, move, read, snapshot


def test_distances_match_the_loop():
    problem = make_problem()
    params = move(problem)
    leaves0, leaves = jax.tree.leaves(problem.params), jax.tree.leaves(params)
    squares, norms = [], []
    for leaf0, leaf in zip(leaves0, leaves, strict=True):
        pairs = zip(leaf0.ravel().tolist(), leaf.ravel().tolist(), strict=True)
        squares.append(sum((b - a) ** 2 for a, b in pairs))
        norms.append(sum(a**2 for a in leaf0.ravel().tolist()) ** 0.5)
    found = read(ParameterDistance(), snapshot(problem, params))
    rtol = roundoff(problem.n_params)
    np.testing.assert_allclose(found["parameter_distance"], sum(squares) ** 0.5, rtol)
    np.testing.assert_allclose(
        found["parameter_distance_layer"], np.sqrt(squares), rtol
    )
    np.testing.assert_allclose(found["parameter_norm_initial"], norms, rtol)


def test_layers_are_the_trained_leaves_by_name():
    problem = make_problem(trainable=lambda leaf: leaf.ndim == 2)
    variables = ParameterDistance().variables(problem)
    assert variables["parameter_distance_layer"].coords["layer"] == [
        "layers[0].weight",
        "layers[1].weight",
    ]
    assert not variables["parameter_norm_initial"].over_time


def test_leaf_that_starts_at_zero_has_a_finite_distance():
    problem = make_problem()
    zeros = jax.tree.map(lambda leaf: 0.0 * leaf, problem.params)
    found = read(ParameterDistance(), snapshot(problem, params0=zeros))
    np.testing.assert_allclose(
        found["parameter_distance_layer"],
        [np.linalg.norm(leaf) for leaf in jax.tree.leaves(problem.params)],
        rtol=roundoff(problem.n_params),
    )
