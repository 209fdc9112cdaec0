"""The lookup table of tokens at infinite width."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ntkflow._errors import unknown_name
from ntkflow._types import TableParameterization
from ntkflow.infinite._finite import at_positions
from ntkflow.infinite._layer import Shape
from ntkflow.infinite._maps import AbstractRandomMap
from ntkflow.infinite._moments import Moments
from ntkflow.infinite._weights import Weights
from ntkflow.models import Dense as FiniteDense

TABLES = ("ntk", "standard")


def one_hot(
    tokens: Int[Array | np.ndarray, "N *S"],
    vocabulary: int,
    dtype: DTypeLike | None = None,
) -> Float[Array, "N {vocabulary} *S"]:
    """Tokens as inputs of an `Embedding`.

    Args:
        tokens: Integers from 0 up to, and without, `vocabulary`.
        vocabulary: How many different tokens there are.
        dtype: Floating dtype of the result; `None` for JAX's default float.

    Returns:
        1 where the unit is the token's, else 0; units along the second axis.

    Raises:
        ValueError: A token is out of bounds.
    """
    known = np.asarray(tokens)
    if known.size and (known.min() < 0 or known.max() >= vocabulary):
        raise ValueError(
            f"one_hot: tokens must be from 0 to {vocabulary - 1}, got some from "
            f"{known.min()} to {known.max()}: raise `vocabulary`."
        )
    dtype = jnp.result_type(float) if dtype is None else dtype
    return jax.nn.one_hot(jnp.asarray(tokens), vocabulary, dtype=dtype, axis=1)


@final
class Embedding(AbstractRandomMap):
    """A table of random vectors, one for each token, looked up at every position.

    Its inputs are those of `one_hot`: Σ' = w_std² where two tokens are one, else 0. In
    the `"ntk"` parameterization Θ' = Σ'; in the `"standard"` one, with the vectors
    themselves as the parameters, Θ' is 1 where two tokens are one.

    Args:
        w_std: Standard deviation of the vectors' entries.
        parameterization: `"ntk"` or `"standard"`.
        width: Number of units; see `Dense`.
        trainable: Whether the vectors are trained.

    Raises:
        ValueError: The parameterization is unknown, or the scale or width is no number
            it could be.

    Source: it is a dense layer without bias on one-hot inputs, Jacot, Gabriel & Hongler
        (2018), theorem 1.

    Verified by: tests/infinite/test_attention.py::test_embedding_tells_tokens_apart
    """

    weights: Weights
    width: int | None = eqx.field(static=True)

    def __init__(
        self,
        w_std: float | int | Float[Array, ""] = 1.0,
        parameterization: TableParameterization = "ntk",
        width: int | None = None,
        *,
        trainable: bool = True,
    ):
        if parameterization not in TABLES:
            raise unknown_name("parameterization", parameterization, TABLES)
        self.weights = Weights(
            "Embedding", w_std, 0.0, parameterization, width, False, trainable
        )
        self.width = width

    def propagate(self, moments: Moments) -> Moments:
        """The moments of the vectors looked up.

        Args:
            moments: Those of one-hot inputs.

        Returns:
            Those of the vectors, Gaussian.

        Raises:
            ValueError: It is not the first layer.
        """
        if moments.channels is None or moments.gaussian:
            raise ValueError(
                "Embedding looks up tokens: it must be the first layer, on inputs from "
                "one_hot(tokens, vocabulary)."
            )
        # Moments are means over units: a sum over the vocabulary is that many times it.
        n = float(moments.channels)
        sums = moments.with_moments(
            n * moments.nngp, n * moments.ntk, n * moments.own1, n * moments.own2
        )
        return self.weights.propagate(sums, 1, self.width)

    def build(
        self, shape: Shape, width: int, *, key: PRNGKeyArray
    ) -> tuple[Callable[[Any], Any], Shape]:
        """The finite layer.

        Args:
            shape: The size of the vocabulary, then positions.
            width: Units if the layer does not say how many it has.
            key: Random key.

        Returns:
            A `ntkflow.models.Dense` without bias at every position, and the shape of
            its output.
        """
        units = self.width or width
        layer = FiniteDense(
            shape[0],
            units,
            self.weights.parameterization,
            # Undoes the layer's division by the root of what it sums over.
            float(self.weights.w_std) * shape[0] ** 0.5,
            use_bias=False,
            key=key,
        )
        return at_positions(self.weights.mark(layer), shape), (units, *shape[1:])
