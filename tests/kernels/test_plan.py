"""Plans say what will be done, and count its operations rightly."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkflow as nf
from ntkflow.kernels._count import count_flops

from ..tolerances import roundoff
from .modules import CASES


def count(function, *arguments):
    return count_flops(jax.make_jaxpr(function)(*arguments).jaxpr)


def test_operations_are_those_of_the_formula():
    w, x = jnp.ones((5, 7)), jnp.ones(7)
    assert count(lambda w, x: jnp.tanh(w @ x), w, x) == 2 * 5 * 7 + 5
    image, kernel = jnp.ones((1, 3, 8, 8)), jnp.ones((4, 3, 3, 3))

    def valid(kernel, image):
        return jax.lax.conv_general_dilated(image, kernel, (1, 1), "VALID")

    assert count(valid, kernel, image) == 2 * (4 * 6 * 6) * (3 * 3 * 3)
    square = jnp.ones((7, 7))

    def loop(w, x):
        return jax.lax.scan(lambda h, _: (w @ h, None), x, None, length=11)[0]

    assert count(loop, square, x) == 11 * 2 * 7 * 7


@pytest.mark.parametrize("outputs", ["full", "trace"])
def test_operations_are_those_xla_counts(outputs, key):
    model = nf.models.MLP(64, 10, 128, 2, key=key)
    params, static = nf.models.partition(model)
    x = jax.random.normal(key, (6, 64))  # one tile: XLA counts the body of a loop once

    def build(p):
        return nf.ntk(eqx.combine(p, static), x, outputs=outputs, method="structured")

    counted = jax.jit(build).lower(params).compile().cost_analysis()["flops"]
    planned = nf.kernels.plan(model, x, outputs=outputs, method="structured")
    # A single tile is contracted whole; XLA leaves out what is multiplied by a unit
    # cotangent, and counts what the tangent of tanh and the sums cost besides.
    assert 0.5 <= planned.flops / counted <= 1.5


def test_plan_names_the_cheapest_method_that_fits(key):
    model = nf.models.MLP(64, 10, 128, 2, key=key)
    x = jax.random.normal(key, (20, 64))
    plan = nf.kernels.plan(model, x)
    assert plan.method == "structured"
    assert {leaf.form for leaf in plan.leaves.values()} == {"factored"}
    least = {name: found.least for name, found in plan.estimates.items()}
    assert plan.flops == min(found.flops for found in plan.estimates.values())
    assert least["structured"] < least["contraction"]
    assert plan.floor(1e9) == pytest.approx(plan.flops / 1e9)

    assert nf.kernels.plan(model, x, method="contraction").method == "contraction"


def test_each_form_is_taken_where_it_needs_the_fewest_operations(key):
    def form(positions, rows, columns, outputs, layout):
        model = eqx.nn.Linear(columns, rows, use_bias=False, key=key)

        def apply(model, x):
            return jnp.sum(jnp.tanh(jax.vmap(model)(x)), axis=0)[:outputs]

        x = jnp.ones((6, positions, columns))
        plan = nf.kernels.plan(
            model, x, apply=apply, outputs=layout, method="structured"
        )
        (leaf,) = plan.leaves.values()
        assert leaf.flops == min(leaf.options.values())
        return leaf.form

    # Against a weight of R·C numbers: S² pairs of positions, S²·K² of them and outputs.
    assert form(1, 40, 40, 5, "full") == "factored"
    assert form(30, 100, 100, 10, "full") == "nested"
    assert form(30, 100, 100, 10, "trace") == "factored"
    assert form(300, 10, 10, 5, "full") == "assembled"


def test_a_kernel_that_fits_no_tile_is_made_of_vector_products(key):
    normed = eqx.nn.WeightNorm(eqx.nn.Linear(40, 30, key=key))
    model, x = normed, jax.random.normal(key, (3, 40))
    found = nf.kernels.plan(model, x).estimates
    bound = found["vector_products"].least
    assert bound < min(found["structured"].least, found["contraction"].least)
    assert nf.kernels.plan(model, x, max_bytes=bound).method == "vector_products"
    actual = nf.ntk(model, x, max_bytes=bound)
    expected = nf.ntk(model, x, method="contraction")
    scale = np.linalg.norm(expected)
    assert np.linalg.norm(actual - expected) <= roundoff(100) * scale
    with pytest.raises(ValueError, match="too small"):
        nf.ntk(model, x, max_bytes=bound - 1)


def test_a_plan_is_the_same_every_time_and_can_be_read(key):
    model, x = CASES["convolutions"](key)
    plan = nf.kernels.plan(model, x, outputs="full")
    assert plan == nf.kernels.plan(model, x, outputs="full")
    text = str(plan)
    for part in ("Kernel [2, 2, 2, 2] float64", "structured", "layers[0].weight"):
        assert part in text
    assert "assembled" in text or "factored" in text


def test_plan_refuses_what_the_kernel_refuses(key):
    model, x = CASES["linear"](key)
    for wrong in ({"outputs": "ful"}, {"method": "fast"}, {"max_bytes": 0}):
        with pytest.raises(ValueError, match=r"outputs|method|max_bytes"):
            nf.kernels.plan(model, x, **wrong)
