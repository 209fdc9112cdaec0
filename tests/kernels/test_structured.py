"""The structured method is exact for every module, and factors where it should."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import ntkflow as nf
from ntkflow.kernels import _factors
from ntkflow.kernels._example import Example, trace
from ntkflow.kernels._uses import group_uses
from ntkflow.kernels._walk import flatten

from ..tolerances import roundoff
from . import quick, twin
from .modules import CASES, D, Formula, bent, convolve


@pytest.fixture
def factored(monkeypatch):
    """Leaves as small as these would mostly go through their Jacobian: forbid it."""
    monkeypatch.setattr(_factors, "jacobian_flops", lambda *_: 1e30)
    monkeypatch.setattr(_factors, "nested_flops", lambda *_: 1e30)


@pytest.fixture
def nested(monkeypatch):
    """Every leaf whose uses are known is contracted from its operands outwards."""
    monkeypatch.setattr(_factors, "jacobian_flops", lambda *_: 1e30)
    monkeypatch.setattr(_factors, "factored_flops", lambda *_: 1e30)


@pytest.fixture
def assembled(monkeypatch):
    """The Jacobian of every leaf is formed."""
    monkeypatch.setattr(_factors, "factored_flops", lambda *_: 1e30)
    monkeypatch.setattr(_factors, "nested_flops", lambda *_: 1e30)


def distance(actual, expected, scale=None):
    return np.linalg.norm(actual - expected) / np.linalg.norm(
        expected if scale is None else scale
    )


@pytest.fixture(scope="module")
def contracted(key):
    """A module of `CASES`, its examples and its kernel, which no form has a part in."""

    @functools.cache
    def compute(name):
        model, x = CASES[name](key)
        parts = quick.ntk(model, x, outputs="full", method="contraction", by_leaf=True)
        return model, x, {leaf: np.asarray(part) for leaf, part in parts.items()}

    return compute


@pytest.mark.parametrize("form", ["factored", "nested", "assembled"])
@pytest.mark.parametrize("name", CASES)
def test_structured_matches_contraction(name, form, contracted, request):
    request.getfixturevalue(form)
    model, x, expected = contracted(name)
    parts = quick.ntk(model, x, outputs="full", method="structured", by_leaf=True)
    assert list(parts) == list(expected)
    # `in_low_precision` rounds to float32, at other places in each form.
    dtype = np.float32 if name == "in_low_precision" else np.float64
    total = sum(expected.values())
    for leaf, part in parts.items():
        error = distance(np.asarray(part), expected[leaf], total)
        assert error <= roundoff(100, dtype), f"{leaf}: {error}"


@pytest.mark.parametrize("outputs", ["diagonal", "trace"])
@pytest.mark.parametrize("name", ["two_layers", "tokens"])
@pytest.mark.usefixtures("factored")
def test_other_layouts_and_cross_kernels_match_loops(name, outputs, key):
    model, x = CASES[name](key)
    options = {"outputs": outputs, "method": "structured"}
    actual, expected = (
        quick.ntk(model, x, **options),
        twin.kernel(model, x, outputs=outputs),
    )
    assert distance(actual, expected) <= roundoff(100)
    actual = quick.ntk(model, x, 0.5 * x[:2], **options)
    expected = twin.kernel(model, x, 0.5 * x[:2], outputs=outputs)
    assert distance(actual, expected) <= roundoff(100)


@pytest.mark.parametrize("name", ["tokens", "attention", "ntk_mlp"])
def test_the_cheapest_mixture_of_forms_is_exact(name, key):
    model, x = CASES[name](key)
    actual = nf.ntk(model, x, outputs="full", method="structured")
    assert distance(actual, twin.kernel(model, x)) <= roundoff(100)


FACTORED = {
    "linear": {"w"},
    "repeated": {"w", "b", "scale", "shift"},
    "repeated_both_ways": {"b"},
    "repeated_in_scan": {"w", "b", "c"},
    "two_layers": {"w", "b", "v", "c"},
    "recurrence_unrolled": {"w", "v"},
    "recurrence_in_scan": {"w", "b"},
    "stacked_layers_in_scan": {"w"},
    "nested_scans": {"w", "v", "b"},
    "scanned_twice": {"w"},
    "carried": set(),
    "collected": set(),
    "constant_operand_in_scan": {"w"},
    "scaled_by_the_iteration": {"w"},
    "in_a_map": {"w"},
    "in_a_fori_loop": {"w", "b"},
    "batched_heads": {"w"},
    "heads_and_whole": set(),
    "looked_up": {"w"},
    "looked_up_and_multiplied": set(),
    "convolved_twice": {"w"},
    "convolved_and_multiplied": {"w"},
    "flipped": set(),
    "tied_to_its_transpose": set(),
    "matmul_and_elsewhere": set(),
    "weight_norm": set(),
    "scaled_transposed_negated": {"w"},
    "subtracted": {"w", "b"},
    "scaled_by_a_parameter": {"w"},
    "scaled_by_the_example": {"w"},
    "disjoint_slices": {"w"},
    "overlapping_slices": set(),
    "slice_and_whole": set(),
    "stacked_layers": {"w"},
    "reshaped": {"w"},
    "reshaped_twice_and_whole": set(),
    "contracted_over_two_axes": {"w"},
    "times_itself": set(),
    "times_its_transpose": {"w"},
    "unused_and_dead": {"w", "u"},
    "tokens": {"w", "v"},
    "tokens_on_the_right": {"w", "v"},
    "in_checkpoint": {"w", "b"},
    "in_nested_jit": {"w", "v"},
    "custom_jvp_with_a_weight": {"v"},
    "custom_jvp_between_weights": {"w", "v", "u"},
}


@pytest.mark.parametrize("name", FACTORED)
def test_leaves_are_factored_exactly_where_they_can_be(name, key):
    model, x = CASES[name](key)
    params, static = nf.models.partition(model)
    names = [n for n, _ in nf.models.named_leaves(params)]
    program = flatten(trace(Example(static), params, x).jaxpr, len(names))
    groups = group_uses(program, len(names))
    found = {n for n, g in zip(names, groups, strict=True) if g is not None}
    assert found == {f"weights['{leaf}']" for leaf in FACTORED[name]}


def test_bias_shares_the_products_of_its_weight(key):
    model, x = CASES["ntk_mlp"](key)
    params, static = nf.models.partition(model)
    leaves = jax.tree.leaves(params)
    program = flatten(trace(Example(static), params, x).jaxpr, len(leaves))
    groups = group_uses(program, len(leaves))
    taps = {group.taps for found in groups for group in found}
    assert len(leaves) == 6
    assert len(taps) == 3  # one for each layer


WEIGHTS = {"u": (D, D), "v": (D, D), "w": (D, D), "b": (D,), "s": ()}


def _layer_norm(h, gain):
    centered = h - jnp.mean(h)
    return gain * centered / jnp.sqrt(jnp.mean(centered**2) + 0.1)


BLOCKS = {
    "dense": lambda w, p, h: jnp.tanh(w @ h + p["b"]),
    "dense_right": lambda w, p, h: jnp.tanh(h @ w),
    "scaled": lambda w, p, h: (w / jnp.sqrt(2.0)) @ h * 0.5 - p["b"],
    "by_parameter": lambda w, p, h: (p["s"] * w) @ h,
    "residual": lambda w, p, h: h + 0.3 * jnp.tanh(w @ h),
    "layer_norm": lambda w, p, h: _layer_norm(h, p["b"]) + w[0],
    "weight_norm": lambda w, p, h: (w / jnp.linalg.norm(w)) @ h,
    "half": lambda w, p, h: jnp.concatenate([w[:2, :2] @ h[:2], w[2:, 2:] @ h[2:]]),
    "folded": lambda w, p, h: w.reshape(2, 2 * D).T.reshape(D, D) @ h,
    "tokens": lambda w, p, h: jnp.tanh(h.reshape(1, D) * jnp.ones((3, 1)) @ w)[1],
    "scan": lambda w, p, h: jax.lax.scan(
        lambda c, _: (jnp.tanh(w @ c + p["b"]), None), h, None, length=2
    )[0],
    "cond": lambda w, p, h: jax.lax.cond(
        h[0] > 0, lambda: jnp.tanh(w @ h), lambda: h * p["s"]
    ),
    "checkpoint": lambda w, p, h: jax.checkpoint(lambda a, c: jnp.tanh(a @ c))(w, h),
    "jit": lambda w, p, h: jax.jit(lambda a, c: jnp.tanh(a.T @ c) + p["b"])(w, h),
    "custom_jvp": lambda w, p, h: jnp.tanh(bent(w, h)),
    "relu": lambda w, p, h: jax.nn.relu(w @ h) + 0.1 * jax.nn.gelu(h),
    "attend": lambda w, p, h: jax.nn.softmax((w @ h)[:, None] * h[None, :]) @ h,
    "convolve": lambda w, p, h: jnp.convolve(h, w[0], mode="same"),
    "features": lambda w, p, h: jnp.tanh(
        convolve(w.reshape(D, 1, D, 1), h)[0, :, 0, 0]
    ),
    "layers": lambda w, p, h: jax.lax.scan(
        lambda c, row: (jnp.tanh(c + row * (p["u"] @ c)), None), h, w
    )[0],
    "gather": lambda w, p, h: h + w[jnp.argmax(h)],
}
COMPOSITIONS = st.lists(
    st.tuples(st.sampled_from(sorted(BLOCKS)), st.sampled_from("uvw")),
    min_size=1,
    max_size=4,
)


def check_composition(blocks, seed):
    keys = jax.random.split(jax.random.key(seed), len(WEIGHTS) + 1)
    weights = {
        name: jax.random.normal(k, shape)
        for (name, shape), k in zip(WEIGHTS.items(), keys[1:], strict=True)
    }
    x = jax.random.normal(keys[0], (3, D))

    def function(p, h):
        for block, weight in blocks:
            h = BLOCKS[block](p[weight], p, h)
        return h

    model = Formula(weights, function)
    expected = quick.ntk(model, x, outputs="full", method="contraction")
    actual = quick.ntk(model, x, outputs="full", method="structured")
    assert np.linalg.norm(actual - expected) <= 1e-13 * np.linalg.norm(expected)


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(COMPOSITIONS, st.integers(0, 1000))
def test_structured_matches_contraction_on_compositions(blocks, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_factors, "jacobian_flops", lambda *_: 1e30)
        check_composition(blocks, seed)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(COMPOSITIONS, st.integers(0, 1000))
def test_structured_matches_contraction_on_many_compositions(blocks, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_factors, "jacobian_flops", lambda *_: 1e30)
        check_composition(blocks, seed)


def test_structured_in_float32_is_as_accurate_as_contraction(key):
    model = nf.models.MLP(16, 5, 64, 3, key=key, dtype=jnp.float32)
    x = jax.random.normal(key, (10, 16), jnp.float32)
    wide = jax.tree.map(
        lambda a: a.astype(jnp.float64) if eqx.is_inexact_array(a) else a, model
    )
    exact = nf.ntk(wide, x.astype(jnp.float64), outputs="full", method="contraction")
    errors = {}
    for method in ("structured", "contraction"):
        found = nf.ntk(model, x, outputs="full", method=method)
        assert found.dtype == jnp.float32
        errors[method] = distance(np.asarray(found, np.float64), exact)
    depth = 3
    slack = 16 * np.finfo(np.float32).eps * np.sqrt(depth)
    assert errors["structured"] <= 2 * errors["contraction"] + slack


def test_structured_needs_a_small_part_of_the_operations(key):
    model = nf.models.MLP(64, 10, 128, 2, key=key)
    params, static = nf.models.partition(model)
    x = jax.random.normal(key, (6, 64))  # one tile: XLA counts the body of a loop once

    def flops(method):
        def build(p):
            return nf.ntk(eqx.combine(p, static), x, outputs="full", method=method)

        return jax.jit(build).lower(params).compile().cost_analysis()["flops"]

    # P = 25,000 numbers a Jacobian row against 266 cotangents.
    assert flops("structured") < flops("contraction") / 20
