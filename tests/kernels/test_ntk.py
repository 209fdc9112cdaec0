"""The kernel against loops and closed forms, in every layout, method and tiling."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkflow as nf
from ntkflow.kernels import _inputs, _tiles
from ntkflow.kernels._choose import METHODS

from ..tolerances import roundoff
from . import quick, twin
from .modules import CASES

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

LAYOUTS = ["full", "diagonal", "trace"]


def distance(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


@pytest.fixture(scope="module")
def case(key):
    return CASES["ntk_mlp"](key)


@pytest.fixture(scope="module")
def loops(case):
    """By layout, what loops over everything give: the kernel, and a crossed one."""
    model, x = case
    return {
        outputs: [
            twin.kernel_by_leaf(model, x, x2, outputs=outputs)
            for x2 in (None, 0.5 * x[:2])
        ]
        for outputs in LAYOUTS
    }


@pytest.mark.parametrize("outputs", LAYOUTS)
@pytest.mark.parametrize("method", METHODS)
def test_methods_match_a_loop_over_everything(method, outputs, case, loops):
    model, x = case
    options = {"outputs": outputs, "method": method, "by_leaf": True}
    parts = quick.ntk(model, x, **options)
    crossed = quick.ntk(model, x, 0.5 * x[:2], **options)
    for expected, found in zip(loops[outputs], (parts, crossed), strict=True):
        assert list(found) == list(expected)
        scale = np.linalg.norm(sum(expected.values()))
        for name, part in found.items():
            assert part.shape == expected[name].shape
            assert np.linalg.norm(part - expected[name]) <= roundoff(100) * scale


@pytest.mark.parametrize("method", METHODS)
def test_linear_model_has_the_gram_matrix_plus_one_for_its_bias(method, key):
    model = eqx.nn.Linear(5, 3, key=key)
    x1, x2 = jax.random.normal(key, (4, 5)), jax.random.normal(key, (6, 5))
    gram = np.asarray(x1) @ np.asarray(x2).T + 1.0
    full = nf.ntk(model, x1, x2, outputs="full", method=method)
    expected = np.einsum("ab,kl->akbl", gram, np.eye(3))
    assert distance(full, expected) <= roundoff(10)
    assert distance(nf.ntk(model, x1, x2, method=method), 3 * gram) <= roundoff(10)


@pytest.mark.parametrize("method", METHODS)
def test_two_layers_match_the_formula_derived_by_hand(method, key):
    """f = aᵀtanh(Wx/√d)/√n: Θ = Σ_i φ_iφ'_i/n + ⟨x,x'⟩/d Σ_i a_i²φ̇_iφ̇'_i/n."""
    width, d = 7, 3
    model = nf.models.MLP(d, 1, width, 1, b_std=0.0, use_bias=False, key=key)
    x = jax.random.normal(key, (5, d))
    w, a = (
        np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_array))
    )
    h = np.tanh(np.asarray(x) @ w.T / np.sqrt(d))
    slope = (1 - h**2) * a[0]
    expected = h @ h.T / width + (x @ x.T / d) * (slope @ slope.T) / width
    assert distance(nf.ntk(model, x, method=method), expected) <= roundoff(20)


@pytest.mark.parametrize("outputs", LAYOUTS)
@pytest.mark.parametrize("method", METHODS)
def test_tiles_give_the_same_kernel_within_any_bound(method, outputs, key):
    model = nf.models.MLP(3, 2, 5, 1, key=key)
    x1, x2 = jax.random.normal(key, (11, 3)), jax.random.normal(key, (8, 3))
    options = {"outputs": outputs, "method": method}
    whole, crossed = (
        quick.ntk(model, x1, **options),
        quick.ntk(model, x1, x2, **options),
    )
    least = 10_000 if method == "vector_products" else 5_000
    for max_bytes in (least, 2 * least):
        tiled = quick.ntk(model, x1, max_bytes=max_bytes, **options)
        assert distance(tiled, whole) <= roundoff(50)
        tiled = quick.ntk(model, x1, x2, max_bytes=max_bytes, **options)
        assert distance(tiled, crossed) <= roundoff(50)


