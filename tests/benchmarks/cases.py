"""The networks that are timed, as equinox modules; float32 throughout."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array


class Case(NamedTuple):
    """A kernel to compute.

    Attributes:
        build: Makes the model.
        shape: Shape of the examples, their number first.
        outputs: The layout.
        peers: Peers that compute the same.
    """

    build: Callable[[Array], Any]
    shape: tuple[int, ...]
    outputs: str
    peers: tuple[str, ...] = ()


def _mlp(key: Array) -> eqx.nn.MLP:
    return eqx.nn.MLP(784, 10, 512, 3, activation=jax.nn.relu, key=key)


class Convolutional(eqx.Module):
    """Three 3×3 convolutions of 64 channels, global average pool, 10 outputs."""

    layers: list[eqx.nn.Conv2d]
    readout: eqx.nn.Linear

    def __init__(self, key: Array):
        *keys, last = jax.random.split(key, 4)
        channels = zip((3, 64, 64), keys, strict=True)
        self.layers = [eqx.nn.Conv2d(n, 64, 3, padding=1, key=k) for n, k in channels]
        self.readout = eqx.nn.Linear(64, 10, key=last)

    def __call__(self, x: Array) -> Array:
        for layer in self.layers:
            x = jax.nn.relu(layer(x))
        return self.readout(jnp.mean(x, axis=(1, 2)))


class Attention(eqx.Module):
    """One attention block, averaged over tokens and read out."""

    attention: eqx.nn.MultiheadAttention
    readout: eqx.nn.Linear

    def __init__(self, key: Array):
        self.attention = eqx.nn.MultiheadAttention(8, 256, key=key)
        self.readout = eqx.nn.Linear(256, 10, key=key)

    def __call__(self, x: Array) -> Array:
        return self.readout(jnp.mean(x + self.attention(x, x, x), axis=0))


class Recurrent(eqx.Module):
    """A GRU in a scan, read out at the last step."""

    cell: eqx.nn.GRUCell
    readout: eqx.nn.Linear

    def __init__(self, key: Array):
        self.cell = eqx.nn.GRUCell(64, 128, key=key)
        self.readout = eqx.nn.Linear(128, 10, key=key)

    def __call__(self, x: Array) -> Array:
        start = jnp.zeros(128, x.dtype)
        last, _ = jax.lax.scan(lambda h, row: (self.cell(row, h), None), start, x)
        return self.readout(last)


CASES = {
    "mlp-64-trace": Case(_mlp, (64, 784), "trace", ("neural_tangents", "torch_func")),
    "mlp-256-full": Case(_mlp, (256, 784), "full", ("neural_tangents",)),
    "cnn-16-full": Case(
        Convolutional, (16, 3, 16, 16), "full", ("neural_tangents", "torch_func")
    ),
    "attention-8-full": Case(Attention, (8, 32, 256), "full"),
    "gru-16-full": Case(Recurrent, (16, 32, 64), "full"),
}
