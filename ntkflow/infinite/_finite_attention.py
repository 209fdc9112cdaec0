"""The finite attention layer of which `Attention` is the limit."""

import math
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ntkflow.models import Dense as FiniteDense

Table = Float[Array, "heads size in_size"]


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
        softmax: Whether scores go through a softmax over keys.
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
    softmax: bool = eqx.field(static=True)

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
        softmax: bool,
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
        self.softmax = softmax

    def __call__(self, x: Float[Array, "C T"]) -> Float[Array, "D T"]:
        """Apply the layer.

        Args:
            x: Units at every position of a sequence.

        Returns:
            The new units.
        """
        root = math.sqrt(x.shape[0])
        queries, values = ((w @ x) / root for w in (self.query, self.value))
        if self.key is None:
            keys, divisor = queries, self.query.shape[1]
        else:
            keys, divisor = (self.key @ x) / root, math.sqrt(self.query.shape[1])
        scores = self.scores / divisor * jnp.einsum("hda,hdb->hab", queries, keys)
        if self.softmax:
            scores = jax.nn.softmax(scores, axis=-1)
        seen = self.w_value_std * jnp.einsum("hab,hdb->hda", scores, values)
        stacked = seen.reshape(-1, x.shape[1])
        return jax.vmap(self.out, in_axes=1, out_axes=1)(stacked)
