import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow import models
from ntkflow.infinite import (
    Abs,
    Antisymmetric,
    AvgPool,
    Conv,
    Dense,
    Dropout,
    Elementwise,
    Erf,
    Flatten,
    Gelu,
    GlobalAvgPool,
    LayerNorm,
    LeakyRelu,
    Relu,
    Residual,
    Scaled,
    Sequential,
    Sign,
    Sin,
    Tanh,
    from_module,
    monte_carlo,
    to_module,
)
from ntkflow.infinite._finite import Pointwise

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

KEY = jax.random.key(11)
IMAGE = (3, 5, 5)


def same(found, layers):
    numbers, structure = jax.tree.flatten(eqx.filter(found, eqx.is_array_like))
    expected, as_expected = jax.tree.flatten(
        eqx.filter(Sequential(layers), eqx.is_array_like)
    )
    assert structure == as_expected
    np.testing.assert_allclose(numbers, expected, rtol=1e-15)


def drawn(fan_in, units, use_bias=True):
    """What equinox draws: uniform within 1/√fan_in."""
    return Dense(
        3**-0.5,
        (3 * fan_in) ** -0.5 if use_bias else 0.0,
        "standard",
        units,
        use_bias=use_bias,
    )


def mlp(**options):
    return models.MLP(3, 2, 8, 2, key=KEY, **options)


@pytest.mark.parametrize("parameterization", ["ntk", "standard", "mean_field"])
def test_models_are_read_as_their_layers(parameterization):
    # Only the readout of a mean-field network is divided by the width.
    hidden = "standard" if parameterization == "standard" else "ntk"
    options = {"parameterization": parameterization, "w_std": 1.3, "b_std": 0.2}
    end = Dense(1.3, 0.2, parameterization, 2)

    def dense(width=8, **more):
        return Dense(1.3, 0.2, hidden, width, **more)

    same(
        from_module(mlp(activation="erf", **options)),
        [dense(), Erf(), dense(), Erf(), end],
    )
    model = models.ResidualMLP(3, 2, 8, 2, "relu", key=KEY, **options)
    block = Residual(Sequential([Relu(), dense()]), 2**-0.5)
    same(from_module(model), [dense(), block, block, end])
    model = models.DeepLinear(3, 2, 8, 1, parameterization, 1.3, key=KEY)
    linear = {"w_std": 1.3, "use_bias": False}
    same(
        from_module(model),
        [
            Dense(parameterization=hidden, width=8, **linear),
            Dense(parameterization=parameterization, width=2, **linear),
        ],
    )
    conv = Conv(3, w_std=1.3, b_std=0.2, parameterization=hidden, width=8)
    for pooling, pool in (("average", GlobalAvgPool()), ("flatten", Flatten())):
        model = models.CNN(IMAGE, 2, 8, 1, pooling=pooling, key=KEY, **options)
        same(from_module(model), [conv, Relu(), pool, end])


def test_wrappers_are_read_as_layers():
    model = mlp(activation="relu")
    inner = from_module(model)
    same(from_module(models.Scaled(model, 3.0)), [Scaled(inner, 3.0)])
    uncentered = models.Scaled(model, 3.0, centered=False)
    same(from_module(uncentered), [Scaled(inner, 3.0, centered=False)])
    same(from_module(models.Antisymmetric(model)), [Antisymmetric(inner)])
    first, *others = inner.layers
    frozen = eqx.tree_at(
        lambda m: m.layers, model, (models.Frozen(model.layers[0]), *model.layers[1:])
    )
    weights = first.weights
    fixed = Dense(weights.w_std, weights.b_std, width=8, trainable=False)
    same(from_module(frozen), [fixed, *others])


def test_wrappers_scale_kernels(key):
    x = jax.random.normal(key, (3, 3))
    # Linear in every weight: the mean over seeds has no correction at any width.
    inner = Sequential([Dense(), Dense()])
    plain = inner(x)
    for layer, nngp, ntk in (
        (Scaled(inner, 3.0), 0.0, 9.0),
        (Scaled(inner, 3.0, centered=False), 9.0, 9.0),
        (Antisymmetric(inner), 0.0, 1.0),
    ):
        found = Sequential([layer])(x)
        np.testing.assert_allclose(found.nngp, nngp * plain.nngp, rtol=1e-14)
        np.testing.assert_allclose(found.ntk, ntk * plain.ntk, rtol=1e-14)
        module = to_module(Sequential([layer]), (3,), width=4, out_size=2, key=key)
        bare = to_module(inner, (3,), width=4, out_size=2, key=jax.random.split(key)[0])
        assert module(x[0]).shape == bare(x[0]).shape == (2,)
        assert bool(nngp) == bool(jnp.any(module(x[0])))


