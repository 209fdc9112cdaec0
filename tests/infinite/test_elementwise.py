import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkflow as nf
from ntkflow.infinite import (
    Elementwise,
    Elu,
    Erf,
    Polynomial,
    Sigmoid,
    Silu,
    Softplus,
    Tanh,
    quadrature_error,
)
from ntkflow.infinite._hermite import find_functions, find_rule
from tests.infinite.gaussian_mean import gaussian_mean
from tests.tolerances import roundoff

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

DTYPES = [np.float64, np.float32]
RTOL = {np.float64: 1e-10, np.float32: 1e-5}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu_slopes(x):
    s = sigmoid(x)
    first = s * (1 + x * (1 - s))
    return x * s, first, s * (1 - s) * (2 + x * (1 - 2 * s))


def tanh_slopes(x):
    y = np.tanh(x)
    return y, 1 - y**2, -2 * y * (1 - y**2)


SMOOTH = {"tanh": (Tanh(), tanh_slopes), "silu": (Silu(), silu_slopes)}
OTHERS = {
    "softplus": (Softplus(), lambda x: np.logaddexp(x, 0), sigmoid),
    "sigmoid": (Sigmoid(), sigmoid, lambda x: sigmoid(x) * sigmoid(-x)),
}


def points():
    """Covariances and variances, all exact; so is √(q₁q₂), of which c may be ±1."""
    near = [1 - 2.0**-30, 1 - 2.0**-20]
    rhos = [1.0, *near, 0.875, 0.3125, 0.0, -0.5, *(-rho for rho in near), -1.0]
    pairs = [(1.0, 1.0), (0.25, 4.0), (2.0**-14, 4.0)]
    found = [(r * np.sqrt(a * b), a, b) for a, b in pairs for r in rhos]
    return np.array([*found, (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)]).T


def pointwise(at, order):
    return lambda x: at(x)[order]


@pytest.fixture(scope="module")
def found():
    """Kernels, and their derivatives by c, q₁ and q₂, of functions that are smooth."""

    @jax.jit
    def evaluate(c, q1, q2):
        one, zero = jnp.ones_like(c), jnp.zeros_like(c)
        results = {}
        for name, (layer, _) in SMOOTH.items():
            values, change = jax.linearize(layer.dual, c, q1, q2)
            results[name] = (
                values,
                change(one, zero, zero),
                change(zero, one, zero),
            )
        return results

    def run(dtype):
        found = evaluate(*(jnp.asarray(value, dtype) for value in points()))
        return jax.tree.map(np.asarray, found)

    return {dtype: run(dtype) for dtype in DTYPES}


def assert_near(found, f, g, dtype, factor=1.0):
    """Relative to the kernel of equal units, at the points that the dtype holds."""
    c, q1, q2 = points()
    kept = c == c.astype(dtype)
    expected = factor * gaussian_mean(f, g, c, q1, q2)
    size = gaussian_mean(f, f, q1, q1, q1) * gaussian_mean(g, g, q2, q2, q2)
    room = RTOL[dtype] * factor * np.sqrt(size) + roundoff(1, dtype)
    assert found.dtype == dtype
    assert np.isfinite(found).all()
    assert (np.abs(found - expected) <= room)[kept].all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SMOOTH)
def test_dual_matches_quadrature(name, dtype, found):
    f, f1, _ = (pointwise(SMOOTH[name][1], k) for k in range(3))
    kappa, kappa_dot = found[dtype][name][0]
    assert_near(kappa, f, f, dtype)
    assert_near(kappa_dot, f1, f1, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SMOOTH)
def test_derivatives_obey_price_and_the_heat_equation(name, dtype, found):
    f, f1, f2 = (pointwise(SMOOTH[name][1], k) for k in range(3))
    _, by_c, by_q1 = found[dtype][name]
    assert_near(by_c[0], f1, f1, dtype)
    assert_near(by_c[1], f2, f2, dtype)
    assert_near(by_q1[0], f2, f, dtype, factor=0.5)


