"""Blocks of a kernel between two functions of a network, against explicit Jacobians."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkflow as nf
from ntkflow.kernels import _tiles
from ntkflow.kernels._choose import METHODS
from ntkflow.kernels._compute import request_of
from ntkflow.kernels._example import Example
from ntkflow.kernels._factors import choose_factors
from ntkflow.models import named_leaves, partition

from ..compilation import QUICK
from ..tolerances import roundoff

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

MODEL = nf.models.MLP(1, 1, 6, 2, key=jax.random.key(2))
X = jnp.linspace(-1.0, 1.0, 3)[:, None]
POINTS = jnp.linspace(-0.8, 0.9, 5)[:, None]


def value(model, x):
    return model(x)


def residual(model, x):
    """u'' + u at one point; its reverse derivatives use weights in two ways."""

    def u(s):
        return model(s[None])[0]

    return (jax.grad(jax.grad(u))(x[0]) + u(x[0]))[None]


def forward(model, x):
    """(u'' − sin u, u') by forward derivatives, at several positions of a weight."""

    def u(s):
        return model(s[None])[0]

    def slope(s):
        return jax.jvp(u, (s,), (jnp.ones_like(s),))[1]

    second = jax.jvp(slope, (x[0],), (jnp.ones_like(x[0]),))[1]
    return jnp.stack([second - jnp.sin(u(x[0])), slope(x[0])])


FUNCTIONS = {"value": value, "residual": residual, "forward": forward}
PAIRS = [("value", "residual"), ("residual", "forward"), ("forward", "value")]
FORMULAS = {"full": "akp,blp->akbl", "diagonal": "akp,bkp->abk", "trace": "akp,bkp->ab"}


def jacobians(function, model, x, trainable=None):
    """By leaf [N, K, size]: all outputs of all examples, by `jacrev` at once."""
    params, static = partition(model, trainable)

    def outputs(p):
        return jax.vmap(lambda xi: function(eqx.combine(p, static), xi))(x)

    found = jax.jit(jax.jacrev(outputs), compiler_options=QUICK)(params)
    return {
        name: np.asarray(leaf).reshape(*leaf.shape[:2], -1)
        for name, leaf in named_leaves(found)
    }


def explicit(a, b, model=MODEL, x1=X, x2=POINTS, *, outputs="full", trainable=None):
    """By leaf, the Jacobians of both functions multiplied."""
    rows = jacobians(a, model, x1, trainable)
    columns = jacobians(b, model, x2, trainable)
    return {
        name: np.einsum(FORMULAS[outputs], rows[name], columns[name]) for name in rows
    }


def close(found, expected, terms=300):
    assert np.shape(found) == np.shape(expected)
    error = np.linalg.norm(np.asarray(found) - expected)
    assert error <= roundoff(terms) * np.linalg.norm(expected)


@pytest.fixture(scope="module")
def blocks():
    """By the names of two functions, the parts of their block by explicit Jacobians."""
    return {pair: explicit(*(FUNCTIONS[name] for name in pair)) for pair in PAIRS}


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("method", [*METHODS, "auto"])
def test_block_is_the_product_of_both_jacobians(method, pair, blocks):
    a, b = (FUNCTIONS[name] for name in pair)
    options = {"apply": (a, b), "outputs": "full", "method": method}
    parts = nf.ntk(MODEL, X, POINTS, by_leaf=True, **options)
    expected = blocks[pair]
    assert list(parts) == list(expected)
    whole = sum(expected.values())
    scale = np.linalg.norm(whole)
    for name, part in parts.items():
        assert part.shape == expected[name].shape
        assert np.linalg.norm(part - expected[name]) <= roundoff(300) * scale
    close(nf.ntk(MODEL, X, POINTS, **options), whole)


@pytest.mark.parametrize("outputs", ["full", "diagonal", "trace"])
@pytest.mark.parametrize("method", METHODS)
def test_every_layout_pairs_outputs_of_both(method, outputs):
    def swapped(model, x):
        return jnp.tanh(forward(model, x)[::-1])

    found = nf.ntk(
        MODEL, X, POINTS, apply=(forward, swapped), outputs=outputs, method=method
    )
    close(found, sum(explicit(forward, swapped, outputs=outputs).values()))


@pytest.mark.parametrize("method", METHODS)
def test_two_functions_at_the_same_points(method):
    """Without `x2`: K_ur and K_ru are transposes, and neither is symmetric itself."""
    options = {"outputs": "full", "method": method}
    block = nf.ntk(MODEL, X, apply=(value, forward), **options)
    close(block, sum(explicit(value, forward, x2=X).values()))
    mirrored = nf.ntk(MODEL, X, apply=(forward, value), **options)
    close(mirrored, np.transpose(block, (2, 3, 0, 1)))


def test_blocks_are_those_of_the_kernel_of_both():
    def both(model, x):
        return jnp.concatenate([value(model, x), forward(model, x)])

    joint = nf.ntk(MODEL, X, POINTS, apply=both, outputs="full")
    block = nf.ntk(MODEL, X, POINTS, apply=(value, forward), outputs="full")
    close(block, np.asarray(joint[:, :1, :, 1:]))


def test_a_pair_of_one_function_is_that_function():
    """So its kernel is symmetric to the last bit."""
    kernel = nf.ntk(MODEL, X, apply=(residual, residual))
    np.testing.assert_array_equal(kernel, nf.ntk(MODEL, X, apply=residual))
    np.testing.assert_array_equal(kernel, kernel.T)


@pytest.mark.parametrize("method", METHODS)
def test_functions_may_take_examples_of_two_kinds(method):
    """A residual with a coefficient beside each point."""
    x2 = jnp.column_stack([POINTS, POINTS**2])

    def weighted(model, x):
        return x[1] * forward(model, x[:1])

    found = nf.ntk(
        MODEL, X, x2, apply=(value, weighted), outputs="full", method=method
    )
    close(found, sum(explicit(value, weighted, x2=x2).values()))


@pytest.mark.parametrize("method", METHODS)
def test_filters_hold_for_both(method):
    none = jax.tree.map(lambda _: False, MODEL)
    middle = eqx.tree_at(lambda m: m.layers[1].weight, none, replace=True)
    options = {"apply": (value, forward), "outputs": "full", "trainable": middle}
    expected = explicit(value, forward, trainable=middle)
    assert list(expected) == ["layers[1].weight"]
    found = nf.ntk(MODEL, X, POINTS, method=method, **options)
    close(found, sum(expected.values()))


@pytest.mark.parametrize("method", METHODS)
def test_tiles_of_two_functions_give_the_block_within_any_bound(method, monkeypatch):
    seen = []
    plan = _tiles.plan_tiles

    def spy(*args):
        seen.append(plan(*args))
        return seen[-1]

    monkeypatch.setattr(_tiles, "plan_tiles", spy)
    x1, x2 = (jnp.linspace(-1.0, 1.0, n)[:, None] for n in (9, 7))
    expected = sum(explicit(forward, value, x1=x1, x2=x2).values())
    options = {"outputs": "full", "method": method}
    for bound in (30_000, 60_000):

        def fresh(model, x):
            return forward(model, x)

        found = nf.ntk(MODEL, x1, x2, apply=(fresh, value), max_bytes=bound, **options)
        close(found, expected)
    if method != "vector_products":
        assert seen[0].rows < 9
        assert not seen[0].kept
        assert seen[-1].kept


def test_leaves_are_matched_use_by_use():
    """Factored where both functions read a weight alike, else through its Jacobian."""
    model = {"w": jnp.ones((3, 3)), "v": jnp.ones((3, 3)), "b": jnp.ones(3)}
    halves = jnp.linspace(0.1, 1.0, 6).reshape(2, 3)
    params, static = partition(model)
    names = [name for name, _ in named_leaves(params)]

    def straight(m, x):
        return m["w"] @ jnp.sin(x) + m["v"][:2].sum(0) + m["b"]

    def turned(m, x):
        return m["w"].T @ x + m["v"][2:].sum(0)

    def half(m, x):
        return m["w"][:2] @ jnp.tanh(m["w"] @ x) + m["v"][:1] @ x

    def forms(a, b, method="auto"):
        request = request_of(
            Example(static, a),
            params,
            halves,
            halves,
            Example(static, b),
            outputs="full",
            max_bytes=10**9,
            by_leaf=True,
        )
        rows, columns = choose_factors(request, len(names))
        assert rows.forms == columns.forms
        both = zip(rows.groups, columns.groups, strict=True)
        found = nf.ntk(
            model, halves, apply=(a, b), outputs="full", by_leaf=True, method=method
        )
        for name, part in explicit(a, b, model, halves, halves).items():
            np.testing.assert_allclose(found[name], part, atol=roundoff(100))
        return dict(zip(names, both, strict=True))

    with_itself = forms(straight, lambda m, x: 2.0 * straight(m, x), "structured")
    assert all(len(rows) == len(columns) == 1 for rows, columns in with_itself.values())
    mixed = forms(straight, turned, "structured")
    assert mixed["['w']"] == (None, None)  # beside its own transpose
    assert mixed["['v']"] == ((), ())  # other rows of it
    assert mixed["['b']"] == ((), ())  # unknown to one of them
    assert forms(half, turned, "structured")["['w']"] == (None, None)