def test_equinox_modules_are_read_as_their_layers():
    split = jax.random.split(KEY, 5)
    model = eqx.nn.Sequential([
        eqx.nn.Conv2d(3, 8, (3, 1), padding="SAME", key=split[0]),
        eqx.nn.Lambda(jax.nn.relu),
        eqx.nn.AvgPool2d(2, 2),
        eqx.nn.Conv2d(8, 4, 3, stride=2, use_bias=False, key=split[1]),
        eqx.nn.LayerNorm((4, 1, 1), use_weight=False, use_bias=False),
        eqx.nn.Lambda(jnp.tanh),
        eqx.nn.Dropout(0.25),
        eqx.nn.AdaptiveAvgPool2d(1),
        eqx.nn.Lambda(jnp.ravel),
        eqx.nn.Identity(),
        eqx.nn.MLP(4, 2, 6, 2, final_activation=jnp.sin, key=split[2]),
    ])
    first = {"w_std": 3**-0.5, "parameterization": "standard"}
    same(
        from_module(model),
        [
            Conv((3, 1), (1, 1), "SAME", (1, 1), b_std=27**-0.5, width=8, **first),
            Relu(),
            AvgPool((2, 2), (2, 2)),
            Conv(
                (3, 3),
                (2, 2),
                "VALID",
                (1, 1),
                b_std=0.0,
                width=4,
                use_bias=False,
                **first,
            ),
            LayerNorm(over_positions=True),
            Tanh(),
            Dropout(0.75),
            GlobalAvgPool(),
            Flatten(),
            drawn(4, 6),
            Relu(),
            drawn(6, 6),
            Relu(),
            drawn(6, 2),
            Sin(),
        ],
    )


def test_scanned_layers_are_read_one_by_one():
    options = {"activation": jnp.tanh, "use_bias": False, "key": KEY}
    scanned = eqx.nn.MLP(3, 2, 4, 3, scan=True, **options)
    same(from_module(scanned), from_module(eqx.nn.MLP(3, 2, 4, 3, **options)).layers)


def test_padding_by_numbers_is_read_by_its_name():
    for padding, mode, expected in (
        (1, "ZEROS", "SAME"),
        (1, "CIRCULAR", "CIRCULAR"),
        (((1, 1), (1, 1)), "ZEROS", "SAME"),
        ("VALID", "ZEROS", "VALID"),
        (0, "CIRCULAR", "VALID"),
    ):
        conv = eqx.nn.Conv2d(2, 4, 3, padding=padding, padding_mode=mode, key=KEY)
        assert from_module(conv).layers[0].padding == expected


@pytest.mark.parametrize(
    ("function", "layer"),
    [
        (models.ACTIVATIONS["gelu"], Gelu()),
        (lambda x: jax.nn.gelu(x, approximate=False), Gelu()),
        (lambda x: jnp.maximum(x, 0.0), Relu()),
        (lambda x: jnp.where(x > 0, x, -x), Abs()),
        (functools.partial(jax.nn.leaky_relu, negative_slope=0.25), LeakyRelu(0.25)),
        (jnp.sign, Sign()),
        (jax.nn.gelu, Elementwise(jax.nn.gelu)),
        (jnp.ravel, Flatten()),
        (lambda x: jnp.mean(x, axis=(1, 2)), GlobalAvgPool()),
        (lambda x: x.reshape(3, 25).mean(1), GlobalAvgPool()),
        (Pointwise(Erf().function), Erf()),
    ],
)
def test_functions_are_told_by_their_values(function, layer):
    same(from_module(function, IMAGE), [layer])


def test_identity_is_no_layer():
    linear = eqx.nn.Linear(3, 2, key=KEY)
    model = eqx.nn.Sequential([linear, eqx.nn.Lambda(lambda x: 1.0 * x)])
    same(from_module(model), [drawn(3, 2)])


def test_bias_of_zeros_is_read_as_such():
    linear = eqx.nn.Linear(3, 2, key=KEY)
    linear = eqx.tree_at(lambda m: m.bias, linear, jnp.zeros(2))
    same(from_module(linear), [Dense(3**-0.5, 0.0, "standard", 2)])


def test_built_networks_are_read_back():
    layers = [Dense(1.2, 0.3, width=4), Erf(), Flatten(), Dense(0.9, 0.0, width=2)]
    module = to_module(Sequential(layers), (3, 5), width=4, out_size=2, key=KEY)
    same(from_module(module), layers)


def sequence(*layers):
    return eqx.nn.Sequential([
        layer if isinstance(layer, eqx.Module) else eqx.nn.Lambda(layer)
        for layer in layers
    ])


class Custom(eqx.Module):
    def __call__(self, x):
        return x


