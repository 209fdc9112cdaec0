from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest

from ntkflow.models import MLP, Antisymmetric, Frozen, Scaled
from ntkflow.problem import Decay, Problem, SquaredError
from tests.tolerances import roundoff


@pytest.fixture
def data(key):
    x_key, y_key = jax.random.split(key)
    return jax.random.normal(x_key, (7, 3)), jax.random.normal(y_key, (7, 2))


def mlp(key, **options):
    return MLP(3, 2, width=5, depth=1, key=key, **options)


def test_gradient_matches_central_differences(data, key):
    problem = Problem(mlp(key), *data, decay=0.3)
    direction = jtu.tree_map(lambda p: jnp.cos(3 * p), problem.params)
    exact = sum(
        jnp.sum(g * d)
        for g, d in zip(
            jtu.tree_leaves(problem.gradient(problem.params)),
            jtu.tree_leaves(direction),
            strict=True,
        )
    )
    h = 1e-5

    def shifted(s):
        return problem.objective(
            jtu.tree_map(lambda p, d: p + s * h * d, problem.params, direction)
        )

    numeric = (shifted(1) - shifted(-1)) / (2 * h)
    # Truncation h² and cancellation eps/h, both of order 1e-10 here.
    np.testing.assert_allclose(numeric, exact, rtol=1e-8)


def test_objective_is_a_sum_over_examples(data, key):
    x, y = data
    problem = Problem(mlp(key), x, y)
    single = sum(
        Problem(mlp(key), x[i : i + 1], y[i : i + 1]).objective(problem.params)
        for i in range(7)
    )
    whole = problem.objective(problem.params)
    np.testing.assert_allclose(whole, single, rtol=roundoff(14))


def test_time_scales_combine_as_products(data, key):
    mean_field = mlp(key, parameterization="mean_field")
    scaled = Scaled(mean_field, alpha=4.0)
    assert Problem(mlp(key), *data).time_scale == 1
    assert Problem(mlp(key), *data, reduction="mean").time_scale == pytest.approx(1 / 7)
    assert Problem(mean_field, *data).time_scale == 5
    problem = Problem(scaled, *data, reduction="mean")
    assert problem.time_scale == pytest.approx(5 / 16 / 7, rel=roundoff(3))
    assert Problem(scaled, *data, time_scale=2.5).time_scale == pytest.approx(2.5)


@pytest.mark.parametrize("towards", ["zero", "initial"])
def test_decay_adds_half_the_squared_distance(data, key, towards):
    plain = Problem(mlp(key), *data)
    decayed = Problem(mlp(key), *data, decay=Decay(0.5, towards))
    moved = jtu.tree_map(lambda p: p + 1.0, plain.params)
    reference = (
        jtu.tree_map(jnp.zeros_like, moved) if towards == "zero" else plain.params
    )
    offset = jtu.tree_map(lambda a, b: np.asarray(a - b), moved, reference)
    penalty = 0.25 * sum(np.sum(leaf**2) for leaf in jtu.tree_leaves(offset))
    gap = decayed.objective(moved) - plain.objective(moved)
    np.testing.assert_allclose(gap, penalty, rtol=roundoff(60))
    for g, g0, o in zip(
        jtu.tree_leaves(decayed.gradient(moved)),
        jtu.tree_leaves(plain.gradient(moved)),
        jtu.tree_leaves(offset),
        strict=True,
    ):
        np.testing.assert_allclose(g - g0, 0.5 * o, atol=roundoff(60))


def test_frozen_and_unselected_leaves_are_not_trained(data, key):
    model = mlp(key)
    whole = Problem(model, *data)
    frozen = eqx.tree_at(lambda m: m.layers[0], model, replace_fn=Frozen)
    last_only = jtu.tree_map(lambda _: False, model)
    last_only = eqx.tree_at(
        lambda m: (m.layers[-1].weight, m.layers[-1].bias), last_only, (True, True)
    )
    for problem in (
        Problem(frozen, *data),
        Problem(model, *data, trainable=last_only),
    ):
        assert problem.n_params == 5 * 2 + 2
        np.testing.assert_array_equal(
            problem.outputs(problem.params, problem.x),
            whole.outputs(whole.params, whole.x),
        )


