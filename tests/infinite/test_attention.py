import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.infinite import (
    Attention,
    Dense,
    Embedding,
    Flatten,
    PositionalEmbedding,
    Sequential,
    monte_carlo,
    one_hot,
    to_module,
)
from ntkflow.infinite._compute import Examples, moments_of
from tests.tolerances import roundoff

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

N, C, T = 3, 4, 3
SCALES = {
    "w_query_std": 1.1,
    "w_key_std": 0.8,
    "w_value_std": 1.3,
    "w_out_std": 0.9,
    "b_std": 0.4,
}
ROUNDED = {"rtol": roundoff(30), "atol": roundoff(30)}
KINDS = [("linear", "softmax"), ("linear", "identity"), ("sqrt", "identity")]


@pytest.fixture(scope="module")
def x(key):
    return jax.random.normal(key, (N, C, T))


def moments(x, mask=None):
    examples = Examples(x, mask, jnp.arange(x.shape[0], dtype=jnp.int32))
    return moments_of(examples, examples, True)


def test_random_scores_give_the_loop_over_positions(x):
    found = Attention(**SCALES, scaling="sqrt", mechanism="identity").propagate(
        Dense().propagate(moments(x))
    )
    below = Dense().propagate(moments(x))
    k, theta = np.array(below.nngp), np.array(below.ntk)
    t = (1.1 * 0.8 * 1.3 * 0.9) ** 2
    nngp, ntk = np.full(k.shape, 0.16), np.full(k.shape, 0.16)
    for i, j, a, b, c, d in np.ndindex(N, N, T, T, T, T):
        # Queries, keys and values of positions: each one's own share, and what is
        # below it; the weights behind the heads besides.
        factors = [(k[i, j, a, b], theta[i, j, a, b])]
        factors += [(k[i, j, c, d], theta[i, j, c, d])] * 2
        whole = np.prod([value for value, _ in factors])
        nngp[i, j, a, b] += t * whole
        ntk[i, j, a, b] += t * whole
        for n, (value, tangent) in enumerate(factors):
            rest = np.prod([v for m, (v, _) in enumerate(factors) if m != n])
            ntk[i, j, a, b] += t * (value + tangent) * rest
    np.testing.assert_allclose(found.nngp, nngp, **ROUNDED)
    np.testing.assert_allclose(found.ntk, ntk, **ROUNDED)
    own = jnp.stack([found.nngp[i, i] for i in range(N)])
    np.testing.assert_allclose(found.own1, own, **ROUNDED)


def test_fixed_scores_give_the_loop_over_positions(x):
    below = Dense().propagate(moments(x))
    found = Attention(**SCALES).propagate(below)
    k, theta, own = (np.array(m) for m in (below.nngp, below.ntk, below.own1))
    s = (1.3 * 0.9) ** 2
    nngp, ntk = np.full(k.shape, 0.16), np.full(k.shape, 0.16)
    for i, j, a, b, c, d in np.ndindex(N, N, T, T, T, T):
        first, second = (np.exp(0.88 * own[n, p]) for n, p in ((i, a), (j, b)))
        share = s * first[c] / first.sum() * second[d] / second.sum()
        nngp[i, j, a, b] += share * k[i, j, c, d]
        ntk[i, j, a, b] += share * (2 * k[i, j, c, d] + theta[i, j, c, d])
    np.testing.assert_allclose(found.nngp, nngp, **ROUNDED)
    np.testing.assert_allclose(found.ntk, ntk, **ROUNDED)
    own = jnp.stack([found.nngp[i, i] for i in range(N)])
    np.testing.assert_allclose(found.own1, own, **ROUNDED)