LINEAR = eqx.nn.Linear(4, 4, key=KEY)
CONV = functools.partial(eqx.nn.Conv2d, 4, 4, 3, key=KEY)


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        (sequence(LINEAR, eqx.nn.MaxPool2d(2)), [r"layers\[1\]", "maximum"]),
        (sequence(LINEAR, jnp.tanh, LINEAR), [r"layers\[2\]", "share"]),
        (sequence(LINEAR, eqx.nn.LayerNorm(4)), [r"layers\[1\]", "use_weight=False"]),
        (sequence(LINEAR, jax.nn.softmax), [r"layers\[1\]\.fn", "neither elementwise"]),
        (sequence(LINEAR, eqx.nn.PReLU()), [r"layers\[1\]", "slope"]),
        (sequence(CONV(), LINEAR), [r"layers\[1\]", "takes vectors"]),
        (sequence(lambda x: x.reshape(7)), [r"layers\[0\]\.fn", "x_shape"]),
        (sequence(lambda x: jnp.mean(x, axis=1)), ["which axes are positions"]),
        (CONV(groups=2), ["the model", "groups"]),
        (CONV(padding=2), ["padding"]),
        (CONV(padding=1, stride=2), ["padding"]),
        (CONV(padding=1, padding_mode="REFLECT"), ["REFLECT"]),
        (eqx.nn.AvgPool2d(2, use_ceil=True), ["use_ceil"]),
        (eqx.nn.AdaptiveAvgPool2d(2), ["target_shape"]),
        (eqx.nn.GRUCell(3, 4, key=KEY), ["every step"]),
        (eqx.nn.MultiheadAttention(2, 4, key=KEY), ["softmax"]),
        (eqx.nn.Embedding(5, 4, key=KEY), ["one_hot"]),
        (eqx.nn.MLP("scalar", 2, 4, 1, key=KEY), ["in_size=1"]),
        (eqx.nn.MLP(3, 2, 4, 1, eqx.nn.PReLU(), key=KEY), ["activation", "parameters"]),
        (models.DiagonalLinear(3), ["not at random"]),
        (Custom(), ["subclass"]),
        (models.Frozen(3.0), ["tree", "not called"]),
        (eqx.nn.Identity(), ["identity"]),
    ],
)
def test_what_cannot_be_read_is_named_with_the_reason(model, parts):
    with pytest.raises(ValueError, match=parts[0]) as caught:
        from_module(model)
    for part in parts[1:]:
        assert part in str(caught.value)


def test_weights_that_equinox_did_not_draw_are_refused():
    for factor in (1.5, 0.3):
        linear = eqx.nn.Linear(100, 50, key=KEY)
        linear = eqx.tree_at(lambda m: m.weight, linear, factor * linear.weight)
        with pytest.raises(ValueError, match=r"layers\[0\]\.weight is not as"):
            from_module(sequence(linear))


def test_shape_of_an_example_is_checked():
    with pytest.raises(ValueError, match="fails on one input of shape"):
        from_module(LINEAR, (3,))
    with pytest.raises(ValueError, match="x_shape is the shape"):
        from_module(LINEAR, (0,))


def test_abstract_modules_are_read_without_their_values():
    model = eqx.filter_eval_shape(eqx.nn.Linear, 3, 2, key=KEY)
    same(from_module(model), [drawn(3, 2)])


def cnn(key):
    first, second = jax.random.split(key)
    return sequence(
        eqx.nn.Conv2d(3, WIDTH, 3, padding=1, key=first),
        jax.nn.relu,
        eqx.nn.AdaptiveAvgPool2d(1),
        jnp.ravel,
        eqx.nn.Linear(WIDTH, OUTPUTS, key=second),
    )


def normalized(key):
    first, second, third = jax.random.split(key, 3)
    return sequence(
        eqx.nn.Linear(27, WIDTH, key=first),
        eqx.nn.LayerNorm(WIDTH, use_weight=False, use_bias=False),
        jax.nn.gelu,
        eqx.nn.Linear(WIDTH, WIDTH, use_bias=False, key=second),
        jnp.tanh,
        eqx.nn.Linear(WIDTH, OUTPUTS, key=third),
    )


WIDTH, OUTPUTS = 128, 16
SLOW = {
    "perceptron, doubled": lambda key: models.Scaled(
        models.MLP(27, OUTPUTS, WIDTH, 2, "erf", key=key), 2.0, centered=False
    ),
    "CNN with average": lambda key: models.CNN((3, 3, 3), OUTPUTS, WIDTH, 1, key=key),
    "deep linear": lambda key: models.DeepLinear(27, OUTPUTS, WIDTH, 2, key=key),
    "equinox with normalization": normalized,
    "equinox MLP": lambda key: eqx.nn.MLP(27, OUTPUTS, WIDTH, 2, key=key),
    "equinox CNN": cnn,
    "mean-field residual": lambda key: models.ResidualMLP(
        27, OUTPUTS, WIDTH, 2, "relu", "mean_field", key=key
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_kernels_are_those_of_the_module(name, key):
    make = SLOW[name]
    shape = (3, 3, 3) if "CNN" in name else (27,)
    x = jax.random.normal(key, (3, *shape))
    expected = from_module(make(key))(x)
    found = monte_carlo(make, x, seeds=40, key=key)
    for kernel in ("nngp", "ntk"):
        limit = getattr(expected, kernel)
        scale = jnp.abs(limit).max()
        gap = jnp.abs(getattr(found, kernel) - limit)
        error = 5 * getattr(found, f"{kernel}_error")
        assert (gap <= error + 8 * scale / WIDTH).all()
        assert (gap + error <= 0.5 * scale).all()