def test_float32_parameters_make_a_float32_problem(data, key):
    problem = Problem(mlp(key, dtype=jnp.float32), *data)
    assert problem.dtype == np.float32
    assert problem.x.dtype == problem.y.dtype == np.float32
    assert problem.gradient(problem.params).layers[0].weight.dtype == np.float32


class _Batch(eqx.Module):
    weight: jax.Array

    def __call__(self, x):
        return x @ self.weight  # [N, 3] @ [3, 2]: a model of a batch, or [3] -> [2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.zeros((6, 2))}, r"same number of examples.*\[7, 3\].*\[6, 2\]"),
        ({"y": np.zeros((7, 3))}, r"\[N, 2\]"),
        ({"x": np.zeros((7, 4))}, "cannot be called on one example"),
        ({"x": np.full((7, 3), np.nan)}, "x holds NaN"),
        ({"y": np.full((7, 2), np.inf)}, "y holds NaN"),
        ({"x_test": np.zeros((2, 3))}, "come together"),
        ({"x_test": np.zeros((2, 4)), "y_test": np.zeros((2, 2))}, "must agree"),
        ({"reduction": "average"}, "reduction 'average'"),
        ({"time_scale": 0.0}, "time_scale must be positive"),
        ({"decay": -1.0}, "≥ 0"),
        ({"trainable": lambda leaf: False}, "No leaf of the model is trained"),
        ({"x": np.zeros((0, 3)), "y": np.zeros((0, 2))}, "at least one"),
    ],
)
def test_bad_input_is_refused_with_the_remedy(data, key, change, message):
    x, y = data
    given = {"x": x, "y": y, "loss": SquaredError()} | change
    with pytest.raises(ValueError, match=message):
        Problem(mlp(key), given.pop("x"), given.pop("y"), **given)


def test_a_model_of_a_batch_or_a_scalar_is_refused(data, key):
    x, y = data
    with pytest.raises(ValueError, match="ONE example"):
        Problem(_Batch(jnp.ones((7, 2))), x, y)
    scalar = eqx.nn.MLP(3, "scalar", 5, 1, key=key)
    with pytest.raises(ValueError, match=r"Return shape \[1\]"):
        Problem(scalar, x, y[:, :1])


def test_outputs_of_other_kinds_are_refused_in_plain_words(data, key):
    x, y = data
    scalar = eqx.nn.MLP(3, "scalar", 5, 1, key=key)
    two = eqx.nn.MLP(3, 2, 5, 1, key=key)
    cases = {
        "returned a scalar. Return shape": scalar,
        "returned complex128. Return real": _Then(two, lambda f: jax.lax.complex(f, f)),
        "returned a tuple. Wrap it": _Then(two, lambda f: (f, f)),
        "returned shape .1, 2..$": _Then(two, lambda f: f[None]),
        "inference_mode": _Then(two, lambda f: f - jax.lax.pmean(f, "batch")),
    }
    for message, model in cases.items():
        with pytest.raises(ValueError, match=message) as caught:
            Problem(model, x, y)
        assert "ShapeDtypeStruct" not in str(caught.value)


class _Then(eqx.Module):
    network: eqx.nn.MLP
    change: Callable

    def __call__(self, x):
        return self.change(self.network(x))


def test_mixed_parameter_dtypes_are_refused(data, key):
    model = Antisymmetric(mlp(key))
    cast = eqx.tree_at(
        lambda m: m.a.layers[0].weight,
        model,
        replace_fn=lambda w: w.astype(jnp.float32),
    )
    with pytest.raises(ValueError, match="share one dtype"):
        Problem(cast, *data)


