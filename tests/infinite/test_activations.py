import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import dblquad
from scipy.special import erf, ndtr

import ntkflow as nf
from ntkflow.infinite import (
    AbstractActivation,
    Cos,
    Erf,
    Exponential,
    Gabor,
    Gaussian,
    Gelu,
    Hermite,
    Monomial,
    NormalizedExponential,
    Polynomial,
    Rbf,
    RectifiedMonomial,
    SigmoidLike,
    Sign,
    Sin,
    Step,
)
from tests.infinite.gaussian_mean import gaussian_mean
from tests.tolerances import roundoff

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

DTYPES = [np.float64, np.float32]
RTOL = {np.float64: 1e-10, np.float32: 1e-5}


@dataclasses.dataclass
class Case:
    """An activation, and φ, φ' and φ'' written down once more.

    `degree` is that of a homogeneous φ, whose φ'' is not a function.
    """

    layer: AbstractActivation
    f: object
    f1: object
    f2: object = None
    degree: int | None = None
    wide: bool = True


def density(x):
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


def erf_case(layer, a, b, c):
    def slope(x):
        return 2 * a * b / np.sqrt(np.pi) * np.exp(-((b * x) ** 2))

    return Case(
        layer,
        lambda x: a * erf(b * x) + c,
        slope,
        lambda x: -2 * b**2 * x * slope(x),
    )


def wave_case(layer, a, b, c):
    return Case(
        layer,
        lambda x: a * np.sin(b * x + c),
        lambda x: a * b * np.cos(b * x + c),
        lambda x: -a * b**2 * np.sin(b * x + c),
        wide=False,
    )


def power_case(layer, *coefficients):
    p = np.polynomial.Polynomial(coefficients)
    return Case(layer, p, p.deriv(), p.deriv(2))


def rectified_case(n):
    return Case(
        RectifiedMonomial(n),
        lambda x: np.maximum(x, 0) ** n,
        lambda x: n * np.maximum(x, 0) ** (n - 1) * np.heaviside(x, 0.5),
        degree=n,
    )


def leaky_case(layer, s):
    return Case(
        layer,
        lambda x: np.where(x > 0, x, s * x),
        lambda x: s + (1 - s) * np.heaviside(x, 0.5),
        degree=1,
    )


CASES = {
    "relu": leaky_case(nf.infinite.Relu(), 0.0),
    "leaky": leaky_case(nf.infinite.LeakyRelu(0.3), 0.3),
    "abs": leaky_case(nf.infinite.Abs(), -1.0),
    "sign": Case(Sign(), np.sign, np.zeros_like, degree=0),
    "step": Case(Step(), lambda x: np.heaviside(x, 0.5), np.zeros_like, degree=0),
    "rectified2": rectified_case(2),
    "rectified6": rectified_case(6),
    "erf": erf_case(Erf(1.3, 0.7, 0.4), 1.3, 0.7, 0.4),
    "gelu": Case(
        Gelu(),
        lambda x: x * ndtr(x),
        lambda x: ndtr(x) + x * density(x),
        lambda x: (2 - x**2) * density(x),
    ),
    "sin": wave_case(Sin(1.2, 0.8, 0.5), 1.2, 0.8, 0.5),
    "cos": wave_case(Cos(0.9, 0.7, 0.2), 0.9, 0.7, 0.2 + np.pi / 2),
    "rbf": wave_case(Rbf(0.3), np.sqrt(2), np.sqrt(0.6), np.pi / 4),
    "gaussian": Case(
        Gaussian(1.1, 0.7),
        lambda x: 1.1 * np.exp(-0.7 * x**2),
        lambda x: -1.54 * x * np.exp(-0.7 * x**2),
        lambda x: (-1.54 + 2.156 * x**2) * np.exp(-0.7 * x**2),
    ),
    "exponential": Case(
        Exponential(0.9, 0.6),
        lambda x: 0.9 * np.exp(0.6 * x),
        lambda x: 0.54 * np.exp(0.6 * x),
        lambda x: 0.324 * np.exp(0.6 * x),
        wide=False,
    ),
    "polynomial": power_case(Polynomial([0.3, -1.0, 0.5, 0.2]), 0.3, -1.0, 0.5, 0.2),
    "monomial": power_case(Monomial(4), 0, 0, 0, 0, 1),
    "hermite": power_case(
        Hermite(5), *np.array([0, 15, 0, -10, 0, 1]) / math.sqrt(120)
    ),
    "gabor": Case(
        Gabor(),
        lambda x: np.exp(-(x**2)) * np.sin(x),
        lambda x: np.exp(-(x**2)) * (np.cos(x) - 2 * x * np.sin(x)),
        lambda x: np.exp(-(x**2)) * ((4 * x**2 - 3) * np.sin(x) - 4 * x * np.cos(x)),
    ),
}


