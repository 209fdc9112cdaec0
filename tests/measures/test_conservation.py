import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.measures import Conservation, conservation_laws
from ntkflow.models import (
    CNN,
    MLP,
    Antisymmetric,
    DeepLinear,
    DiagonalLinear,
    Scaled,
)
from ntkflow.problem import CrossEntropy, Problem

from ..tolerances import roundoff
from .snapshots import IN, K, N, make_problem, move, read, snapshot

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

KEY = jax.random.key(11)


def mlp(activation, parameterization="ntk", **options):
    return MLP(
        IN,
        K,
        4,
        2,
        activation,
        parameterization,
        w_std=1.3,
        b_std=0.7,
        key=KEY,
        **options,
    )


def make_image_problem(pooling, activation, depth):
    model = CNN((2, 3, 3), K, 3, depth, activation=activation, pooling=pooling, key=KEY)
    rng = np.random.default_rng(0)
    return Problem(model, rng.normal(size=(N, 2, 3, 3)), rng.normal(size=(N, K)))


PROBLEMS = {
    "deep linear": make_problem(DeepLinear(IN, K, 4, 2, key=KEY)),
    "deep linear, ntk": make_problem(DeepLinear(IN, K, 4, 1, "ntk", 1.5, key=KEY)),
    "deep linear, mean field": make_problem(
        DeepLinear(IN, K, 4, 2, "mean_field", key=KEY)
    ),
    "relu": make_problem(mlp("relu", use_bias=False)),
    "relu, biases": make_problem(mlp("relu")),
    "relu, standard": make_problem(mlp("relu", "standard")),
    "relu, mean field": make_problem(mlp("relu", "mean_field")),
    "leaky relu": make_problem(mlp("leaky_relu")),
    "abs": make_problem(mlp("abs")),
    "identity": make_problem(mlp("identity")),
    "diagonal": make_problem(DiagonalLinear(IN, 0.4)),
    "scaled": make_problem(Scaled(mlp("relu"), 3.0)),
    "antisymmetric": make_problem(Antisymmetric(DiagonalLinear(IN, 0.4))),
    "both wrappers": make_problem(Scaled(Antisymmetric(mlp("relu")), 0.5)),
    "cross-entropy": make_problem(
        mlp("relu"), y=np.array([0, 1, 1, 0, 1]), loss=CrossEntropy(), test=False
    ),
    "convolutions, averaged": make_image_problem("average", "relu", 2),
    "convolutions, flattened": make_image_problem("flatten", "identity", 1),
}
N_LAWS = {
    "deep linear, ntk": 1,
    "diagonal": 1,
    "antisymmetric": 2,
    "both wrappers": 4,
    "convolutions, flattened": 1,
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_gradient_flow_conserves_every_law(name):
    """The derivative of the law along ∇L vanishes, wherever θ is."""
    problem = PROBLEMS[name]
    laws = conservation_laws(problem)
    assert len(laws) == N_LAWS.get(name, 2)

    @jax.jit
    def slopes(params, elsewhere):
        gradient = problem.gradient(params)

        def quantities(params):
            return [a - b for a, b in (law.terms(params) for law in laws)]

        _, along = jax.jvp(quantities, (params,), (gradient,))
        _, across = jax.jvp(quantities, (params,), (elsewhere,))
        # A law is quadratic in θ: its terms change by at most 2‖θ‖‖∇L‖.
        return along, across, 2 * tree_norm(params) * tree_norm(gradient)

    along, across, size = slopes(move(problem), move(problem, seed=5, size=1.0))
    atol = roundoff(problem.n_params) * float(size)
    for kept, changed in zip(along, across, strict=True):
        np.testing.assert_allclose(kept, jnp.zeros_like(kept), atol=atol)
        assert jnp.max(jnp.abs(changed)) > 0.01


def tree_norm(tree):
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))


