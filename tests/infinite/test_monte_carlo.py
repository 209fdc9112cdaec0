import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkflow as nf
from ntkflow.infinite import (
    Dense,
    Flatten,
    Relu,
    Residual,
    Sequential,
    monte_carlo,
    to_module,
)
from tests.tolerances import roundoff

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

LAYERS = Sequential([
    Dense(1.3, 0.2),
    Residual(Sequential([Relu(), Dense(1.1, 0.3)]), 0.7),
    Dense(0.9, 0.1),
])


def test_one_pass_gives_mean_and_standard_error(key):
    x1, x2 = jnp.split(jax.random.normal(key, (5, 3)), [2])
    seeds = 6

    def make(key):
        return nf.models.MLP(3, 2, 4, 1, key=key)

    found = monte_carlo(make, x1, x2, seeds=seeds, key=key)
    nngp, ntk = [], []
    for i in range(1, seeds + 1):
        model = make(jax.random.fold_in(key, i))
        f1, f2 = (jax.vmap(model)(x) for x in (x1, x2))
        nngp.append(f1 @ f2.T / 2)
        ntk.append(nf.ntk(model, x1, x2) / 2)
    rounded = {"rtol": roundoff(100), "atol": roundoff(100)}
    for name, values in (("nngp", nngp), ("ntk", ntk)):
        np.testing.assert_allclose(getattr(found, name), np.mean(values, 0), **rounded)
        error = np.std(values, 0, ddof=1) / seeds**0.5
        np.testing.assert_allclose(getattr(found, f"{name}_error"), error, **rounded)


def test_built_network_has_the_sizes_asked_for(key):
    module = to_module(LAYERS, (4,), width=7, out_size=3, key=key)
    assert module(jnp.ones(4)).shape == (3,)
    widths = {leaf.shape for leaf in jax.tree.leaves(eqx.filter(module, eqx.is_array))}
    assert widths == {(7, 4), (7,), (7, 7), (3, 7), (3,)}
    ends_fixed = Sequential([Dense(width=5), Sequential([Relu(), Dense(width=9)])])
    assert to_module(ends_fixed, (4,), width=7, key=key)(jnp.ones(4)).shape == (1,)


@pytest.mark.parametrize(
    ("layers", "options", "part"),
    [
        ([Dense(), Relu()], {}, "must be a Dense"),
        ([Dense()], {"in_shape": (4, 2)}, "ends with positions"),
        ([Flatten(), Dense()], {"in_shape": ()}, "in_shape"),
        ([Dense()], {"in_shape": (0,)}, "in_shape"),
        ([Dense()], {"width": 0}, "width"),
        ([Dense()], {"out_size": 0}, "out_size"),
    ],
)
def test_networks_that_cannot_be_built_are_refused(layers, options, part, key):
    options = {"in_shape": (4,), "width": 3} | options
    with pytest.raises(ValueError, match=part):
        to_module(Sequential(layers), key=key, **options)


def test_too_few_seeds_and_wrong_outputs_are_refused(key):
    x = jnp.ones((2, 3))
    with pytest.raises(ValueError, match="seeds"):
        monte_carlo(lambda key: eqx.nn.Linear(3, 2, key=key), x, seeds=1, key=key)
    with pytest.raises(ValueError, match=r"shape \[K\]"):
        monte_carlo(lambda key: jnp.sum, x, seeds=2, key=key)