def points(wide):
    """Covariances and variances, all exact; so is √(q₁q₂), of which c may be ±1."""
    near = [1 - 2.0**-30, 1 - 2.0**-20]
    rhos = [1.0, *near, 0.875, 0.3125, 0.0, -0.5, *(-rho for rho in near), -1.0]
    pairs = [(1.0, 1.0), (0.25, 4.0), (2.0**-6, 2.0**6)]
    if wide:
        pairs += [(2.0**-13, 2.0**13), (2.0**10, 2.0**10)]
    found = [(r * math.sqrt(a * b), a, b) for a, b in pairs for r in rhos]
    return np.array([*found, (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)]).T


@jax.jit
def kernels(wide, narrow):
    """Every activation's kernels and their derivatives, compiled once a dtype."""

    def one(case):
        c, q1, q2 = wide if case.wide else narrow

        def total(c, q1, q2):
            kappa, kappa_dot = case.layer.dual(c, q1, q2)
            return jnp.sum(kappa), (kappa, kappa_dot)

        slopes, values = jax.grad(total, (0, 1, 2), has_aux=True)(c, q1, q2)
        bend = jax.grad(lambda c: jnp.sum(case.layer.dual(c, q1, q2)[1]))(c)
        own, own_slope = jax.jvp(case.layer.second_moment, (q2,), (jnp.ones_like(q2),))
        return {
            "kappa": values[0],
            "kappa_dot": values[1],
            "slopes": slopes,
            "bend": bend,
            "own": own,
            "own_slope": own_slope,
            "function": case.layer.function(c),
        }

    return {name: one(case) for name, case in CASES.items()}


@pytest.fixture(scope="module")
def found():
    def evaluate(dtype):
        sets = [jnp.asarray(points(wide), dtype) for wide in (True, False)]
        return jax.tree.map(np.asarray, kernels(*sets))

    return {dtype: evaluate(dtype) for dtype in DTYPES}


@pytest.fixture(scope="module")
def expected():
    return {name: expect(case) for name, case in CASES.items()}


def expect(case):
    """The means by quadrature, and how large they are where u = v."""
    c, q1, q2 = points(case.wide)

    def mean(f, g):
        ends, back = np.unique([q1, q2], return_inverse=True)
        own1 = gaussian_mean(f, f, ends, ends, ends)[back.reshape(2, -1)[0]]
        own2 = gaussian_mean(g, g, ends, ends, ends)[back.reshape(2, -1)[1]]
        return gaussian_mean(f, g, c, q1, q2), np.sqrt(own1 * own2)

    means = {"kappa": mean(case.f, case.f), "kappa_dot": mean(case.f1, case.f1)}
    if case.f2 is not None:
        means["bend"] = mean(case.f2, case.f2)
        means["first"] = mean(case.f2, case.f)
    return means


def assert_near(found, mean, dtype, kept=slice(None), factor=1.0):
    """Relative to the kernel of equal units, as c is only known to that."""
    value, size = mean
    assert found.dtype == dtype
    error = np.abs(found - factor * value)[kept]
    room = RTOL[dtype] * factor * size[kept] + roundoff(1, dtype)
    assert (error <= room).all()