@pytest.mark.parametrize(("scaling", "mechanism"), KINDS)
def test_one_position_is_a_power_of_the_kernel(x, scaling, mechanism):
    layer = Attention(scaling=scaling, mechanism=mechanism, use_bias=False)
    one = x[:, :, :1]
    found = layer.propagate(moments(one))
    k = (x[:, :, 0] @ x[:, :, 0].T / C)[:, :, None, None]
    own = jnp.diagonal(k[:, :, 0, 0])[:, None]
    expected = {"softmax": k, "identity": k * (own * own.T)[:, :, None, None]}[
        mechanism
    ]
    expected, layers = (k**3, 4) if scaling == "sqrt" else (expected, 2)
    np.testing.assert_allclose(found.nngp, expected, **ROUNDED)
    np.testing.assert_allclose(found.ntk, layers * expected, **ROUNDED)


@pytest.mark.parametrize(("scaling", "mechanism"), KINDS)
def test_masked_positions_are_as_if_cut_off(x, scaling, mechanism):
    mask = jnp.array([[True, True, False]] * N)
    layer = Attention(**SCALES, scaling=scaling, mechanism=mechanism)
    layers = Sequential([Dense(0.7, 0.3), layer, layer])
    cut = layers.propagate(moments(x[:, :, :2]))
    masked = layers.propagate(moments(x, mask))
    np.testing.assert_allclose(masked.nngp[:, :, :2, :2], cut.nngp, **ROUNDED)
    np.testing.assert_allclose(masked.ntk[:, :, :2, :2], cut.ntk, **ROUNDED)
    np.testing.assert_allclose(masked.own1[:, :2, :2], cut.own1, **ROUNDED)
    assert not masked.ntk[:, :, 2].any()


def test_random_scores_have_the_mean_kernels_of_any_finite_layer(x, key):
    # Products of independent weights have no correction at any width.
    attention = Attention(**SCALES, scaling="sqrt", mechanism="identity", heads=2)
    layers = Sequential([attention, Flatten(), Dense()])

    def make(key):
        return to_module(layers, (C, T), width=2, out_size=2, key=key)

    x = x[:2] / 2
    expected = layers(x)
    found = monte_carlo(make, x, seeds=8000, key=key)
    assert (jnp.abs(found.nngp - expected.nngp) <= 5 * found.nngp_error).all()
    assert (jnp.abs(found.ntk - expected.ntk) <= 5 * found.ntk_error).all()


def test_embeddings_add_their_covariance(x):
    places = np.arange(T)
    near = np.exp(-np.abs(places[:, None] - places[None, :]) / 2)
    below = Dense().propagate(moments(x))
    for covariance, r in ((None, np.eye(T)), (near, near)):
        layer = PositionalEmbedding(0.7, covariance)
        found = layer.propagate(below)
        for leaf in ("nngp", "ntk", "own1", "own2"):
            expected = np.asarray(getattr(below, leaf)) + 0.49 * r
            np.testing.assert_allclose(getattr(found, leaf), expected, **ROUNDED)
        assert found.gaussian
        # At equal positions alone, where nothing asks for pairs.
        layers = Sequential([Dense(), layer, Flatten(), Dense()])
        assert not layers.needs_pairs(False)
        with_pairs = layers.propagate(moments(x))
        np.testing.assert_allclose(layers(x).ntk, with_pairs.ntk, **ROUNDED)


def test_finite_embeddings_have_the_covariance(key):
    near = jnp.array([[1.0, 0.5, 0.2], [0.5, 1.0, 0.5], [0.2, 0.5, 1.0]])
    module, shape = PositionalEmbedding(0.7, near).build((4000, 3), 1, key=key)
    assert shape == (4000, 3)
    vectors = module(jnp.zeros(shape))
    # The variance of 4,000 products of normal variables.
    spread = 5 * 0.49 * (2 / 4000) ** 0.5
    np.testing.assert_allclose(vectors.T @ vectors / 4000, 0.49 * near, atol=spread)


def test_embeddings_are_drawn_apart_from_weights(key):
    """The draws of one would otherwise be those of the other, bit for bit."""
    layer = Attention(
        **SCALES, scaling="sqrt", mechanism="identity", positional=PositionalEmbedding()
    )
    module, _ = layer.build((C, T), 6, key=key)
    drawn = [np.ravel(leaf) for leaf in jax.tree.leaves(module)]
    first = [values[0] for values in drawn if values.size > 1]
    assert len(set(first)) == len(first)


