"""Training a function of the model: residuals of differential equations, and blocks."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from ntkflow import Problem, Trajectory, ntk, simulate
from ntkflow.flows import Gradient, Residual
from ntkflow.measures import KernelDrift
from ntkflow.models import MLP, Applied, Scaled

MODEL = MLP(1, 1, width=6, depth=1, key=jax.random.key(2))
X = jnp.linspace(-1.0, 1.0, 4)[:, None]
Y = jnp.sin(3 * X)


def value(model, x):
    return model(x)


def residual(model, x):
    """u'' + u at one point."""

    def u(s):
        return model(s[None])[0]

    return (jax.grad(jax.grad(u))(x[0]) + u(x[0]))[None]


def test_a_residual_is_trained_as_written_by_hand():
    problem = Problem(MODEL, X, Y, apply=residual)

    def loss(model):
        return 0.5 * sum(
            jnp.sum((residual(model, x) - y) ** 2) for x, y in zip(X, Y, strict=True)
        )

    by_hand = ravel_pytree(eqx.filter_grad(loss)(MODEL))[0]
    ours = ravel_pytree(problem.gradient(problem.params))[0]
    np.testing.assert_allclose(ours, by_hand, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(problem.objective(problem.params), loss(MODEL))
    assert problem.n_params == sum(a.size for a in jtu.tree_leaves(problem.params))
    assert isinstance(problem.model, Applied)
    np.testing.assert_allclose(problem.model(X[0]), residual(MODEL, X[0]))


def test_terms_of_a_problem_are_weighted_by_what_targets_carry():
    """As docs/concepts.md says: a column of the inputs tells what a point is for."""
    inside = jnp.asarray([0.0, 1.0, 1.0, 0.0])
    x = jnp.column_stack([X[:, 0], inside])
    y = jnp.column_stack([Y[:, 0], jnp.where(inside == 1, 0.1, 5.0)])

    def terms(model, x):
        point = x[:1]
        return jnp.where(x[1] == 1, residual(model, point), value(model, point))

    def weighted(f, y):
        return 0.5 * y[1] * (f[0] - y[0]) ** 2

    problem = Problem(MODEL, x, y, apply=terms, loss=weighted)
    of_values = Problem(MODEL, X[inside == 0], Y[inside == 0])
    of_residuals = Problem(MODEL, X[inside == 1], Y[inside == 1], apply=residual)
    parts = 5.0 * of_values.objective(of_values.params)
    parts += 0.1 * of_residuals.objective(of_residuals.params)
    np.testing.assert_allclose(problem.objective(problem.params), parts, rtol=1e-12)


def test_the_kernel_of_such_a_problem_is_that_of_ntk_with_apply():
    problem = Problem(MODEL, X, Y, apply=residual)
    np.testing.assert_allclose(
        ntk(problem.model, X), ntk(MODEL, X, apply=residual), rtol=1e-10
    )


def test_filters_are_those_of_the_model_alone():
    none = jtu.tree_map(lambda _: False, MODEL)
    last = eqx.tree_at(lambda m: m.layers[-1].weight, none, replace=True)
    problem = Problem(MODEL, X, Y, apply=residual, trainable=last)
    assert problem.n_params == MODEL.layers[-1].weight.size
    by_function = Problem(MODEL, X, Y, apply=residual, trainable=lambda a: a.ndim == 2)
    assert by_function.n_params == sum(layer.weight.size for layer in MODEL.layers)


class Weighted(eqx.Module):
    """A function of the model that holds an array, which nothing trains."""

    weight: jax.Array

    def __call__(self, model, x):
        return self.weight * model(x)


def test_arrays_of_the_function_are_not_trained_and_the_time_scale_is_the_models():
    model = Scaled(MODEL, 2.0)
    problem = Problem(model, X, Y, apply=Weighted(jnp.asarray(3.0)))
    assert problem.n_params == Problem(model, X, Y).n_params
    assert problem.time_scale == pytest.approx(0.25)


def test_a_function_that_fails_is_refused_like_a_model():
    with pytest.raises(ValueError, match="cannot be called on one example"):
        Problem(MODEL, X, Y, apply=lambda model, x: model(x, "more"))
    with pytest.raises(ValueError, match="Return shape"):
        Problem(MODEL, X, Y, apply=lambda model, x: model(x)[0])


def test_a_run_trains_it_and_is_read_back(tmp_path):
    problem = Problem(MODEL, X, Y, apply=residual)
    run = simulate(
        problem,
        [0.0, 0.05],
        flows=[Gradient(), Residual("evolving")],
        measures=[KernelDrift()],
        progress=False,
    )
    losses = run.dataset.loss_train.values
    assert (losses[:, 1] < losses[:, 0]).all()
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)
    run.save(tmp_path / "run")
    model = Trajectory.load(tmp_path / "run", like=problem.model).model
    trained = jax.vmap(lambda x: residual(model.model, x))(X)
    saved = run.dataset.f_train.sel(flow="gradient").isel(time=-1)
    np.testing.assert_allclose(trained, saved, rtol=1e-10)


def test_traces_of_blocks_weigh_terms_so_that_they_converge_alike():
    """As docs/concepts.md says, after Wang, Yu & Perdikaris (2022)."""
    ends, points = X[jnp.asarray([0, 3])], X[1:3]
    blocks = {
        (i, j): np.asarray(ntk(MODEL, x1, x2, apply=(a, b)))
        for i, (a, x1) in enumerate([(value, ends), (residual, points)])
        for j, (b, x2) in enumerate([(value, ends), (residual, points)])
    }
    whole = np.block([[blocks[i, j] for j in (0, 1)] for i in (0, 1)])
    np.testing.assert_allclose(whole, whole.T, rtol=1e-10, atol=1e-12)
    assert np.linalg.eigvalsh(whole).min() > -1e-10 * np.trace(whole)
    weights = [np.trace(whole) / np.trace(blocks[i, i]) for i in (0, 1)]

    inside = jnp.asarray([0.0, 0.0, 1.0, 1.0])
    x = jnp.column_stack([jnp.concatenate([ends, points]), inside])
    y = jnp.column_stack([jnp.zeros(4), jnp.repeat(jnp.asarray(weights), 2)])

    def terms(model, x):
        point = x[:1]
        return jnp.where(x[1] == 1, residual(model, point), value(model, point))

    def weighted(f, y):
        return 0.5 * y[1] * (f[0] - y[0]) ** 2

    problem = Problem(MODEL, x, y, apply=terms, loss=weighted)
    kernel = np.asarray(ntk(problem.model, problem.x))
    np.testing.assert_allclose(kernel, whole, rtol=1e-9, atol=1e-11)
    # The flow of the outputs is −K ∇ℓ(f), and the slope of ∇ℓ is the weight.
    f = problem.outputs(problem.params, problem.x)
    slopes = jax.vmap(jax.hessian(problem.loss))(f, problem.y)[:, 0, 0]
    rates = np.diag(kernel) * np.asarray(slopes)
    np.testing.assert_allclose(rates[:2].sum(), rates[2:].sum(), rtol=1e-9)