def unrounded(case, dtype):
    """Points that the dtype holds."""
    c = points(case.wide)[0]
    return c == c.astype(dtype)


@pytest.mark.parametrize("name", ["erf", "gabor", "gelu", "polynomial"])
def test_quadrature_is_that_of_scipy(name):
    """The same mean by adaptive quadrature over independent normal variables."""
    f, c, q1, q2 = CASES[name].f, 0.3, 0.5, 1.5
    rest = math.sqrt(q2 - c**2 / q1)

    def integrand(a, b):
        u, v = math.sqrt(q1) * a, c / math.sqrt(q1) * a + rest * b
        return f(u) * f(v) * density(a) * density(b)

    expected, _ = dblquad(integrand, -9, 9, -9, 9, epsabs=1e-12, epsrel=1e-12)
    found = gaussian_mean(f, f, *np.array([[c], [q1], [q2]]))
    np.testing.assert_allclose(found, expected, rtol=1e-11)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_dual_matches_quadrature(name, dtype, found, expected):
    kept = unrounded(CASES[name], dtype)
    for kernel in ("kappa", "kappa_dot"):
        assert_near(found[dtype][name][kernel], expected[name][kernel], dtype, kept)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_second_moment_is_the_dual_of_equal_units(name, dtype, found):
    one = found[dtype][name]
    c, q1, q2 = points(CASES[name].wide)
    same = (c == q2) & (q1 == q2)
    np.testing.assert_allclose(
        one["own"][same], one["kappa"][same], rtol=roundoff(16, dtype)
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_derivatives_are_finite_everywhere(name, dtype, found):
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found[dtype][name]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.f2])
def test_derivatives_obey_price_and_the_heat_equation(name, dtype, found, expected):
    one, kept = found[dtype][name], unrounded(CASES[name], dtype)
    by_c, by_q1, _ = one["slopes"]
    assert_near(by_c, expected[name]["kappa_dot"], dtype, kept)
    assert_near(by_q1, expected[name]["first"], dtype, kept, factor=0.5)
    assert_near(one["bend"], expected[name]["bend"], dtype, kept)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.degree])
def test_derivatives_of_homogeneous_activations_obey_euler(
    name, dtype, found, expected
):
    case, one = CASES[name], found[dtype][name]
    c, q1, q2 = points(case.wide)
    kept = unrounded(case, dtype) & (q1 > 0)
    by_c, by_q1, by_q2 = one["slopes"]
    assert_near(by_c, expected[name]["kappa_dot"], dtype, kept)
    value, size = expected[name]["kappa"]
    for by_q, q in ((by_q1, q1), (by_q2, q2)):
        error = 2 * q * by_q + c * by_c - case.degree * value
        assert (np.abs(error) <= 4 * RTOL[dtype] * size * case.degree)[kept].all()


@pytest.mark.parametrize("name", CASES)
def test_function_is_that_of_the_kernels(name, found):
    x = points(CASES[name].wide)[0]
    y = found[np.float64][name]["function"]
    scale = np.abs(CASES[name].f(np.abs(x))) + 1
    assert (np.abs(y - CASES[name].f(x)) <= roundoff(8) * scale).all()


def test_sigmoid_like_is_near_the_sigmoid():
    x = jnp.linspace(-8, 8, 99)
    assert jnp.max(jnp.abs(SigmoidLike().function(x) - jax.nn.sigmoid(x))) < 0.02


