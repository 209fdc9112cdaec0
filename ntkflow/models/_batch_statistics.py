"""BatchNorm in batch mode: statistics of one batch, as functions of the parameters.

Batch normalization couples the examples of a batch, so that a network in batch mode is
no function of one example. It is one of an example and of the batch its statistics are
taken over. With that batch held fixed, for instance the training set, every example has
outputs of its own again, that depend on the parameters also through the statistics.
"""

from collections.abc import Callable
from typing import Any, Final, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Shaped

from ._frozen import Frozen

_AXIS: Final = "ntkflow_batch"


@final
class BatchStatistics(eqx.Module):
    """A network whose BatchNorm layers normalize by the statistics of one fixed batch.

    f(x; θ) is the network at x, the mean and variance of every `equinox.nn.BatchNorm`
    being those over the batch at the same θ. At the examples of the batch these are the
    outputs of the network in batch mode, so that with the training set as the batch the
    gradient flow is that of full-batch training. Derivatives, and with them kernels,
    include those of the statistics. Under `vmap` the statistics are computed once for
    all examples. All other layers are in inference mode: Dropout drops nothing.

    Attributes:
        network: The module, called as `network(x, state) -> (outputs, state)`.
        state: Its state, held fixed.
        x: The batch, held fixed.

    Source: Ioffe & Szegedy (2015), algorithm 1.

    Verified by:
    tests/models/test_batch_statistics.py::test_outputs_are_those_of_the_whole_batch
    """

    network: Callable[..., Any]
    state: Frozen
    x: Frozen

    def __init__(
        self,
        network: Callable[..., Any],
        state: Any,
        x: Shaped[Array | np.ndarray, "N ..."],
    ):
        """Holds the network, its state and the batch.

        Args:
            network: A module, as `equinox.nn.make_with_state` makes it.
            state: Its `equinox.nn.State`.
            x: The batch, the example axis first; floats are cast to the widest dtype
                among the network's arrays.

        Raises:
            ValueError: If the network has no BatchNorm layer, or the batch no example.
        """
        if not isinstance(state, eqx.nn.State):
            raise ValueError(
                "BatchStatistics takes the network and the equinox.nn.State that "
                "equinox.nn.make_with_state returns, and a batch of inputs; got a "
                f"{type(state).__name__} for the state."
            )
        nodes = jtu.tree_leaves(network, is_leaf=_is_norm)
        if not any(map(_is_norm, nodes)):
            raise ValueError(
                "BatchStatistics is for networks with equinox.nn.BatchNorm layers, and "
                "this one has none. Where only a state is to be held, call the network "
                "with it in a module of your own."
            )
        if np.ndim(x) == 0 or len(x) == 0:
            raise ValueError(
                "The batch needs at least one example on its first axis; got shape "
                f"{list(np.shape(x))}."
            )
        kinds = [a.dtype for a in jtu.tree_leaves(network) if eqx.is_inexact_array(a)]
        dtype = np.result_type(*kinds) if kinds else None
        self.network = eqx.nn.inference_mode(network)
        self.state = Frozen(jtu.tree_map(lambda leaf: _cast(leaf, dtype), state))
        self.x = Frozen(_cast(jnp.asarray(x), dtype))

    def __call__(self, x: Shaped[Array, "..."]) -> Any:
        """The outputs of one example, of the batch or any other.

        Args:
            x: One example.

        Returns:
            What the network returns, without its state.

        Raises:
            ValueError: A BatchNorm layer is called more than once, so that it has no
                one mean and variance.
        """  # ruff: ignore[docstring-extraneous-exception]
        measured = jax.vmap(
            _with_norms(self.network, measures=True),
            axis_name=_AXIS,
            in_axes=(0, None),
            out_axes=(0, None),
        )
        # A State is used up when it is changed: this one is a copy.
        state = jtu.tree_map(lambda leaf: leaf, self.state.tree)
        _, state = measured(self.x.tree, state)
        outputs, _ = _with_norms(self.network, measures=False)(x, state)
        return outputs


class _Calls:
    """How often the layers of one evaluation were called, by their number."""

    def __init__(self):
        self.counts: dict[int, int] = {}

    def add(self, layer: int) -> None:
        self.counts[layer] = self.counts.get(layer, 0) + 1
        if self.counts[layer] > 1:
            raise ValueError(
                "A BatchNorm layer is called more than once in one evaluation, as in a "
                "loop or for two inputs: BatchStatistics holds one mean and variance "
                "for each layer. Give every call a layer of its own."
            )


@final
class _Norm(eqx.nn.StatefulLayer):
    """A BatchNorm that writes the statistics of the batch, or reads them."""

    layer: eqx.nn.BatchNorm
    number: int = eqx.field(static=True)
    calls: _Calls | None = eqx.field(static=True)

    def __init__(self, layer: eqx.nn.BatchNorm, number: int, calls: _Calls | None):
        self.layer, self.number, self.calls = layer, number, calls

    def __call__(
        self, x: Array, state: eqx.nn.State, *, key: Any = None, inference: Any = None
    ) -> tuple[Array, eqx.nn.State]:
        del key, inference
        layer = self.layer
        ema = layer.mode == "ema"
        index: Any = layer.ema_state_index if ema else layer.batch_state_index

        def beside(values: Array) -> Array:
            return values.reshape(-1, *(1,) * (x.ndim - 1))

        if self.calls is None:
            mean, variance = state.get(index)
        else:
            self.calls.add(self.number)
            mean = _mean(x)
            variance = _mean((x - beside(mean)) ** 2)
            state = state.set(index, (mean, variance))
        out = (x - beside(mean)) / jnp.sqrt(beside(variance) + layer.eps)
        if layer.weight is not None and layer.bias is not None:
            out = out * beside(layer.weight) + beside(layer.bias)
        return out, state


def _mean(values: Array) -> Array:
    """The mean of every channel over positions and the batch."""
    over_positions = jnp.mean(values, axis=tuple(range(1, values.ndim)))
    return jax.lax.pmean(over_positions, _AXIS)


def _is_norm(node: Any) -> bool:
    return isinstance(node, eqx.nn.BatchNorm)


def _with_norms(network: Callable[..., Any], *, measures: bool) -> Callable[..., Any]:
    calls = _Calls() if measures else None
    nodes, structure = jtu.tree_flatten(network, is_leaf=_is_norm)
    changed = [
        _Norm(node, number, calls) if _is_norm(node) else node
        for number, node in enumerate(nodes)
    ]
    return jtu.tree_unflatten(structure, changed)


def _cast(leaf: Array, dtype: Any) -> Array:
    real = jnp.issubdtype(leaf.dtype, jnp.floating)
    return leaf if dtype is None or not real else leaf.astype(dtype)
