import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import iv

import ntkflow as nf
from ntkflow.infinite import (
    Dense,
    Flatten,
    LeakyRelu,
    Moments,
    Relu,
    Sequential,
    TiedDepth,
)
from ntkflow.infinite._finite import Chain
from ntkflow.infinite._goursat import extrapolate
from ntkflow.models import NeuralODE
from tests.infinite.approach import SEEDS, WIDTHS, check_approach, tangent_kernel
from tests.tolerances import roundoff

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

T1 = 1.2


class Sine(nf.infinite.AbstractActivation):
    """sin(x): as smooth as a kernel can be, which leaky ReLU's is not."""

    def function(self, x):
        return jnp.sin(x)

    def dual(self, c, q1, q2):
        towards = jnp.exp(c - (q1 + q2) / 2) / 2
        away = jnp.exp(-c - (q1 + q2) / 2) / 2
        return towards - away, towards + away

    def second_moment(self, q):
        return (1 - jnp.exp(-2 * q)) / 2


def gaussian(seed, n1=3, n2=2):
    """Moments as they are behind a random layer, rows and columns apart."""
    z = np.random.default_rng(seed).normal(size=(n1 + n2, 4))
    nngp = jnp.asarray(z @ z.T / 4)
    own = jnp.diagonal(nngp)
    start, never = nngp[:n1, n1:], jnp.zeros((n1, n2), bool)
    return Moments(start, 0.5 * start, own[:n1], own[n1:], never, gaussian=True)


def transposed(moments):
    return Moments(
        moments.nngp.T,
        moments.ntk.T,
        moments.own2,
        moments.own1,
        moments.same.T,
        gaussian=True,
    )


W_STD = 1.3
SIZE = W_STD * T1


def linear(w_std):
    return TiedDepth(Sequential([LeakyRelu(1.0), Dense(w_std, 0.0)]), T1)


@eqx.filter_jit
def at_end(layer, moments):
    return layer.propagate(moments)


def test_linear_branch_gives_bessel():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)))
    network = Sequential([Dense(1.0, 0.0), linear(W_STD), Dense(1.0, 0.0)])
    kernels = network(x, max_bytes=30_000)
    start = np.asarray(x @ x.T / 3)
    nngp = start * iv(0, 2 * SIZE)
    np.testing.assert_allclose(kernels.nngp, nngp, rtol=1e-6)
    # Readout and input layer, and the weights along depth.
    ntk = 2 * nngp + start * SIZE * iv(1, 2 * SIZE)
    np.testing.assert_allclose(kernels.ntk, ntk, rtol=1e-6)


@pytest.mark.slow
def test_kernels_are_differentiated_with_respect_to_scales():
    start = gaussian(0)

    @jax.jit
    @jax.grad
    def slope(w_std):
        return jnp.sum(linear(w_std).propagate(start).ntk)

    # With z = wT it is Θ₀ I₀(2z) + Σ₀ z I₁(2z); I₀' = I₁, (z I₁(2z))' = 2z I₀(2z).
    of_ntk, of_nngp = 2 * iv(1, 2 * SIZE), 2 * SIZE * iv(0, 2 * SIZE)
    expected = np.sum(of_ntk * start.ntk + of_nngp * start.nngp) * T1
    np.testing.assert_allclose(slope(jnp.asarray(W_STD)), expected, rtol=1e-6)


GRIDDED = TiedDepth(Sequential([LeakyRelu(0.2), Dense(1.4, 0.3)]), T1, steps=4)
START = gaussian(1)


@pytest.fixture(scope="module")
def grids():
    """Kernels on grids of 4 to 32 cells, of pairs of different examples."""

    @eqx.filter_jit
    def compute(layer, start, n):
        return layer._on_grid(start, n)

    return [compute(GRIDDED, START, 2**level) for level in (2, 3, 4, 5)]


def test_grid_is_of_second_order(grids):
    counts = np.array([4, 8, 16])
    for part in range(4):
        values = [grid[part] for grid in grids]
        gaps = [np.abs(a - b).max() for a, b in itertools.pairwise(values)]
        slope = np.polyfit(np.log(counts), np.log(gaps), 1)[0]
        assert abs(slope + 2) < 0.2, (part, slope)


