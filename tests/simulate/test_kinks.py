import jax
import jax.numpy as jnp
import pytest

import ntkflow as nf
from ntkflow.simulate._kinks import has_kinks


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
        (lambda h: jnp.clip(h, -1, 1), True),
        (lambda h: h + jax.lax.stop_gradient(jnp.sign(h) - h), True),
        (lambda h: h - jnp.floor(h), True),
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
    assert has_kinks(problem(model)) is expected
    assert has_kinks(problem(nf.models.Scaled(model, 2.0))) is expected


def test_kinks_in_the_inputs_alone_are_none(key):
    dense = nf.models.Dense(3, 1, key=key)
    model = nf.models.MLP(3, 1, 4, 1, "tanh", key=key)
    first = nf.models.Frozen(nf.models.MLP(3, 3, 4, 1, "relu", key=key))

    class Chain(type(dense).__mro__[1]):
        first: nf.models.Frozen
        last: nf.models.MLP

        def __call__(self, x):
            return self.last(self.first(x))

    assert not has_kinks(problem(Chain(first, model)))


def test_solves_in_depth_count_as_smooth(key):
    depth = nf.models.Depth(1.0)
    field = nf.models.MLPField(3, width=4, key=key)
    readout = nf.models.Dense(3, 1, key=key)
    assert not has_kinks(
        problem(nf.models.NeuralODE(field, readout=readout, depth=depth))
    )


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