def make_integrator(problem, time):
    """The classical Runge–Kutta method on gradient flow, by number of steps."""

    def field(params):
        return jax.tree.map(lambda g: -problem.time_scale * g, problem.gradient(params))

    @jax.jit
    def integrate(params, n_steps):
        h = time / n_steps

        def stage(carry, weights):
            # Each stage starts where the previous slope leads and adds to the sum.
            params, slope, total = carry
            ahead, share = weights
            at = jax.tree.map(lambda p, s: p + ahead * h * s, params, slope)
            slope = field(at)
            total = jax.tree.map(lambda t, s: t + share * h * s, total, slope)
            return (params, slope, total), None

        def step(_, params):
            zero = jax.tree.map(jnp.zeros_like, params)
            weights = jnp.array([0, 0.5, 0.5, 1]), jnp.array([1, 2, 2, 1]) / 6
            (_, _, total), _ = jax.lax.scan(stage, (params, zero, zero), weights)
            return jax.tree.map(jnp.add, params, total)

        return jax.lax.fori_loop(0, n_steps, step, params)

    return integrate


@pytest.mark.parametrize("name", ["deep linear", "deep linear, ntk", "diagonal"])
def test_laws_are_kept_to_the_order_of_the_integrator(name):
    problem = PROBLEMS[name]
    integrate = make_integrator(problem, 0.4)
    drifts = []
    for n_steps in (20, 40, 80):
        params = integrate(problem.params, n_steps)
        found = read(Conservation(), snapshot(problem, params, 0.4))
        drifts.append(found["conserved_drift"].max())
    slopes = -np.diff(np.log2(drifts))
    # Of order four at least; what is quadratic in θ may be kept to one order more.
    assert np.all(slopes > 3.7), slopes


def test_drift_is_not_zero_off_the_flow():
    problem = PROBLEMS["relu"]
    found = read(Conservation(), snapshot(problem, move(problem)))
    assert np.all(found["conserved_drift"] > 0.01)


def test_drift_of_a_two_layer_network_matches_the_loop():
    problem = PROBLEMS["deep linear, ntk"]
    params = move(problem)

    def terms(tree):
        first, second = (np.asarray(layer.weight) for layer in tree.layers)
        return second.T @ second, first @ first.T

    (a, b), (a0, b0) = terms(params), terms(problem.params)
    norm = np.linalg.norm
    expected = norm((a - b) - (a0 - b0)) / max(norm(a) + norm(b), norm(a0) + norm(b0))
    found = read(Conservation(), snapshot(problem, params))["conserved_drift"]
    np.testing.assert_allclose(found, [expected], rtol=roundoff(problem.n_params))


def test_laws_are_named_after_their_layers():
    variables = Conservation().variables(PROBLEMS["scaled"])
    assert variables["conserved_drift"].coords["law"] == [
        "model.layers[0] to model.layers[1]",
        "model.layers[1] to model.layers[2]",
    ]


def test_law_needs_all_its_arrays_trained():
    weights_only = make_problem(mlp("relu"), trainable=lambda leaf: leaf.ndim == 2)
    assert conservation_laws(weights_only) == ()
    no_bias = make_problem(
        mlp("relu", use_bias=False), trainable=lambda leaf: leaf.shape != (K, 4)
    )
    (law,) = conservation_laws(no_bias)
    assert law.name == "layers[0] to layers[1]"


@pytest.mark.parametrize(
    "problem",
    [
        make_problem(),
        make_problem(mlp("relu"), decay=0.1),
        make_problem(DeepLinear(IN, K, 4, 0, key=KEY)),
        make_problem(eqx.nn.Linear(IN, K, key=KEY)),
    ],
    ids=["tanh", "decay", "one layer", "unknown model"],
)
def test_problem_without_laws_is_refused(problem):
    assert conservation_laws(problem) == ()
    with pytest.raises(ValueError, match="Laws hold, without decay"):
        Conservation().variables(problem)