@pytest.mark.parametrize("method", ["structured", "contraction"])
def test_bounds_of_the_test_above_cut_the_examples(method, key, monkeypatch):
    seen = []
    plan = _tiles.plan_tiles

    def spy(*args):
        seen.append(plan(*args))
        return seen[-1]

    monkeypatch.setattr(_tiles, "plan_tiles", spy)
    model, x = nf.models.MLP(3, 2, 5, 1, key=key), jax.random.normal(key, (11, 3))
    for bound in (5_000, 10_000, 10**9):
        nf.ntk(
            model,
            x,
            outputs="full",
            method=method,
            max_bytes=bound,
            apply=lambda m, xi: m(xi),
        )
    sizes = [tiling.rows for tiling in seen]
    assert sizes[0] < sizes[1] < sizes[2] == 11
    assert seen[2].kept
    if method == "contraction":
        assert not seen[0].kept


@pytest.fixture(scope="module")
def single(key):
    """A network in float32, examples, and by layout what loops give."""
    model = nf.models.MLP(7, 3, 9, 2, key=key, dtype=jnp.float32)
    x = jax.random.normal(key, (10, 7), jnp.float32)
    return model, x, {name: twin.kernel(model, x, outputs=name) for name in LAYOUTS}


@pytest.mark.parametrize("outputs", LAYOUTS)
@pytest.mark.parametrize("size", [1, 3, 4, 5, 10])
def test_symmetric_kernels_are_symmetric_to_the_last_bit(
    size, outputs, single, monkeypatch
):
    monkeypatch.setattr(_tiles, "_preferred", lambda *_: size)
    model, x, exact = single
    kernel = nf.ntk(model, x, outputs=outputs, apply=lambda m, xi: m(xi))
    axes = {"full": (2, 3, 0, 1), "diagonal": (1, 0, 2), "trace": (1, 0)}[outputs]
    assert np.array_equal(kernel, np.transpose(kernel, axes))
    assert distance(kernel, exact[outputs]) <= roundoff(100, np.float32)


@pytest.mark.parametrize("method", METHODS)
def test_kernel_is_positive_semidefinite_with_the_rank_of_its_parameters(method, key):
    model = nf.models.MLP(3, 2, 2, 1, key=key)  # 14 parameters
    kernel = nf.ntk(
        model, jax.random.normal(key, (12, 3)), outputs="full", method=method
    )
    values = np.linalg.eigvalsh(kernel.reshape(24, 24))
    noise = roundoff(24) * values[-1]
    assert values[0] >= -noise
    assert np.sum(values > noise) <= 14


def test_layouts_are_parts_of_the_full_kernel(case):
    model, x = case
    full = np.asarray(nf.ntk(model, x, outputs="full"))
    diagonal = np.einsum("akbk->abk", full)
    assert distance(nf.ntk(model, x, outputs="diagonal"), diagonal) <= roundoff(50)
    assert distance(nf.ntk(model, x), diagonal.sum(-1)) <= roundoff(50)


@pytest.mark.parametrize("method", METHODS)
def test_frozen_leaves_and_filters_leave_the_kernel(method, key):
    model = eqx.nn.MLP(3, 2, 5, 1, key=key)
    x = jax.random.normal(key, (4, 3))
    parts = quick.ntk(model, x, method=method, by_leaf=True)
    first = {"layers[0].weight", "layers[0].bias"}
    expected = sum(part for name, part in parts.items() if name in first)
    frozen = eqx.tree_at(lambda m: m.layers[1], model, replace_fn=nf.models.Frozen)
    assert distance(quick.ntk(frozen, x, method=method), expected) <= roundoff(50)
    mask = jax.tree.map(lambda _: False, model)
    mask = eqx.tree_at(
        lambda m: (m.layers[0].weight, m.layers[0].bias), mask, replace=(True, True)
    )
    filtered = quick.ntk(model, x, method=method, trainable=mask)
    assert distance(filtered, expected) <= roundoff(50)


