import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.infinite import Dense, Flatten, Relu, Sequential
from tests.tolerances import roundoff

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

SCALES = [(1.5, 0.1), (1.2, 0.2), (1.0, 0.3)]


def stack():
    first, *others = [Dense(w, b) for w, b in SCALES]
    return Sequential([
        first,
        *(layer for dense in others for layer in (Relu(), dense)),
    ])


def recursion(x):
    """Cho & Saul's formulas, entry by entry."""
    x = np.asarray(x, np.longdouble)
    sigma, theta = x @ x.T / x.shape[1], np.zeros((len(x), len(x)), np.longdouble)
    for depth, (w, b) in enumerate(SCALES):
        dot = np.ones_like(sigma)
        if depth:
            norms = np.sqrt(np.outer(np.diag(sigma), np.diag(sigma)))
            angle = np.arccos(np.clip(sigma / norms, -1, 1))
            np.fill_diagonal(angle, 0.0)
            dot = (np.pi - angle) / (2 * np.pi)
            sigma = norms * np.sin(angle) / (2 * np.pi) + dot * norms * np.cos(angle)
        sigma = w**2 * sigma + b**2
        theta = sigma + w**2 * dot * theta
    return sigma, theta


def test_deep_relu_kernel_is_the_recursion(key):
    x = jax.random.normal(key, (9, 5))
    nngp, theta = recursion(x)
    found = stack()(x)
    np.testing.assert_allclose(found.nngp, nngp, rtol=roundoff(30))
    np.testing.assert_allclose(found.ntk, theta, rtol=roundoff(30))


def test_angle_of_an_example_with_itself_is_zero_in_float32(key):
    """Taken from rounded products it would be 3e-4, and the kernel as wrong."""
    x = jax.random.normal(key, (40, 7))
    _, theta = recursion(x)
    found = stack()(x.astype(jnp.float32)).ntk
    assert found.dtype == jnp.float32
    error = np.abs(np.diag(found) / np.diag(theta) - 1)
    assert error.max() <= roundoff(10, np.float32)


def test_tiles_give_the_kernel_of_one_piece(key):
    x1, x2 = jnp.split(jax.random.normal(key, (17, 4)), [11])
    ks = stack()
    for whole, tiled in (
        (ks(x1), ks(x1, max_bytes=3_000)),
        (ks(x1, x2), ks(x1, x2, max_bytes=3_000)),
    ):
        np.testing.assert_allclose(whole.ntk, tiled.ntk, rtol=roundoff(10))
        np.testing.assert_allclose(whole.nngp, tiled.nngp, rtol=roundoff(10))


def test_kernel_is_symmetric_to_the_last_bit(key):
    found = stack()(jax.random.normal(key, (11, 4)), max_bytes=3_000)
    np.testing.assert_array_equal(found.ntk, found.ntk.T)
    np.testing.assert_array_equal(found.nngp, found.nngp.T)


def test_working_memory_keeps_within_its_bound(key):
    x, ks, bound = jax.random.normal(key, (600, 3)), stack(), 400_000
    compiled = jax.jit(lambda x: ks(x, max_bytes=bound)).lower(x).compile()
    memory = compiled.memory_analysis()
    assert memory.temp_size_in_bytes <= bound + 2 * 600**2 * 8  # and both results
    whole = jax.jit(lambda x: ks(x)).lower(x).compile().memory_analysis()
    assert whole.temp_size_in_bytes > memory.temp_size_in_bytes


def test_mesh_gives_the_kernel_of_one_device(key):
    x = jax.random.normal(key, (5, 4))
    mesh = jax.make_mesh((1,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    found, expected = stack()(x, mesh=mesh), stack()(x)
    np.testing.assert_allclose(found.ntk, expected.ntk, rtol=roundoff(10))


def test_kernel_is_differentiated_in_its_inputs(key):
    """At distinct inputs; where two coincide ReLU's derivative kernel has a kink."""
    x1, x2 = jax.random.normal(key, (2, 3)), jnp.ones((2, 3))
    direction = jnp.arange(6.0).reshape(2, 3)

    def total(step):
        found = stack()(x1 + step * direction, x2)
        return jnp.sum(found.ntk + found.nngp)

    slope = (total(1e-5) - total(-1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(total)(0.0), slope, rtol=1e-7)


def test_gradient_at_coincident_and_vanishing_inputs_is_finite():
    x = jnp.asarray([[1.0, 2.0], [1.0, 2.0], [-1.0, -2.0], [0.0, 0.0]])
    ks = Sequential([Dense(1.0, 0.0), Relu(), Dense(1.0, 0.0)])
    slope = jax.grad(lambda x: jnp.sum(ks(x).ntk) + jnp.sum(ks(x, x).ntk))(x)
    assert jnp.all(jnp.isfinite(slope))


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (lambda: Sequential([]), "at least one layer"),
        (lambda: Sequential([jnp.tanh]), "Elementwise"),
        (lambda: stack()(jnp.ones(3)), r"shape \[N, C\]"),
        (lambda: stack()(jnp.ones((2, 3), int)), "astype"),
        (lambda: stack()(jnp.ones((2, 0))), "empty"),
        (lambda: stack()(jnp.ones((2, 3)), jnp.ones((2, 4))), "same kind"),
        (lambda: stack()(jnp.ones((2, 3)), max_bytes=10), "max_bytes=10 is too small"),
        (lambda: stack()(jnp.ones((2, 3)), mask2=jnp.ones(2, bool)), "without x2"),
        (lambda: stack()(jnp.ones((2, 3)), mask1=jnp.ones(3, bool)), "mask1 must"),
        (lambda: stack()(jnp.ones((2, 3, 4))), "ends with positions"),
        (lambda: Sequential([Relu()])(jnp.ones((2, 3))), "needs Gaussian units"),
        (
            lambda: Sequential([Dense(), Flatten(), Relu()])(jnp.ones((2, 3, 4))),
            "Gauss",
        ),
    ],
)
def test_call_that_cannot_be_is_refused(call, found):
    with pytest.raises(ValueError, match=found):
        call()
