import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.infinite import (
    Concatenate,
    Dense,
    Flatten,
    Identity,
    Product,
    Relu,
    Residual,
    Sequential,
    Sum,
    monte_carlo,
    to_module,
)
from ntkflow.infinite._compute import Examples, moments_of
from tests.tolerances import roundoff

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

N, C, WIDTH = 3, 4, 5


@pytest.fixture(scope="module")
def x(key):
    return jax.random.normal(key, (N, C))


def moments(x, pairs=False, mask=None):
    examples = Examples(x, mask, jnp.arange(x.shape[0], dtype=jnp.int32))
    return moments_of(examples, examples, pairs)


def linear(w_std, **options):
    return Dense(w_std, **{"use_bias": False, **options})


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_linear_blocks_are_a_power(x, scale):
    depth, w_std = 6, 0.7
    block = Residual(linear(w_std), scale)
    found = Sequential([linear(1.0), *[block] * depth]).propagate(moments(x))
    # Euler's product for the exponential of the same equation in continuous depth.
    growth = 1 + scale**2 * w_std**2
    gram = x @ x.T / C
    rounded = {"rtol": roundoff(8 * depth), "atol": roundoff(8 * depth)}
    np.testing.assert_allclose(found.nngp, growth**depth * gram, **rounded)
    # Each of the branches has the share scale² w_std² growth^(depth - 1).
    share = depth * (growth - 1) / growth + 1
    np.testing.assert_allclose(found.ntk, share * growth**depth * gram, **rounded)
    assert found.gaussian


def test_joins_match_finite_networks(x, key):
    # Means of products of independent weights have no correction at any width.
    layers = Sequential([
        Concatenate([
            Product([linear(1.2, width=2), Dense(0.8, 0.5, width=2)]),
            Sum([Dense(0.6, 0.3, width=3), Residual(linear(0.9, width=3)).branch]),
            Identity(),
        ]),
        Residual(Dense(0.7, 0.4, width=2 + 3 + C), 0.5),
        Dense(1.1, 0.2),
    ])

    def make(key):
        return to_module(layers, (C,), width=WIDTH, out_size=2, key=key)

    expected = layers(x)
    found = monte_carlo(make, x, seeds=4000, key=key)
    assert (jnp.abs(found.nngp - expected.nngp) <= 5 * found.nngp_error).all()
    assert (jnp.abs(found.ntk - expected.ntk) <= 5 * found.ntk_error).all()


def test_sum_of_dense_branches_is_one_dense_layer(x):
    both = Sum([Dense(0.6, 0.3), Dense(0.8, 0.4)]).propagate(moments(x))
    one = Dense(1.0, 0.5).propagate(moments(x))
    np.testing.assert_allclose(both.nngp, one.nngp, rtol=roundoff(4), atol=roundoff(4))
    np.testing.assert_allclose(both.ntk, one.ntk, rtol=roundoff(4), atol=roundoff(4))
    assert both.gaussian


def test_branches_agree_on_what_pairs_of_positions_they_hold(x):
    images = jnp.stack([x, 2 * x, x + 1], axis=-1)
    layers = Sequential([Residual(Dense()), Flatten(), Dense()])
    without = layers.propagate(moments(images))
    with_pairs = layers.propagate(moments(images, pairs=True))
    np.testing.assert_allclose(with_pairs.ntk, without.ntk, rtol=roundoff(8))


def test_position_is_masked_where_no_branch_holds_it(x):
    images = jnp.stack([x, 2 * x, x + 1], axis=-1)
    mask = jnp.array([[True, True, False]] * N)
    found = Residual(Dense()).propagate(moments(images, mask=mask))
    assert (found.mask1 == mask).all()


def test_residual_after_a_dense_layer_is_a_random_branch():
    block = Sequential([Dense(), Residual(Sequential([Relu(), Dense()]))])
    assert block.is_random
    assert not Residual(Dense()).is_random
    assert not Sum([Identity(), Dense()]).is_random
    assert Sum([Dense(), block]).is_random
    assert Product([Dense(), Sequential([Dense(), Relu()])]).is_random
    assert not Product([Identity(), Sequential([Dense(), Relu()])]).is_random


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: Sum([Identity(), Identity()]), "4 K"),
        (lambda: Sum([Relu(), Sequential([Dense(), Relu()])]), r"\[0, 1\]"),
        (lambda: Product([Identity(), Relu()]), "not independent"),
        (lambda: Residual(Relu()), "random weights"),
        (lambda: Residual(Sequential([Dense(), Relu()])), "End it with"),
        (lambda: Residual(Dense(), -1.0), "scale"),
        (lambda: Sum([Dense()]), "two branches"),
        (lambda: Sum([Dense(), jnp.tanh]), "Identity()"),
        (lambda: Residual(jnp.tanh), "random weights"),
        (lambda: Concatenate([Dense(), Dense()], [1.0]), "weights"),
        (lambda: Concatenate([Dense(), Dense()], [1.0, 0.0]), "weights"),
    ],
)
def test_branches_that_cannot_be_joined_are_refused(make, part):
    with pytest.raises(ValueError, match=part):
        make()


@pytest.mark.parametrize(
    ("layer", "part"),
    [
        (Concatenate([Dense(), Dense(width=3)]), "share of the units"),
        (Sum([Dense(width=2), Dense(width=3)]), r"\[2, 3\] units"),
        (Product([Dense(width=2), Dense(width=3)]), r"\[2, 3\] units"),
        (Residual(Dense(width=3)), r"\[4, 3\] units"),
        (Sum([Dense(), Sequential([Flatten(), Dense()])]), "strides"),
    ],
)
def test_branches_that_do_not_fit_are_refused(x, layer, part):
    images = jnp.stack([x, 2 * x], axis=-1)
    with pytest.raises(ValueError, match=part):
        layer.propagate(moments(images))


@pytest.mark.parametrize(
    "layer",
    [
        Residual(Dense(width=C + 1)),
        Sum([Identity(), Dense()]),
        Concatenate([Dense(), Sequential([Flatten(), Dense()])]),
    ],
)
def test_finite_branches_that_do_not_fit_are_refused(layer, key):
    with pytest.raises(ValueError, match="the finite branch"):
        layer.build((C, 2), WIDTH, key=key)


def test_weights_of_units_stand_for_widths(x):
    branches = Dense(0.5, 0.1), Dense(1.5, 0.2)
    widths = Dense(0.5, 0.1, width=1), Dense(1.5, 0.2, width=3)
    given = Concatenate(branches, weights=[0.5, 1.5]).propagate(moments(x))
    read = Concatenate(widths).propagate(moments(x))
    np.testing.assert_allclose(given.ntk, read.ntk, rtol=roundoff(4))
    assert given.channels is None
    assert read.channels == 4
    assert not read.gaussian