@pytest.mark.parametrize("centered", [True, False])
def test_scaling_multiplies_the_kernel_by_the_square(centered, case):
    model, x = case
    scaled = nf.models.Scaled(model, alpha=3.0, centered=centered)
    assert distance(nf.ntk(scaled, x), 9.0 * nf.ntk(model, x)) <= roundoff(50)


@pytest.mark.parametrize("method", METHODS)
def test_apply_takes_the_kernel_of_a_differential_residual(method, key):
    model = eqx.nn.MLP(2, 1, 5, 2, activation=jnp.tanh, key=key)

    def residual(m, x):
        hessian = jax.hessian(lambda z: m(z)[0])(x)
        return jnp.stack([jnp.trace(hessian) - jnp.sin(x[0]), m(x)[0]])

    x = jax.random.normal(key, (3, 2))
    found = quick.ntk(model, x, outputs="full", method=method, apply=residual)
    assert distance(found, twin.kernel(model, x, apply=residual)) <= roundoff(300)


@pytest.mark.parametrize("method", METHODS)
def test_kernel_works_under_jit_vmap_and_both_derivatives(method, key):
    x = jax.random.normal(key, (4, 3))

    def build(k):
        return nf.models.MLP(3, 2, 5, 1, key=k)

    keys = jax.random.split(key, 3)
    batched = eqx.filter_vmap(lambda k: nf.ntk(build(k), x, method=method))(keys)
    single = jnp.stack([nf.ntk(build(k), x, method=method) for k in keys])
    assert distance(batched, single) <= roundoff(50)

    params, static = nf.models.partition(build(key))

    def energy(p):
        return jnp.sum(jnp.sin(nf.ntk(eqx.combine(p, static), x, method=method)))

    direction = jax.tree.map(jnp.cos, params)
    _, forward = jax.jit(lambda p, d: jax.jvp(energy, (p,), (d,)))(params, direction)
    slope = jax.tree.leaves(jax.jit(jax.grad(energy))(params))
    reverse = sum(
        jnp.sum(g * d) for g, d in zip(slope, jax.tree.leaves(direction), strict=True)
    )
    eps = 1e-5

    def moved(sign):
        return energy(jax.tree.map(lambda p, d: p + sign * eps * d, params, direction))

    difference = (moved(1) - moved(-1)) / (2 * eps)
    scale = abs(float(difference))
    # eps² times a third derivative of order one, and round-off over eps.
    assert abs(float(forward - difference)) <= 1e-7 * max(scale, 1.0)
    assert abs(float(forward - reverse)) <= roundoff(1000) * max(scale, 1.0)


def test_tiled_kernel_works_under_both_derivatives(key):
    model = nf.models.MLP(3, 2, 5, 1, key=key)
    params, static = nf.models.partition(model)
    x = jax.random.normal(key, (7, 3))

    def energy(p, bound):
        kernel = nf.ntk(eqx.combine(p, static), x, max_bytes=bound)
        return jnp.sum(jnp.sin(kernel))

    for bound in (5_000, 10_000):
        whole, tiled = (
            jax.tree.leaves(jax.grad(energy)(params, b)) for b in (10**9, bound)
        )
        for a, b in zip(whole, tiled, strict=True):
            np.testing.assert_allclose(a, b, atol=roundoff(1000))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_half_precision_accumulates_in_float32(method, dtype, key):
    model = nf.models.MLP(3, 2, 16, 1, key=key, dtype=dtype)
    x = jax.random.normal(key, (4, 3), dtype)
    kernel = nf.ntk(model, x, method=method)
    assert kernel.dtype == jnp.float32
    wide = jax.tree.map(
        lambda a: a.astype(jnp.float64) if eqx.is_inexact_array(a) else a, model
    )
    exact = twin.kernel(wide, x.astype(jnp.float64), outputs="trace")
    error = distance(np.asarray(kernel, np.float64), exact)
    assert error <= 4 * 16 * float(jnp.finfo(dtype).eps)