def test_embeddings_need_a_sequence_of_their_length(x):
    with pytest.raises(ValueError, match="one axis of positions"):
        PositionalEmbedding().propagate(moments(x[..., None]))
    with pytest.raises(ValueError, match="sequence of 3"):
        PositionalEmbedding(1.0, jnp.eye(4)).propagate(moments(x))


def test_embedding_tells_tokens_apart():
    tokens = jnp.array([[0, 2, 1], [2, 2, 0]])
    x = one_hot(tokens, 4)
    assert x.shape == (2, 4, 3)
    equal = np.array(tokens[:, None, :, None] == tokens[None, :, None, :]) * 1.0
    found = Embedding(0.7).propagate(moments(x))
    np.testing.assert_allclose(found.nngp, 0.49 * equal, rtol=roundoff(4))
    np.testing.assert_allclose(found.ntk, 0.49 * equal, rtol=roundoff(4))
    found = Embedding(0.7, "standard").propagate(moments(x))
    np.testing.assert_allclose(found.nngp, 0.49 * equal, rtol=roundoff(4))
    np.testing.assert_allclose(found.ntk, equal, rtol=roundoff(4))
    assert found.gaussian


@pytest.mark.parametrize("parameterization", ["ntk", "standard"])
def test_finite_embedding_looks_up_vectors_of_its_scale(key, parameterization):
    module, shape = Embedding(0.7, parameterization).build((5, 3), 4000, key=key)
    assert shape == (4000, 3)
    vectors = module(one_hot(jnp.array([[1, 4, 1]]), 5)[0])
    # The variance of 4,000 squares of a normal variable.
    spread = 5 * 0.49 * (2 / 4000) ** 0.5
    np.testing.assert_allclose(
        vectors.T @ vectors / 4000,
        0.49 * jnp.array([[1.0, 0, 1], [0, 1, 0], [1, 0, 1]]),
        atol=spread,
    )


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: Attention(scaling="sqrt"), "no closed form"),
        (lambda: Attention(scaling="root"), "scaling"),
        (lambda: Attention(mechanism="relo"), "mechanism"),
        (lambda: Attention(scaling="sqrt", mechanism="abs"), "mean of abs"),
        (lambda: Attention(positional=1.0), "must be a PositionalEmbedding"),
        (lambda: PositionalEmbedding(-1.0), "w_std"),
        (lambda: PositionalEmbedding(1.0, jnp.ones((2, 3))), r"got shape \(2, 3\)"),
        (lambda: PositionalEmbedding(1.0, jnp.zeros((0, 0))), "covariance"),
        (lambda: PositionalEmbedding(1.0, -jnp.eye(2)), "semi-definite"),
        (lambda: PositionalEmbedding(1.0, jnp.triu(jnp.ones((2, 2)))), "symmetric"),
        (lambda: PositionalEmbedding(1.0, jnp.nan * jnp.eye(2)), "finite"),
        (lambda: Attention(w_key_std=-1.0), "w_key_std"),
        (lambda: Attention(heads=0), "heads"),
        (lambda: Attention(width=0), "width"),
        (lambda: Embedding(parameterization="mean_field"), "parameterization"),
        (lambda: one_hot(jnp.array([[0, 3]]), 3), "vocabulary"),
    ],
)
def test_attention_that_cannot_be_is_refused(make, part):
    with pytest.raises(ValueError, match=part):
        make()


def test_attention_needs_a_sequence(x):
    with pytest.raises(ValueError, match="one axis of positions"):
        Attention().propagate(moments(x[..., None]))
    with pytest.raises(ValueError, match="one axis of positions"):
        Attention().build((C, 2, 2), 8, key=jax.random.key(0))
    with pytest.raises(ValueError, match="first layer"):
        Sequential([Dense(), Embedding()]).propagate(moments(x))
