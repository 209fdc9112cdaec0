import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.theory import frozen_flow
from tests.theory.linear_models import forced, linear_model
from tests.tolerances import roundoff

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

TIMES = np.array([0.0, 1e-3, 0.3, 2.0, 20.0])


def size(model):
    """Of the largest number that outputs are made of."""
    scale = np.abs(np.linalg.pinv(model.flat)).max() * np.abs(model.jac_test).max()
    return model.flat.size * max(1.0, scale) * np.abs([model.f0, model.y]).max()


@pytest.mark.parametrize("params", [5, 12])
@pytest.mark.parametrize("ridge", [0.0, 0.7])
def test_outputs_are_those_of_the_linear_model(params, ridge):
    """With fewer parameters than numbers to fit the kernel is singular."""
    model = linear_model(params=params)
    args, kwargs = model.arguments()
    found = frozen_flow(*args, jnp.asarray(TIMES), ridge=ridge, **kwargs)
    for i, t in enumerate(TIMES):
        expected = model.outputs(forced(-model.hessian(ridge), -model.slope, t))
        for part, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(part[i], other, atol=roundoff(size(model)))
    one = frozen_flow(*args, float(TIMES[2]), ridge=ridge, **kwargs)
    for part, several in zip(one, found, strict=True):
        np.testing.assert_allclose(part, several[2], atol=roundoff(size(model)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize(("params", "ridge"), [(5, 0.0), (12, 0.0), (5, 0.7)])
def test_flow_ends_at_the_parameters_of_least_norm(params, ridge, dtype):
    model = linear_model(params=params)
    args, kwargs = model.arguments(dtype)
    found = frozen_flow(*args, jnp.inf, ridge=ridge, **kwargs)
    at_end = -np.linalg.pinv(model.hessian(ridge), rcond=1e-12) @ model.slope
    values = np.linalg.svd(model.flat, compute_uv=False) ** 2 + ridge
    condition = values[0] / values[min(len(values), params) - 1]
    for part, other in zip(found, model.outputs(at_end), strict=True):
        assert part.dtype == dtype
        tolerance = roundoff(size(model), dtype) * condition
        np.testing.assert_allclose(part, other, atol=tolerance)


def test_what_has_no_eigenvalue_is_not_learned():
    """At the end, and however late before it, nothing of it has moved."""
    model = linear_model(params=5)
    args, kwargs = model.arguments()
    found = frozen_flow(*args, jnp.array([0.0, 0.1, 1e3, 1e6, jnp.inf]), **kwargs)
    out_of_reach = np.eye(8) - model.flat @ np.linalg.pinv(model.flat)
    for outputs in found.train:
        moved = np.ravel(outputs - model.f0)
        assert np.abs(out_of_reach @ moved).max() <= roundoff(size(model))
    # Before the end rounded eigenvalues of size n·eps may have acted for that long.
    for outputs, late in zip(found.test[2:4], [1e3, 1e6], strict=True):
        error = np.abs(outputs - found.test[4]).max()
        assert error <= roundoff(size(model)) * late


def test_a_kernel_for_every_output_is_a_full_one():
    model, rng = linear_model(outputs=3), np.random.default_rng(1)
    features, other = rng.standard_normal((2, 4, 6))
    shared, cross = features @ features.T, other[:3] @ features.T
    full, full_cross = (np.einsum("ij,kl->ikjl", k, np.eye(3)) for k in (shared, cross))
    t = jnp.array([0.0, 0.4, 3.0, jnp.inf])
    one = frozen_flow(
        shared, model.f0, model.y, t, ntk_test_train=cross, f0_test=model.f0_test
    )
    two = frozen_flow(
        full, model.f0, model.y, t, ntk_test_train=full_cross, f0_test=model.f0_test
    )
    bound = roundoff(24) * np.linalg.cond(shared) * 10
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, atol=bound)


def test_gradient_at_equal_eigenvalues_is_that_of_one_mode():
    """Of the identity all eigenvalues are equal, and so are all derivatives."""
    r0 = np.array([[1.0], [-2.0], [0.5]])

    def loss(scale, t, ridge):
        kernel = scale * jnp.eye(3)
        f, _ = frozen_flow(kernel, r0, jnp.zeros((3, 1)), t, ridge=ridge)
        return 0.5 * jnp.sum(f**2)

    def alone(rate, t, ridge):
        h = rate + ridge
        left = (ridge + rate * jnp.exp(-h * t)) / h
        return 0.5 * left**2 * np.sum(r0**2)

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
    for at in [(1.3, 0.8, 0.2), (2.0, np.inf, 0.5)]:
        found = gradient(*map(jnp.asarray, at))
        # To e^{−10⁴} it is over by then.
        expected = jax.grad(alone, argnums=(0, 1, 2))(at[0], min(at[1], 1e4), at[2])
        np.testing.assert_allclose(found, expected, rtol=roundoff(32))


GOOD = {
    "ntk_train": np.eye(3),
    "f0_train": np.zeros((3, 2)),
    "y_train": np.ones((3, 2)),
    "t": 1.0,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ntk_train": np.eye(4)}, r"`ntk_train` must have shape \[3, 3\]"),
        ({"ntk_train": np.ones((3, 4))}, r"got \[3, 4\]"),
        ({"ntk_train": np.ones((3, 2, 3, 1))}, r"\[3, 2, 3, 2\] \(full\)"),
        ({"ntk_train": np.triu(np.ones((3, 3)))}, "must be symmetric"),
        ({"ntk_train": np.full((3, 3), np.nan)}, "symmetric and finite"),
        ({"ntk_train": np.eye(3, dtype=int)}, "floating-point"),
        ({"f0_train": np.zeros((3, 1))}, r"`f0_train` must have shape \[3, 2\]"),
        ({"y_train": np.ones(3)}, r"y\[:, None\]"),
        ({"t": -1.0}, "`t` must not be negative"),
        ({"t": np.nan}, "`t` must not be negative or NaN"),
        ({"t": np.ones((2, 2))}, r"an array \[T\]"),
        ({"ridge": -0.1}, "`ridge` must be finite and not negative"),
        ({"ridge": np.ones(3)}, "`ridge` must be one number"),
        ({"f0_test": np.ones((2, 2))}, "needs `ntk_test_train`"),
        ({"ntk_test_train": np.ones((2, 3))}, "needs `f0_test`"),
        (
            {"ntk_test_train": np.ones((3, 2)), "f0_test": np.ones((3, 2))},
            r"`ntk_test_train` must have shape \[Nt, 3\]",
        ),
        (
            {"ntk_test_train": np.ones((5, 3)), "f0_test": np.ones((4, 2))},
            r"`f0_test` must have shape \[5, 2\]",
        ),
    ],
)
def test_bad_input_is_one_clear_error(change, message):
    with pytest.raises(ValueError, match=message):
        frozen_flow(**(GOOD | change))


def test_an_indefinite_kernel_is_refused():
    kernel = np.diag([1.0, 2.0, -0.1])
    with pytest.raises(Exception, match="negative eigenvalue"):
        frozen_flow(**(GOOD | {"ntk_train": kernel}))


def test_a_bad_value_within_a_trace_is_refused():
    with pytest.raises(Exception, match="`t` must not be negative"):
        jax.jit(lambda t: frozen_flow(**(GOOD | {"t": t})))(jnp.array(-1.0))
