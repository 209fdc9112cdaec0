"""Self-attention over a sequence at infinite width.

Queries, keys and values are random linear maps of the units at each position; scores
say how much position a takes from position b. With infinitely many units in each head
the limit depends on how scores are scaled:

* divided by the units of a head ("linear"), they become a number that is not random,
  and that vanishes unless queries and keys share their weights;
* divided by its root ("sqrt"), they become Gaussian, and the limit averages over them,
  which has a closed form if they are taken as they are.
"""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ntkflow._errors import unknown_name
from ntkflow._types import AttentionMechanism, AttentionScaling
from ntkflow.infinite._checks import check_scale, check_sequence, check_width
from ntkflow.infinite._finite_attention import MECHANISMS, FiniteAttention
from ntkflow.infinite._layer import AbstractLayer, Shape
from ntkflow.infinite._moments import Moments
from ntkflow.infinite._positional import PositionalEmbedding
from ntkflow.infinite._positions import silenced
from ntkflow.models._checks import check_size

SCALINGS = ("linear", "sqrt")

Pairs = Float[Array, "N1 N2 T T"]
Own = Float[Array, "N T T"]
Found = tuple[Pairs, Pairs, Float[Array, "N1 T T"], Float[Array, "N2 T T"]]


@final
class Attention(AbstractLayer):
    """Self-attention over one axis of positions, with infinitely wide heads.

    Below, K is Σ of the input between the positions a, b of one example and a', b' of
    another, and s = w_value_std²·w_out_std².

    `scaling="linear"`, with shared weights of queries and keys: with A the mechanism of
    w_query_std·w_key_std·K(x, x), a softmax over keys or a function of each score,

        Σ'(a,a') = s Σ_bb' A(a,b) A'(a',b') K(b,b') + b_std²

    and Θ' is Σ' plus its first term again, for the values' weights, plus that term
    with Θ for K. Nothing else is felt: scores do not move.

    `scaling="sqrt"` with `mechanism="identity"`: with t = s w_query_std²·w_key_std²,

        Σ'(a,a') = t K(a,a') Σ_bb' K(b,b')² + b_std²

    and Θ' is Σ' plus three times its first term, for values, queries and keys, plus
    t Σ_bb' (Θ(a,a') K(b,b')² + 2 K(a,a') K(b,b') Θ(b,b')). It takes infinitely many
    heads as well.

    With `positional`, scores are those of the units plus these embeddings, and values
    are made of the units alone: K(x, x) in A, K(a,a') and one of the two K(b,b') above
    are of the sums. To have embeddings in the values too, put a `PositionalEmbedding`
    in front of the layer instead.

    The layer is in NTK parameterization. Masked positions are not attended to, and
    are zero in the output.

    Args:
        w_query_std: Scale of the queries' weights.
        w_key_std: Scale of the keys' weights.
        w_value_std: Scale of the values' weights.
        w_out_std: Scale of the weights behind the heads.
        b_std: Scale of the bias behind them.
        scaling: `"linear"` or `"sqrt"`.
        mechanism: What is made of scores, `"softmax"`, `"identity"`, `"relu"` or
            `"abs"`.
        positional: Embeddings that only scores see, or None.
        use_bias: Whether there is a bias.
        width: Number of units; see `Dense`.
        heads: How many heads `to_module` builds, each as wide as its layers are.

    Raises:
        ValueError: A name is unknown, a mechanism but the identity is asked for with
            scores that stay random, or a scale or number is none it could be.

    Source: Hron, Bahri, Sohl-Dickstein & Novak (2020), on both scalings; the sums are
        rederived.

    Verified by:
    tests/infinite/test_width.py::test_networks_of_every_layer_approach_the_limit,
    tests/infinite/test_attention.py::test_one_position_is_a_power_of_the_kernel
    """

    w_query_std: float | Float[Array, ""]
    w_key_std: float | Float[Array, ""]
    w_value_std: float | Float[Array, ""]
    w_out_std: float | Float[Array, ""]
    b_std: float | Float[Array, ""]
    scaling: AttentionScaling = eqx.field(static=True)
    mechanism: AttentionMechanism = eqx.field(static=True)
    positional: PositionalEmbedding | None
    use_bias: bool = eqx.field(static=True)
    width: int | None = eqx.field(static=True)
    heads: int = eqx.field(static=True)

    def __init__(
        self,
        w_query_std: float | int | Float[Array, ""] = 1.0,
        w_key_std: float | int | Float[Array, ""] = 1.0,
        w_value_std: float | int | Float[Array, ""] = 1.0,
        w_out_std: float | int | Float[Array, ""] = 1.0,
        b_std: float | int | Float[Array, ""] = 0.1,
        scaling: AttentionScaling = "linear",
        mechanism: AttentionMechanism = "softmax",
        *,
        positional: Any = None,
        use_bias: bool = True,
        width: int | None = None,
        heads: int = 4,
    ):
        if scaling not in SCALINGS:
            raise unknown_name("scaling", scaling, SCALINGS)
        if mechanism not in MECHANISMS:
            raise unknown_name("mechanism", mechanism, MECHANISMS)
        if scaling == "sqrt" and mechanism != "identity":
            raise ValueError(
                "Attention: with scaling='sqrt' scores stay random, and the mean of "
                f"{mechanism} of them has no closed form. Take scaling='linear', or "
                "mechanism='identity'."
            )
        if not isinstance(positional, PositionalEmbedding | None):
            raise ValueError(
                "Attention: `positional` must be a PositionalEmbedding, got "
                f"{positional!r}."
            )
        check_width("Attention", width)
        check_size("Attention", "heads", heads)
        self.w_query_std = check_scale("Attention", "w_query_std", w_query_std)
        self.w_key_std = check_scale("Attention", "w_key_std", w_key_std)
        self.w_value_std = check_scale("Attention", "w_value_std", w_value_std)
        self.w_out_std = check_scale("Attention", "w_out_std", w_out_std)
        self.b_std = check_scale("Attention", "b_std", b_std)
        self.scaling = scaling
        self.mechanism = mechanism
        self.positional = positional
        self.use_bias = use_bias
        self.width = width
        self.heads = int(heads)

    @property
    def is_linear(self) -> bool:
        """Its units are multiplied with scores made of them."""
        return False

    @property
    def is_random(self) -> bool:
        """The weights behind the heads are its own."""
        return True

    def needs_pairs(self, after: bool) -> bool:
        """Every position attends to every other.

        Args:
            after: Not used.

        Returns:
            Yes.
        """
        return True

    def propagate(self, moments: Moments) -> Moments:
        """The moments of the layer's output.

        Args:
            moments: Those of its input, of which a sequence of units is asked.

        Returns:
            Those of its output, Gaussian.

        Raises:
            ValueError: The input has not exactly one axis of positions.
        """  # ruff: ignore[docstring-extraneous-exception]
        check_sequence("Attention", moments.positions)
        moments = scored = silenced(moments)
        if self.positional is not None:
            scored = self.positional.propagate(moments)
        dtype = moments.nngp.dtype
        query, key_, value, out, bias = (
            jnp.asarray(std, dtype)
            for std in (
                self.w_query_std,
                self.w_key_std,
                self.w_value_std,
                self.w_out_std,
                self.b_std if self.use_bias else 0.0,
            )
        )
        outside = (value * out) ** 2
        if self.scaling == "linear":
            found = self._fixed_scores(moments, scored, query * key_)
        else:
            found = _random_scores(moments, scored)
            outside = outside * (query * key_) ** 2
        nngp, ntk, own1, own2 = found
        bias2 = bias**2
        attended = moments.with_moments(
            outside * nngp + bias2,
            outside * ntk + bias2,
            outside * own1 + bias2,
            outside * own2 + bias2,
            channels=self.width,
            gaussian=True,
        )
        return silenced(attended)

    def build(
        self, shape: Shape, width: int, *, key: PRNGKeyArray
    ) -> tuple[Callable[[Any], Any], Shape]:
        """The finite layer.

        Args:
            shape: Units and the one number of positions.
            width: Units of each head, and of the output if the layer does not say.
            key: Random key.

        Returns:
            An equinox module, and the shape of its output.

        Raises:
            ValueError: As for `propagate`.
        """  # ruff: ignore[docstring-extraneous-exception]
        check_sequence("Attention", shape[1:])
        units = self.width or width
        own, added = jax.random.split(key)
        positional = None
        if self.positional is not None:
            positional, _ = self.positional.build(shape, width, key=added)
        layer = FiniteAttention(
            shape[0],
            units,
            self.heads,
            width,
            float(self.w_query_std) * float(self.w_key_std),
            float(self.w_value_std),
            (float(self.w_out_std), float(self.b_std)),
            self.use_bias,
            shared=self.scaling == "linear",
            mechanism=self.mechanism,
            positional=positional,
            key=own,
        )
        return layer, (units, *shape[1:])

    def _fixed_scores(
        self, moments: Moments, scored: Moments, scale: Float[Array, ""]
    ) -> Found:
        """Both kernels without s and the bias, the tangent kernel's in all."""
        a1 = self._attend(scale * scored.own1, moments.mask1)
        a2 = self._attend(scale * scored.own2, moments.mask2)

        def mix(first: Array, moment: Array, second: Array, how: str) -> Array:
            return jnp.einsum(how, first, moment, second, precision="highest")

        across, own = "iab,ijbc,jdc->ijad", "iab,ibc,idc->iad"
        nngp = mix(a1, moments.nngp, a2, across)
        # The weights behind the heads, those of the values, and all that is below.
        ntk = 2 * nngp + mix(a1, moments.ntk, a2, across)
        return (
            nngp,
            ntk,
            mix(a1, moments.own1, a1, own),
            mix(a2, moments.own2, a2, own),
        )

    def _attend(self, scores: Own, mask: Bool[Array, "N T"] | None) -> Own:
        if mask is not None and self.mechanism == "softmax":
            return jax.nn.softmax(scores, axis=-1, where=mask[:, None, :])
        return MECHANISMS[self.mechanism](scores)


def _random_scores(moments: Moments, scored: Moments) -> Found:
    """Both kernels without t and the bias, the tangent kernel's in all."""

    def total(moment: Array) -> Array:
        return jnp.sum(moment, axis=(-2, -1), keepdims=True)

    k, theta = moments.nngp, moments.ntk
    ks, thetas = scored.nngp, scored.ntk
    squares = total(ks * k)
    nngp = ks * squares
    # Four layers of weights have the same share each; three ways lead further down.
    further = thetas * squares + ks * total(thetas * k + ks * theta)
    own1 = scored.own1 * total(scored.own1 * moments.own1)
    own2 = scored.own2 * total(scored.own2 * moments.own2)
    return nngp, 4 * nngp + further, own1, own2