def test_dual_matches_a_product_of_gauss_hermite_rules(found):
    c, q1, q2 = points()[:, :10]
    z, w = np.polynomial.hermite_e.hermegauss(200)
    w = w / w.sum()
    rho = c / np.sqrt(q1 * q2)
    slant = np.sqrt((1 - rho) * (1 + rho))
    u = np.sqrt(q1)[:, None, None] * z[:, None]
    v = np.sqrt(q2)[:, None, None] * (
        rho[:, None, None] * z[:, None] + slant[:, None, None] * z
    )
    expected = np.einsum("pij,i,j->p", np.tanh(u) * np.tanh(v), w, w)
    kappa = found[np.float64]["tanh"][0][0][:10]
    # The product rule's own error, for poles at a distance of π/2.
    np.testing.assert_allclose(kappa, expected, atol=1e-11)


def test_kernels_of_the_other_names_match_quadrature():
    c, q1, q2 = (jnp.asarray(value) for value in points())
    layers = [layer for layer, _, _ in OTHERS.values()]
    found = jax.jit(lambda: [layer.dual(c, q1, q2) for layer in layers])()
    for (kappa, kappa_dot), (_, f, f1) in zip(found, OTHERS.values(), strict=True):
        assert_near(kappa, f, f, np.float64)
        assert_near(kappa_dot, f1, f1, np.float64)


def test_polynomials_are_exact():
    p = [0.3, -1.0, 0.5, 0.2]
    ours, exact = (
        Elementwise(lambda x: jnp.polyval(jnp.array(p[::-1]), x)),
        Polynomial(p),
    )
    c, q1, q2 = (jnp.asarray(value) for value in points())

    @jax.jit
    def evaluate(c, q1, q2):
        def of(layer):
            slopes = jax.grad(lambda *at: jnp.sum(layer.dual(*at)[0]), (0, 1, 2))
            return *slopes(c, q1, q2), *layer.dual(c, q1, q2)

        return of(ours), of(exact)

    scale = np.max(exact.second_moment(q2))
    for found, expected in zip(*evaluate(c, q1, q2), strict=True):
        np.testing.assert_allclose(found, expected, atol=roundoff(64) * scale)


def test_network_of_an_elementwise_erf_is_that_of_erf():
    x = jax.random.normal(jax.random.key(0), (6, 3))
    dense = nf.infinite.Dense(1.3, 0.3)

    def kernels(activation):
        return nf.infinite.Sequential([dense, activation, dense])(x)

    found, expected = kernels(Elementwise(jax.scipy.special.erf)), kernels(Erf())
    np.testing.assert_allclose(found.nngp, expected.nngp, rtol=1e-9)
    np.testing.assert_allclose(found.ntk, expected.ntk, rtol=1e-9)


def test_hermite_functions_are_orthogonal():
    for count in (128, 1024):
        psi = find_functions(count, count)
        mirrored = psi * np.where(np.arange(count) % 2, -1.0, 1.0)[:, None]
        whole = np.concatenate([psi, mirrored], axis=1)
        gap = np.max(np.abs(whole @ whole.T - np.eye(count)))
        assert gap <= roundoff(count)
        nodes, roots, _ = find_rule(count)
        # E[z⁸] = 105.
        assert 2 * np.sum(roots**2 * nodes**8) == pytest.approx(
            105, rel=roundoff(count)
        )


def test_error_is_estimated():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kinked = Elementwise(jax.nn.relu, tolerance=1e-6)
    one = jnp.ones(())
    kappa, kappa_dot = jax.jit(kinked.dual)(one, one, one)
    true = max(abs(kappa - 0.5), abs(kappa_dot - 0.5)) / 0.5
    estimate = kinked.error(1.0)
    assert true / 4 <= estimate <= 4 * true
    assert 1e-3 < estimate < 0.1
    assert quadrature_error(Tanh(), np.array([0.0, 1.0, 4.0])).max() < 1e-13
    assert Tanh().error(100.0) > 1e-4
    assert quadrature_error(nf.infinite.Relu(), 1.0) == 0
    assert Elu().error(1.0) < 1e-3


def test_kinks_are_warned_of_unless_accepted():
    with pytest.warns(UserWarning, match="relative error of about .* layer of its own"):
        Elementwise(jnp.abs)
    Elementwise(jnp.abs, tolerance=0.1)


@pytest.mark.parametrize(
    ("function", "tolerance", "message"),
    [
        (jnp.sum, 1e-10, "every entry"),
        (lambda x: x.astype(jnp.float16), 1e-10, "keeps the dtype"),
        (jnp.tanh, 0.0, "tolerance"),
    ],
)
def test_what_cannot_be_an_activation_is_refused(function, tolerance, message):
    with pytest.raises(ValueError, match=message):
        Elementwise(function, tolerance)
