"""The finite attention layer of which `Attention` is the limit."""

import math
from collections.abc import Callable
from typing import Any, Final, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ntkflow._types import AttentionMechanism
from ntkflow.models import Dense as FiniteDense

Table = Float[Array, "heads size in_size"]

MECHANISMS: Final[dict[str, Callable[[Array], Array]]] = {
    "softmax": jax.nn.softmax,
    "identity": lambda scores: scores,
    "relu": jax.nn.relu,
    "abs": jnp.abs,
}
"""What is made of scores: of those of all keys, which are along the last axis."""


@final
class FiniteAttention(eqx.Module):
    """Self-attention with several heads, in NTK parameterization, on ONE example.

    Args:
        in_size: Units of the input.
        out_size: Units of the output.
        heads: How many heads there are.
        size: Units of queries, keys and values in each head.
        scores: Standard deviation of the scores' factor: w_query_std·w_key_std.
        w_value_std: Scale of the weights of the values.
        out: Scales of the output's weights and bias.
        use_bias: Whether the output has a bias.
        shared: Whether queries are keys, and scores are divided by `size`; else by its
            root.
        mechanism: What is made of scores, by its name in `MECHANISMS`.
        positional: Maps units to those that scores are made of; None for themselves.
        key: Random key.

    Verified by:
    tests/infinite/test_width.py::test_networks_of_every_layer_approach_the_limit
    """

    query: Table
    key: Table | None
    value: Table
    out: FiniteDense
    scores: float = eqx.field(static=True)
    w_value_std: float = eqx.field(static=True)
    mechanism: AttentionMechanism = eqx.field(static=True)
    positional: Callable[[Any], Any] | None

    def __init__(
        self,
        in_size: int,
        out_size: int,
        heads: int,
        size: int,
        scores: float,
        w_value_std: float,
        out: tuple[float, float],
        use_bias: bool,
        shared: bool,
        mechanism: AttentionMechanism,
        positional: Callable[[Any], Any] | None,
        *,
        key: PRNGKeyArray,
    ):
        first, second, third, last = jax.random.split(key, 4)
        shape = heads, size, in_size
        self.query = jax.random.normal(first, shape)
        self.key = None if shared else jax.random.normal(second, shape)
        self.value = jax.random.normal(third, shape)
        self.out = FiniteDense(
            heads * size, out_size, "ntk", *out, use_bias=use_bias, key=last
        )
        self.scores = scores
        self.w_value_std = w_value_std
        self.mechanism = mechanism
        self.positional = positional

    def __call__(self, x: Float[Array, "C T"]) -> Float[Array, "D T"]:
        """Apply the layer.

        Args:
            x: Units at every position of a sequence.

        Returns:
            The new units.
        """
        root = math.sqrt(x.shape[0])
        scored = x if self.positional is None else self.positional(x)
        queries, values = (self.query @ scored) / root, (self.value @ x) / root
        if self.key is None:
            keys, divisor = queries, self.query.shape[1]
        else:
            keys, divisor = (self.key @ scored) / root, math.sqrt(self.query.shape[1])
        scores = self.scores / divisor * jnp.einsum("hda,hdb->hab", queries, keys)
        shares = MECHANISMS[self.mechanism](scores)
        seen = self.w_value_std * jnp.einsum("hab,hdb->hda", shares, values)
        stacked = seen.reshape(-1, x.shape[1])
        return jax.vmap(self.out, in_axes=1, out_axes=1)(stacked)
