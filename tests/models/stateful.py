"""Modules with a state: BatchNorm, SpectralNorm, and a layer of one's own."""

import equinox as eqx
import jax
import jax.numpy as jnp

AXIS = "batch"


class Normalized(eqx.Module):
    """[3] -> [2], BatchNorm between two layers; the second spectrally normalized."""

    first: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    last: eqx.nn.SpectralNorm

    def __init__(self, mode: str, key: jax.Array):
        a, b, c = jax.random.split(key, 3)
        self.first = eqx.nn.Linear(3, 4, key=a)
        self.norm = eqx.nn.BatchNorm(4, AXIS, momentum=0.9, mode=mode)
        self.last = eqx.nn.SpectralNorm(
            eqx.nn.Linear(4, 2, key=b), "weight", inference=True, key=c
        )

    def __call__(self, x, state):
        h, state = self.norm(self.first(x), state)
        return self.last(jnp.tanh(h), state)


class Held(eqx.Module):
    """A network of one example, with the state it is called with."""

    network: eqx.Module
    state: eqx.nn.State

    def __call__(self, x):
        return self.network(x, self.state)[0]


@eqx.filter_jit
def whole_batch(network, state, x):
    """What is called in training: outputs of a batch, and the state after it."""
    over = jax.vmap(network, axis_name=AXIS, in_axes=(0, None), out_axes=(0, None))
    return over(x, state)


def trained_before(mode: str, key: jax.Array, x: jax.Array):
    """A network whose running statistics are those of a few batches."""
    network, state = eqx.nn.make_with_state(Normalized)(mode, key)
    for scale in (1.0, 2.0):
        _, state = whole_batch(network, state, scale * x)
    return network, state
