import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkflow as nf
from ntkflow.simulate._kinks import Kinks, find_kinks
from ntkflow.simulate._plan import plan_solves
from ntkflow.solvers import _function_space


def problem(model, shape=(3,)):
    return nf.Problem(model, jnp.ones((2, *shape)), jnp.ones((2, 1)))


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("relu", True),
        ("leaky_relu", True),
        ("abs", True),
        ("tanh", False),
        ("gelu", False),
        ("silu", False),
        ("erf", False),
        (lambda h: jax.nn.softmax(h), False),  # its maximum is a held constant
        (jax.nn.softplus, False),  # written with a maximum, with its own derivative
        (lambda h: jax.nn.logsumexp(h) * h, False),  # the absolute value of a sum
        (lambda h: jnp.log(jnp.abs(jnp.exp(h) - 1)), True),
        (lambda h: jnp.clip(h, -1, 1), True),
        (lambda h: h + jax.lax.stop_gradient(jnp.sign(h) - h), True),
        (lambda h: h - jnp.floor(h), True),
        (eqx.nn.LayerNorm(4, use_weight=False, use_bias=False), False),
        (eqx.nn.RMSNorm(4, use_weight=False, use_bias=False), False),
        (lambda h: jnp.maximum(0.1, jnp.var(h)) * h, True),
        (lambda h: jnp.maximum(jnp.var(h), jnp.var(h**2)) * h, True),
        (lambda h: jax.lax.cummax(h), True),
        (lambda h: jax.lax.cond(True, jax.nn.relu, jnp.tanh, h), True),
        (lambda h: jax.lax.cond(h[0] > 0, jnp.tanh, jnp.sin, h), True),
        (
            lambda h: jax.nn.relu(h) * jax.lax.fori_loop(0, 3, lambda i, s: s + i, 0),
            True,
        ),
        (lambda h: jax.lax.fori_loop(0, 3, lambda i, s: jnp.abs(s), h), False),
    ],
)
def test_kinks_are_found(activation, expected, key):
    model = nf.models.MLP(3, 1, 4, 1, activation, key=key)
    assert find_kinks(problem(model)).model is expected
    assert find_kinks(problem(nf.models.Scaled(model, 2.0))).model is expected


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (nf.SquaredError(), False),
        (nf.CrossEntropy(), False),
        (nf.Hinge(), True),
        (lambda f, y: jnp.sum(jnp.abs(f - y)), True),
        (lambda f, y: jnp.sum(jnp.maximum(0.9 * (y - f), 0.1 * (f - y))), True),
        (lambda f, y: jnp.sum(jnp.sqrt((f - y) ** 2 + 0.01)), False),
        (lambda f, y: jnp.sum(jnp.logaddexp(0.0, -y * f)), False),
        (lambda f, y: -jnp.sum(jax.nn.log_sigmoid(y * f)), False),
        (lambda f, y: -jnp.sum(y * jax.nn.log_softmax(f)), False),
        (lambda f, y: jnp.sum(jnp.where(y > 0, f**2, f)), False),  # of targets alone
        (lambda f, y: jnp.sum(f**2) - f[jnp.argmax(f)], True),
    ],
)
def test_kinks_of_the_loss_are_told_apart(loss, expected, key):
    x, y = jnp.ones((2, 3)), jnp.asarray([[1.0, 0.0], [0.0, 1.0]])
    y = 2 * y - 1 if isinstance(loss, nf.Hinge) else y
    for activation in ("tanh", "relu"):
        model = nf.models.MLP(3, 2, 4, 1, activation, key=key)
        found = find_kinks(nf.Problem(model, x, y, loss=loss))
        assert found == Kinks(activation == "relu", expected, loops=False)


def test_kinks_in_the_inputs_alone_are_none(key):
    dense = nf.models.Dense(3, 1, key=key)
    model = nf.models.MLP(3, 1, 4, 1, "tanh", key=key)
    first = nf.models.Frozen(nf.models.MLP(3, 3, 4, 1, "relu", key=key))

    class Chain(type(dense).__mro__[1]):
        first: nf.models.Frozen
        last: nf.models.MLP

        def __call__(self, x):
            return self.last(self.first(x))

    assert not find_kinks(problem(Chain(first, model))).model