class _Modulus(eqx.Module):
    """[3] complex -> [2] real, by two real matrices."""

    weight: jax.Array

    def __call__(self, x):
        return self.weight @ jnp.concatenate([x.real, x.imag])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_complex_inputs_keep_their_imaginary_parts(data, key, dtype):
    x, y = map(np.asarray, data)
    model = _Modulus(jax.random.normal(key, (2, 6), dtype))
    z = x + 1j * x[::-1]
    parts = np.concatenate([x, x[::-1]], axis=1).astype(dtype)
    for given in (z, jnp.asarray(z), z.astype(np.complex64)):
        problem = Problem(model, given, y, x_test=given[:2], y_test=y[:2])
        expected = np.result_type(np.dtype(dtype), np.complex64)
        assert problem.x.dtype == problem.x_test.dtype == expected
        precision = np.float32 if given.dtype == np.complex64 else dtype
        np.testing.assert_allclose(
            problem.outputs(problem.params, problem.x),
            parts @ np.asarray(model.weight).T,
            rtol=0,
            atol=20 * roundoff(6, precision),
        )


def test_complex_targets_are_refused_and_complex_beside_real_inputs(data, key):
    x, y = map(np.asarray, data)
    model = _Modulus(jax.random.normal(key, (2, 6)))
    with pytest.raises(ValueError, match=r"y is complex128.*\[y.real, y.imag\]"):
        Problem(model, x, y + 1j * y)
    with pytest.raises(ValueError, match="y_test is complex128"):
        Problem(model, x, y, x_test=x, y_test=y + 1j * y)
    with pytest.raises(ValueError, match="x is complex128 and x_test is float64"):
        Problem(model, x + 1j * x, y, x_test=x, y_test=y)
    with pytest.raises(ValueError, match="x holds NaN or infinite"):
        Problem(model, x * (1 + 1j * np.nan), y)


class _Masked(eqx.Module):
    """[3] -> [2]; masks missing features at the start, behind a norm, or not at all."""

    weight: jax.Array
    where: str = eqx.field(static=True)

    def __call__(self, x):
        known = ~jnp.isnan(x)
        if self.where == "start":
            return self.weight @ jnp.where(known, x, 0)
        if self.where == "behind":
            return jnp.sum(jnp.where(known[None], self.weight * x[None], 0), axis=1)
        return self.weight @ x


def test_missing_features_are_allowed_where_the_model_masks_them(data, key):
    x, y = np.array(data[0]), data[1]
    x[2, 1] = x[4, 0] = np.nan
    weight = jax.random.normal(key, (2, 3))
    masked = _Masked(weight, "start")
    problem = Problem(masked, x, y, x_test=x[:3], y_test=y[:3], allow_nan=True)
    filled = Problem(_Masked(weight, "none"), np.where(np.isnan(x), 0, x), y)
    np.testing.assert_array_equal(np.isnan(problem.x), np.isnan(x))
    np.testing.assert_allclose(
        problem.gradient(problem.params).weight,
        filled.gradient(filled.params).weight,
        rtol=roundoff(21),
    )


def test_missing_features_that_reach_the_outputs_or_their_slope_are_refused(data, key):
    x, y = np.array(data[0]), data[1]
    x[2, 1] = x[4, 0] = np.nan
    weight = jax.random.normal(key, (2, 3))
    with pytest.raises(ValueError, match=r"x holds NaN.*example 2.*allow_nan=True"):
        Problem(_Masked(weight, "start"), x, y)
    for model, message in [
        (_Masked(weight, "none"), "NaN in x reaches the outputs of example 2 .2 of 7"),
        (_Masked(weight, "behind"), "reaches the derivative.*`weight`.*jnp.where"),
    ]:
        with pytest.raises(ValueError, match=message):
            Problem(model, x, y, allow_nan=True)
    with pytest.raises(ValueError, match="NaN in x_test reaches the outputs"):
        Problem(_Masked(weight, "none"), data[0], y, x_test=x, y_test=y, allow_nan=True)
    infinite = np.where(np.isnan(x), np.inf, x)
    with pytest.raises(ValueError, match="x holds NaN or infinite"):
        Problem(_Masked(weight, "start"), infinite, y, allow_nan=True)
    with pytest.raises(ValueError, match=r"y holds NaN.*a loss of your own"):
        Problem(_Masked(weight, "start"), x, x[:, :2], allow_nan=True)