def test_error_is_not_underestimated(grids):
    coarse, _ = extrapolate(grids[:3])
    fine, _ = extrapolate(grids[1:])
    bounds = eqx.filter_jit(lambda layer, start: layer.error(start))(GRIDDED, START)
    for found, bound, better in zip(coarse[:2], bounds, fine[:2], strict=True):
        assert (np.abs(found - better) <= bound).all()
        assert (bound < 1e-4).all()


LEAKY = TiedDepth(Sequential([LeakyRelu(0.2), Dense(1.4, 0.3)]), T1, steps=2)


def test_pairs_agree_with_the_transposed_problem():
    start = gaussian(2, 2, 2)
    found, mirrored = at_end(LEAKY, start), at_end(LEAKY, transposed(start))
    # The same cells, but for the order of sums: each adds a rounding.
    for part in ("nngp", "ntk", "own1", "own2"):
        expected = getattr(transposed(mirrored), part)
        np.testing.assert_allclose(getattr(found, part), expected, rtol=roundoff(64))


def test_an_example_and_itself_are_one():
    z = np.random.default_rng(4).normal(size=(2, 4))
    nngp = jnp.asarray(z @ z.T / 4)
    own = jnp.diagonal(nngp)
    same = jnp.eye(2, dtype=bool)
    end = at_end(LEAKY, Moments(nngp, nngp, own, own, same, gaussian=True))
    # As far as the sweeps in which variances are found go.
    np.testing.assert_allclose(np.diag(end.nngp), end.own1, rtol=1e-9)
    np.testing.assert_array_equal(end.own1, end.own2)


def sine_maps(c, q1, q2):
    towards, away = np.exp(c - (q1 + q2) / 2) / 2, np.exp(-c - (q1 + q2) / 2) / 2
    return towards - away, towards + away


def one_layer(c, q1, q2):
    """What the branch makes of c: its kernel, own NTK, and factor of an NTK."""
    kappa, slope = sine_maps(c, q1, q2)
    kernel = 1.4**2 * kappa + 0.3**2
    return kernel, kernel, 1.4**2 * slope


def two_layers(c, q1, q2):
    first, own1, own2 = (1.2**2 * q + 0.2**2 for q in (c, q1, q2))
    kernel, source, factor = one_layer(first, own1, own2)
    return kernel, source + factor * first, factor * 1.2**2


def integrated(values, step):
    """∫₀ᵗ∫₀ˢ by the trapezoidal rule, at all t and s."""
    for axis in (0, 1):
        values = np.moveaxis(values, axis, 0)
        sums = np.cumsum((values[1:] + values[:-1]) / 2 * step, axis=0)
        values = np.moveaxis(np.concatenate([0 * values[:1], sums]), 0, axis)
    return values


def by_backward_states(branch, c0, own, ntk0, n):
    """Kernels at the end, by A(0, 0)Θ₀ + ∫∫ A S with A solved from the end."""
    step = T1 / n

    def covariance(start, q1, q2):
        # Two times, and the variances too where there are none: by iteration.
        c = np.full((n + 1, n + 1), start)
        for _ in range(40):
            first = np.diag(c) if q1 is None else q1
            second = np.diag(c) if q2 is None else q2
            c = start + integrated(branch(c, first[:, None], second[None])[0], step)
        return c

    q1, q2 = (np.diag(covariance(q, None, None)) for q in own)
    c = covariance(c0, q1, q2)
    _, source, factor = branch(c, q1[:, None], q2[None])
    backward = np.ones_like(c)
    for _ in range(40):
        turned = (factor * backward)[::-1, ::-1]
        backward = 1 + integrated(turned, step)[::-1, ::-1]
    added = integrated(backward * source, step)[-1, -1]
    return np.array([c[-1, -1], backward[0, 0] * ntk0 + added, q1[-1], q2[-1]])