def test_numpy_examples_are_taken(case):
    model, x = case
    assert np.array_equal(nf.ntk(model, np.asarray(x)), nf.ntk(model, x))


def test_default_bound_is_a_part_of_the_memory():
    assert 2**20 < nf.kernels.default_max_bytes() < 2**50
    assert nf.kernels.default_max_bytes() == nf.kernels.default_max_bytes()


BAD = {
    "Unknown outputs 'ful'. Did you mean 'full'": {"outputs": "ful"},
    "Unknown method 'structure'. Did you mean 'structured'": {"method": "structure"},
    "positive whole number of bytes": {"max_bytes": 0},
    "max_bytes=10 is too small": {"max_bytes": 10},
    "same kind of examples": {"x2": jnp.ones((3, 7))},
    r"shape \[K\], got \[\]": {"apply": lambda m, x: jnp.sum(m(x))},
    r"shape \[K\], got \[3, 1\]": {"apply": lambda m, x: m(x)[:, None]},
    "one array": {"apply": lambda m, x: (m(x), x)},
    "outputs are complex": {"apply": lambda m, x: jax.lax.complex(m(x), m(x))},
    "no derivative": {"apply": lambda m, x: jnp.round(m(x)).astype(jnp.int32)},
    "No leaf": {"trainable": lambda leaf: False},
}


def test_what_is_no_array_or_no_number_is_refused(case):
    model, x = case
    # The checks themselves: type annotations, which tests enforce, come before them.
    for wrong in (np.asarray(x).tolist(), model):
        with pytest.raises(ValueError, match="x1 must be an array"):
            _inputs.check_examples.__wrapped__("x1", wrong)
    with pytest.raises(ValueError, match=r"must be a jax\.sharding\.Mesh"):
        _inputs.check_mesh.__wrapped__(8)
    for wrong in ("1GB", 0.5, -1):
        with pytest.raises(ValueError, match="whole number of bytes"):
            _inputs.check_bound.__wrapped__(wrong)


@pytest.mark.parametrize("message", BAD)
def test_bad_options_are_refused(message, case):
    model, x = case
    with pytest.raises(ValueError, match=message):
        nf.ntk(model, x, **BAD[message])


@pytest.mark.parametrize("method", ["contraction", "vector_products"])
def test_bounds_too_small_for_one_example_are_refused(method, case):
    model, x = case
    with pytest.raises(ValueError, match="too small"):
        nf.ntk(model, x, method=method, max_bytes=100)


def test_model_that_couples_examples_is_refused(key):
    model = eqx.nn.Sequential([
        eqx.nn.Linear(3, 2, key=key),
        eqx.nn.Lambda(lambda h: h - jax.lax.pmean(h, "batch")),
    ])
    with pytest.raises(ValueError, match="fails on one example of shape"):
        nf.ntk(model, jnp.ones((4, 3)))


def test_model_given_a_batch_is_refused(case):
    with pytest.raises(ValueError, match="fails on one example"):
        nf.ntk(case[0], jnp.ones((4, 2, 4)))


def test_model_that_cannot_be_called_is_refused(key):
    class Holder(eqx.Module):
        weight: jax.Array

    with pytest.raises(ValueError, match="cannot be called"):
        nf.ntk(Holder(jnp.ones(3)), jnp.ones((4, 3)))


def test_no_examples_are_refused(case):
    with pytest.raises(ValueError, match="at least one example"):
        nf.ntk(case[0], jnp.ones((0, 4)))


def test_complex_weights_are_refused(key):
    model = eqx.nn.Linear(3, 2, key=key, dtype=jnp.complex128)
    with pytest.raises(ValueError, match="complex"):
        nf.ntk(model, jnp.ones((4, 3)))