def test_normalized_exponential_is_the_mehler_sum():
    layer = NormalizedExponential(1.7)

    @jax.jit
    def evaluate(c, q1, q2):
        slopes = jax.grad(lambda *at: jnp.sum(layer.dual(*at)[0]), (0, 1, 2))
        return *layer.dual(c, q1, q2), *slopes(c, q1, q2)

    c, q1, q2 = points(False)
    kappa, kappa_dot, *slopes = evaluate(*(jnp.asarray(value) for value in (c, q1, q2)))
    norm = np.sqrt(q1 * q2)
    rho = np.divide(c, norm, out=np.zeros_like(c), where=norm > 0)
    # Coefficients √(e^{−γ} γⁿ/n!) of functions √q·ψ(z), one for each variance.
    weights = [np.exp(-1.7) * 1.7**n / math.factorial(n) for n in range(40)]
    expected = norm * np.polynomial.polynomial.polyval(rho, weights)
    np.testing.assert_allclose(kappa, expected, rtol=roundoff(40))
    assert np.isfinite(slopes).all()
    some = norm > 0
    np.testing.assert_allclose(slopes[0][some], kappa_dot[some], rtol=roundoff(4))
    np.testing.assert_array_equal(layer.second_moment(jnp.asarray(q1)), q1)
    with pytest.raises(ValueError, match="no finite network"):
        layer.function(jnp.asarray(c))


def test_parameters_are_differentiated_through():
    at = jnp.array(0.4), jnp.array(1.2), jnp.array(0.7)
    kappa = jax.jit(lambda b: Erf(1.0, b).dual(*at)[0])
    b, step = jnp.array(0.7), 1e-5
    expected = float(kappa(b + step) - kappa(b - step)) / (2 * step)
    # Central differences of a smooth function: step² and eps/step.
    assert jax.grad(kappa)(b) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RectifiedMonomial(-1), "order"),
        (lambda: Monomial(-2), "degree"),
        (lambda: Hermite(True), "degree"),
        (lambda: Polynomial([]), "at least one coefficient"),
        (lambda: Polynomial([1.0, float("nan")]), r"coefficients\[1\]"),
        (lambda: Erf(b=math.inf), "`b`"),
        (lambda: Rbf(-1.0), "gamma"),
        (lambda: Gaussian(b=-1.0), "`b`"),
    ],
)
def test_bad_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("power", [-84, 84])
@pytest.mark.parametrize(
    ("layer", "degree"),
    [
        (nf.infinite.Relu(), 1),
        (nf.infinite.LeakyRelu(0.3), 1),
        (nf.infinite.Abs(), 1),
        (NormalizedExponential(0.8), 1),
        (RectifiedMonomial(1), 1),
        (Step(), 0),
        (Sign(), 0),
    ],
)
def test_scales_whose_square_is_no_number(layer, degree, power):
    """φ(su) = sⁿφ(u): variances of 10^±25 in float32, where q₁q₂ is 0 or infinite."""
    cosines = np.float32([-1, -0.999, -0.3, 0, 0.7, 1])[:, None]
    q1, q2 = np.float32([[1, 1, 3], [1, 0.5, 7]])
    c = cosines * np.float32(np.sqrt(np.float64(q1) * q2))
    scale = np.float32(2.0**power)
    plain = layer.dual(*map(jnp.asarray, (c, q1 + 0 * c, q2 + 0 * c)))
    scaled = layer.dual(*(jnp.asarray(scale * v) for v in (c, q1 + 0 * c, q2 + 0 * c)))
    # Scaling by a power of two rounds nothing.
    np.testing.assert_allclose(scaled[0], scale**degree * plain[0], rtol=1e-5)
    slope = plain[1] if degree else 0 * plain[1]
    np.testing.assert_allclose(scaled[1], slope, rtol=1e-5)


@pytest.mark.parametrize(("weight", "depth"), [(0.03, 6), (1e3, 6)])
def test_deep_networks_of_any_gain_in_float32(weight, depth):
    """ReLU networks whose kernels shrink below 10^−19 or grow beyond 10^19."""
    blocks = [nf.infinite.Dense(weight, 0.0), nf.infinite.Relu()] * depth
    net = nf.infinite.Sequential([*blocks, nf.infinite.Dense(1.0, 0.0)])
    x = np.random.default_rng(0).random((6, 10))
    for found, exact in zip(net(jnp.float32(x)), net(jnp.asarray(x)), strict=True):
        assert np.isfinite(exact).all()
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, exact, rtol=1e-4)