@pytest.mark.parametrize(
    ("layers", "branch"),
    [
        ([Sine(), Dense(1.4, 0.3)], one_layer),
        ([Dense(1.2, 0.2), Sine(), Dense(1.4, 0.3)], two_layers),
    ],
    ids=["one layer", "two layers"],
)
def test_kernel_is_that_of_backward_states(layers, branch):
    layer = TiedDepth(Sequential(layers), T1, steps=4)
    start = gaussian(3, 1, 1)
    end = at_end(layer, start)
    found = np.array([float(p.squeeze()) for p in (end.nngp, end.ntk)])
    given = (float(start.nngp[0, 0]), (float(start.own1[0]), float(start.own2[0])))
    coarse, fine = (
        by_backward_states(branch, *given, float(start.ntk[0, 0]), n) for n in (48, 96)
    )
    expected = fine + (fine - coarse) / 3
    found = [*found, float(end.own1[0]), float(end.own2[0])]
    np.testing.assert_allclose(found, expected, rtol=3e-6)


def test_what_has_no_two_depth_kernel_is_refused():
    start = gaussian(5)
    with pytest.raises(ValueError, match="must end in a layer with random weights"):
        TiedDepth(Sequential([Dense(), Relu()]))
    with pytest.raises(ValueError, match="Dense and activations, got Flatten"):
        TiedDepth(Sequential([Flatten(), Sequential([Dense()])]))
    with pytest.raises(ValueError, match="`steps` must be an integer"):
        TiedDepth(Dense(), steps=0)
    four = (start.nngp, start.ntk, start.own1, start.own2)
    with pytest.raises(ValueError, match="needs Gaussian units"):
        TiedDepth(Dense()).propagate(start.with_moments(*four, gaussian=False))
    wide = TiedDepth(Dense(width=3))
    with pytest.raises(ValueError, match="returns 3 units and the state has 2"):
        wide.propagate(start.with_moments(*four, channels=2))
    with pytest.raises(ValueError, match="branch's last layer width=2"):
        wide.build((2,), 2, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"positions \(4,\)"):
        Sequential([Dense(), TiedDepth(Dense()), Dense()])(jnp.ones((2, 3, 4)))


class Steps(eqx.Module):
    """A Neural ODE by a fixed number of midpoint steps."""

    ode: NeuralODE
    count: int = eqx.field(static=True)

    def __call__(self, z):
        step, field, t = T1 / self.count, self.ode.field, jnp.zeros(())

        def midpoint(_, z):
            return z + step * field(t, z + step / 2 * field(t, z))

        return jax.lax.fori_loop(0, self.count, midpoint, z)


@pytest.mark.slow
@pytest.mark.usefixtures("cheaply_compiled")
def test_wide_neural_odes_approach_these_kernels():
    x = jnp.asarray(np.random.default_rng(6).normal(size=(2, 4)))
    first, last = Dense(1.0, 0.3), Dense(1.0, 0.2, width=1)
    depth = TiedDepth(Sequential([Relu(), Dense(1.3, 0.3)]), T1)
    network = Sequential([first, depth, last])
    keys = jax.random.split(jax.random.key(7), SEEDS)

    def draw(width):
        def one(key):
            below, ode, readout = network.build((4,), width, key=key)[0].layers
            # The midpoint rule is off by 1/16², below what a hundred draws can tell.
            below = Chain((below, Steps(ode, 16)))
            hidden = jax.vmap(below)(x)
            nngp = hidden @ hidden.T / width + 0.2**2
            return nngp, tangent_kernel(Chain((below, readout)), x)

        return jax.jit(lambda keys: jax.lax.map(one, keys))(keys)

    drawn = [draw(int(width)) for width in WIDTHS]
    for *samples, limit in zip(*drawn, network(x), strict=True):
        check_approach(np.asarray(samples), limit)


def test_network_that_is_built_solves_the_same_equation(key):
    depth = TiedDepth(Sequential([Relu(), Dense(1.3, 0.3)]), T1)
    ode = depth.build((8,), 8, key=key)[0]
    z = jax.random.normal(key, (8,))
    np.testing.assert_allclose(ode(z), Steps(ode, 200)(z), atol=1e-3)