def test_solves_in_depth_count_as_smooth(key):
    depth = nf.models.Depth(1.0)
    field = nf.models.MLPField(3, width=4, key=key)
    readout = nf.models.Dense(3, 1, key=key)
    model = nf.models.NeuralODE(field, readout=readout, depth=depth)
    assert not find_kinks(problem(model)).model


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        (jnp.sin, False),
        (lambda h: h[jnp.arange(4)], False),  # compares whole numbers
        (jnp.abs, True),
        (lambda h: jax.lax.fori_loop(0, 2, lambda i, s: jax.nn.relu(s), h), True),
    ],
)
def test_kinks_in_loops_are_told(turn, expected, key):
    def looped(h):
        return jax.lax.scan(lambda s, _: (turn(s), None), h, length=3)[0]

    found = find_kinks(problem(nf.models.MLP(3, 1, 4, 1, looped, key=key)))
    assert found == Kinks(model=False, loss=False, loops=expected)
    assert found.none is not expected


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_runs_of_smooth_models_alone_are_repeated(activation, key):
    """Where there are kinks, a tighter tolerance takes steps and brings nothing."""
    given = problem(nf.models.MLP(3, 1, 4, 1, activation, key=key))
    (planned,) = plan_solves(
        [nf.flows.Gradient()], given, solver="auto", controller=None, dt0=None,
        rtol=1e-3, atol=1e-5, events=(), dense_steps=0,
    )  # fmt: skip
    assert planned.repeats is (activation == "tanh")
    assert planned.held


def test_steps_across_kinks_are_not_held_by_their_movement(monkeypatch, key):
    keys = jax.random.split(key, 3)
    model = nf.models.MLP(4, 1, 32, 1, "relu", key=keys[0])
    x, y = jax.random.normal(keys[1], (16, 4)), jax.random.normal(keys[2], (16, 1))
    own = nf.solvers.FunctionSpace(dfx.PIDController(rtol=1e-2, atol=1e-4))
    for controller in (None, own):
        steps = []
        for movements in (_function_space._MOVEMENTS, np.inf):
            monkeypatch.setattr(_function_space, "_MOVEMENTS", movements)
            run = nf.simulate(
                nf.Problem(model, x, y),
                [5.0],
                flows=[nf.flows.Gradient()],
                measures=(),
                controller=controller,
                # Of the run, not of a comparison: the fewest steps that cross kinks.
                rtol=1e-2,
                global_error=False,
                progress=False,
            )
            steps.append(run.stats["steps"])
        assert steps[0] == steps[1]
        monkeypatch.undo()


def test_auto_trains_networks_with_kinks_by_chebyshev(key):
    """The explicit method at its limit of stability is a hundred tolerances wrong."""
    model = nf.models.MLP(3, 1, 4, 1, "relu", key=key)
    run = nf.simulate(
        problem(model),
        [0.1],
        flows=[nf.flows.Gradient()],
        measures=(),
        progress=False,
    )
    assert run.stats["solver"] == "gradient: auto: Chebyshev"


@pytest.mark.slow
@pytest.mark.usefixtures("quickly_compiled")
def test_a_rounded_kink_is_slid_along_to_its_width():
    """ṙ = −K sign(r): the first residual waits at zero for the second, at 1 − K₁₂²."""
    x = jnp.asarray([[1.0, 0.0], [0.6, 0.8]])
    y = jnp.asarray([[0.5], [2.0]])
    model = nf.models.Dense(2, 1, "standard", use_bias=False, key=jax.random.key(0))
    model = jax.tree.map(lambda leaf: 0 * leaf, model)
    size = float(jnp.sqrt(jnp.mean(y**2)))
    width = 1e-2 * size

    def rounded(f, y):
        return jnp.sum(jnp.sqrt((f - y) ** 2 + width**2))

    ts = np.linspace(0.05, 2.5, 50)
    run = nf.simulate(
        nf.Problem(model, x, y, loss=rounded),
        ts,
        flows=[nf.flows.Gradient()],
        measures=(),
        # A thirtieth of the width, as the docs advise: a step as wide as the bend
        # would pass over it unseen. What is checked below is the width alone.
        rtol=1e-2 / 30,
        progress=False,
    )
    reached = 0.5 / 1.6  # K = [[1, 0.6], [0.6, 1]], and both move at first
    first = np.minimum(0.5, 1.6 * ts)
    second = 1.6 * np.minimum(ts, reached) + 0.64 * np.maximum(ts - reached, 0)
    f = run.dataset["f_train"].to_numpy().reshape(len(ts), 2)
    exact = np.stack([first, second], axis=1)
    np.testing.assert_allclose(f, exact, atol=width)
