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

MODEL = nf.models.MLP(1, 1, 5, 1, key=jax.random.key(2))
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
PAIRS = [("value", "residual"), ("forward", "value")]
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
@pytest.mark.parametrize("method", METHODS)
def test_block_is_the_product_of_both_jacobians(method, pair, blocks):
    a, b = (FUNCTIONS[name] for name in pair)
    options = {"apply": (a, b), "outputs": "full", "method": method}
    parts = nf.ntk(MODEL, X, POINTS, by_leaf=True, **options)
    expected = blocks[pair]
    assert list(parts) == list(expected)
    scale = np.linalg.norm(sum(expected.values()))
    for name, part in parts.items():
        assert part.shape == expected[name].shape
        assert np.linalg.norm(part - expected[name]) <= roundoff(300) * scale


@pytest.mark.parametrize("outputs", ["diagonal", "trace"])
@pytest.mark.parametrize("method", METHODS)
def test_every_layout_pairs_outputs_of_both(method, outputs):
    def swapped(model, x):
        return jnp.tanh(forward(model, x)[::-1])

    found = nf.ntk(
        MODEL, X, POINTS, apply=(forward, swapped), outputs=outputs, method=method
    )
    close(found, sum(explicit(forward, swapped, outputs=outputs).values()))


def test_two_functions_at_the_same_points():
    """Without `x2`: K_ur and K_ru are transposes, and neither is symmetric itself."""
    options = {"outputs": "full"}
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

    found = nf.ntk(MODEL, X, x2, apply=(value, weighted), outputs="full", method=method)
    close(found, sum(explicit(value, weighted, x2=x2).values()))


def test_filters_hold_for_both(blocks):
    none = jax.tree.map(lambda _: False, MODEL)
    last = eqx.tree_at(lambda m: m.layers[1].weight, none, replace=True)
    options = {"apply": (forward, value), "outputs": "full", "trainable": last}
    expected = blocks["forward", "value"]["layers[1].weight"]
    close(nf.ntk(MODEL, X, POINTS, **options), expected)


BOUNDS = {"structured": 8_000, "contraction": 8_000, "vector_products": 40_000}


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
    options = {"outputs": "full", "method": method, "max_bytes": BOUNDS[method]}
    close(nf.ntk(MODEL, x1, x2, apply=(forward, value), **options), expected)
    if method != "vector_products":
        assert seen[-1].rows < 9
        assert not seen[-1].kept


