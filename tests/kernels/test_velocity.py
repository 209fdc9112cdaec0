"""The kernel's velocity is its derivative along the flow."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkflow as nf

from ..tolerances import roundoff

pytestmark = pytest.mark.usefixtures("cheaply_compiled")


@pytest.fixture
def problem(key):
    kx, ky, km = jax.random.split(key, 3)
    model = nf.models.MLP(3, 2, 6, 2, key=km)
    x, y = jax.random.normal(kx, (5, 3)), jax.random.normal(ky, (5, 2))
    return nf.Problem(model, x, y, reduction="mean")


def moved(problem, step):
    """The kernel one midpoint step along the flow: second order in the step."""

    def rate(params):
        return jax.tree.map(lambda g: -problem.time_scale * g, problem.gradient(params))

    def step_along(direction, size):
        return jax.tree.map(lambda p, d: p + size * d, problem.params, direction)

    middle = step_along(rate(problem.params), step / 2)
    params = step_along(rate(middle), step)
    return nf.ntk(problem.model_of(params), problem.x, outputs="full")


def test_velocity_is_the_limit_of_differences(problem):
    velocity = nf.ntk_velocity(problem)
    steps = 0.2 * 2.0 ** -np.arange(4)
    errors = [
        np.linalg.norm((moved(problem, h) - moved(problem, -h)) / (2 * h) - velocity)
        for h in steps
    ]
    slopes = np.diff(np.log(errors)) / np.diff(np.log(steps))
    # Central differences of a second-order step: the error falls as the step squared.
    np.testing.assert_allclose(slopes[-2:], 2.0, atol=0.1)
    extrapolated = errors[-1] / np.linalg.norm(velocity)
    assert extrapolated < 0.01


def test_velocity_is_symmetric_to_the_last_bit(problem):
    velocity = nf.ntk_velocity(problem)
    assert np.array_equal(velocity, np.transpose(velocity, (2, 3, 0, 1)))


def test_velocity_at_another_model_is_that_of_its_problem(problem, key):
    other = nf.models.MLP(3, 2, 6, 2, key=jax.random.fold_in(key, 1))
    there = nf.Problem(other, problem.x, problem.y, reduction="mean")
    expected = nf.ntk_velocity(there)
    found = nf.ntk_velocity(problem, other)
    np.testing.assert_allclose(found, expected, atol=roundoff(100))


def test_velocity_of_two_layers_matches_the_hand_derivative(key):
    """f = a·w·x, one example: Θ = (a² + w²)x², dΘ/dt = −2x²·(a·∂_aL + w·∂_wL)."""

    class Product(eqx.Module):
        a: jax.Array
        w: jax.Array

        def __call__(self, x):
            return self.a * self.w * x

    a, w, x, y = 0.7, -1.3, 1.9, 0.4
    model = Product(jnp.asarray([a]), jnp.asarray([w]))
    problem = nf.Problem(model, jnp.asarray([[x]]), jnp.asarray([[y]]), time_scale=3.0)
    r = a * w * x - y
    expected = 3.0 * 2 * x**2 * (a * -(r * w * x) + w * -(r * a * x))
    np.testing.assert_allclose(
        np.ravel(nf.ntk_velocity(problem)), expected, rtol=roundoff(20)
    )


def test_velocity_of_a_linear_model_is_zero(key):
    model = eqx.nn.Linear(3, 2, key=key)
    problem = nf.Problem(model, jnp.ones((4, 3)), jnp.ones((4, 2)))
    assert not np.any(nf.ntk_velocity(problem))


@pytest.mark.parametrize("outputs", ["full", "diagonal", "trace"])
def test_velocity_of_a_tile_is_that_part_of_the_whole(problem, outputs):
    whole = nf.ntk_velocity(problem, outputs=outputs)
    tile = nf.ntk_velocity(problem, x1=problem.x[:2], x2=problem.x[1:], outputs=outputs)
    expected = whole[:2, :, 1:] if outputs == "full" else whole[:2, 1:]
    scale = np.linalg.norm(whole)
    assert np.linalg.norm(tile - expected) <= roundoff(100) * scale


def test_a_bound_on_memory_makes_tiles_of_the_velocity(key):
    kx, ky, km = jax.random.split(key, 3)
    model = nf.models.MLP(16, 2, 64, 2, key=km)
    x, y = jax.random.normal(kx, (300, 16)), jax.random.normal(ky, (300, 2))
    problem = nf.Problem(model, x, y)
    arrays, static = eqx.partition(problem, eqx.is_array)

    def compiled(bound):
        def velocity(arrays):
            whole = eqx.combine(arrays, static)
            return nf.ntk_velocity(whole, outputs="trace", max_bytes=bound)

        return jax.jit(velocity).lower(arrays).compile()

    def memory(program):
        return program.memory_analysis().temp_size_in_bytes

    free, bound = compiled(None), compiled(500_000)
    # The loss's own gradient and two copies of the result are no part of the bound.
    result = 300 * 300 * 8
    assert memory(bound) <= 500_000 + 3 * result
    assert memory(free) > 2 * memory(bound)
    expected = free(arrays)
    assert np.linalg.norm(bound(arrays) - expected) <= roundoff(1000) * np.linalg.norm(
        expected
    )


def test_velocity_refuses_what_the_kernel_refuses(problem):
    with pytest.raises(ValueError, match="outputs"):
        nf.ntk_velocity(problem, outputs="ful")
    with pytest.raises(ValueError, match="max_bytes"):
        nf.ntk_velocity(problem, max_bytes=0)
    with pytest.raises(ValueError, match="same kind"):
        nf.ntk_velocity(problem, x2=problem.x[:, :2])