def test_leaves_are_matched_use_by_use():
    """Factored where both functions read a weight alike, else through its Jacobian."""
    model = {"w": jnp.ones((3, 3)), "v": jnp.ones((3, 3)), "b": jnp.ones(3)}
    points = jnp.linspace(0.1, 1.0, 6).reshape(2, 3)
    params, static = partition(model)
    names = [name for name, _ in named_leaves(params)]

    wide = jnp.linspace(-1.0, 1.0, 6).reshape(3, 2)

    def straight(m, x):
        return m["w"] @ jnp.sin(x) + wide @ (m["v"][:2] @ x) + m["b"]

    def doubled(m, x):
        return jnp.tanh(straight(m, x))

    def turned(m, x):
        return m["w"].T @ x + wide[:, :1] @ (m["v"][2:] @ x)

    def overlapping(m, x):
        return m["v"][1:] @ x

    def groups(a, b):
        request = request_of(
            Example(static, a),
            params,
            points,
            points,
            Example(static, b),
            outputs="full",
            max_bytes=10**9,
            by_leaf=True,
        )
        rows, columns = choose_factors(request, len(names))
        assert rows.forms == columns.forms
        options = {"outputs": "full", "by_leaf": True, "method": "structured"}
        found = nf.ntk(model, points, apply=(a, b), **options)
        for name, part in explicit(a, b, model, points, points).items():
            np.testing.assert_allclose(found[name], part, atol=roundoff(100))
        both = zip(rows.groups, columns.groups, strict=True)
        return dict(zip(names, both, strict=True))

    alike = groups(straight, doubled)
    assert all(len(rows) == len(columns) == 1 for rows, columns in alike.values())
    mixed = groups(straight, turned)
    assert mixed["['w']"] == (None, None)  # a weight and its transpose
    assert mixed["['v']"] == ((), ())  # each reads other rows of it
    assert mixed["['b']"] == ((), ())  # unknown to one of them
    assert groups(straight, overlapping)["['v']"] == (None, None)


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (3, r"takes a function \(model, x\) -> \[K\] of one example, got a int"),
        ([value, forward], "got a list"),
        ((value, forward, value), "or a pair of them.*got 3"),
        ((), "got 0"),
        ((value, None), r"\(a, b\), b: .* got a NoneType.*lambda model, x: model\(x\)"),
        ((value, lambda m, x: {"u": m(x)}), r"b: .*must be one array \[K\]"),
        ((lambda m, x: m(x)[0], value), r"a: .*must have shape \[K\]"),
        ((value, lambda m, x: m(x, 1.0)), r"b: The model fails on one example"),
        ((value, forward), r"outputs='trace'.* a has 1 and b has 2.*outputs='full'"),
    ],
)
def test_wrong_pairs_are_refused(apply, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        nf.ntk(MODEL, X, POINTS, apply=apply)
    with pytest.raises(ValueError, match=message):
        nf.kernels.plan(MODEL, X, POINTS, apply=apply)
    with pytest.raises(ValueError, match=message):
        nf.kernels.stream(
            MODEL, X, POINTS, apply=apply, path=tmp_path / "kernel", progress=False
        )
    assert not (tmp_path / "kernel").exists()


def test_one_function_asks_for_examples_of_one_kind():
    with pytest.raises(ValueError, match="the same kind of examples"):
        nf.ntk(MODEL, X, jnp.ones((2, 2)), apply=value)


def test_an_operator_takes_one_function():
    with pytest.raises(ValueError, match=r"got a tuple.*ntk\(model, x1, x2, apply="):
        nf.NTKOperator(MODEL, X, apply=(value, forward))


def test_a_method_must_suit_both_functions():
    """The table names the methods that do; "auto" is one of them."""

    @jax.custom_vjp
    def held(z):
        return z

    held.defvjp(lambda z: (z, None), lambda _, g: (g,))

    def reverse_only(model, x):
        return held(model(x))

    for apply in ((reverse_only, value), (value, reverse_only)):
        options = {"apply": apply, "outputs": "full"}
        with pytest.raises(ValueError, match=r"only\. Use method='auto', or one of"):
            nf.ntk(MODEL, X, POINTS, method="vector_products", **options)
        planned = nf.kernels.plan(MODEL, X, POINTS, **options)
        assert set(planned.estimates) == {"contraction", "structured"}
        assert planned.shape == (3, 1, 5, 1)


def test_a_derivative_that_is_no_number_is_found_in_its_own_function():
    def root(model, x):
        return jnp.sqrt(jnp.abs(model(x) - model(POINTS[1])))

    with pytest.raises(ValueError, match="at example 1 of x2"):
        nf.ntk(MODEL, X, POINTS, apply=(value, root))


def test_a_stored_block_is_told_apart_from_that_of_another_pair(tmp_path):
    options = {"path": tmp_path, "max_bytes": 12_000, "outputs": "full"}
    stored = nf.kernels.stream(
        MODEL, X, POINTS, apply=(value, forward), progress=False, **options
    )
    expected = sum(explicit(value, forward).values())
    close(stored.to_numpy(), expected)
    assert stored.shape == (3, 1, 5, 2)
    with pytest.raises(ValueError, match="holds another kernel"):
        nf.kernels.stream(
            MODEL, X, POINTS, apply=(value, residual), progress=False, **options
        )
