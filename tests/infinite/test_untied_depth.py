import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.infinite import (
    Dense,
    Flatten,
    LeakyRelu,
    Moments,
    Relu,
    Sequential,
    UntiedDepth,
)
from tests.infinite.approach import tangent_kernel
from tests.tolerances import roundoff, solver, standard_errors

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

IDENTITY = LeakyRelu(1.0)
T1, W_STD = 1.5, 1.2
POWER = W_STD**2 * T1


def gaussian(seed):
    """Moments as they are behind a random layer, rows and columns apart."""
    z = np.random.default_rng(seed).normal(size=(6, 4))
    nngp = jnp.asarray(z @ z.T / 4)
    own = jnp.diagonal(nngp)
    never = jnp.zeros((3, 3), bool)
    start = nngp[:3, 3:]
    return Moments(start, 0.5 * start, own[:3], own[3:], never, gaussian=True)


@eqx.filter_jit
def at_end(layer, moments):
    return layer.propagate(moments)


def linear(w_std, rtol):
    branch = Sequential([IDENTITY, Dense(w_std, 0.0)])
    return UntiedDepth(branch, T1, rtol=rtol, atol=rtol)


def test_linear_branch_grows_exponentially_in_every_tile():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)))
    depth = linear(W_STD, 1e-12)
    network = Sequential([Dense(1.0, 0.0), depth, Dense(1.0, 0.0)])
    kernels = network(x, max_bytes=8_000)
    start = np.asarray(x @ x.T / 3)
    # Input layer, the weights along depth, and readout.
    for found, factor in [(kernels.nngp, 1.0), (kernels.ntk, 1.0 + POWER + 1.0)]:
        expected = factor * start * np.exp(POWER)
        np.testing.assert_allclose(found, expected, rtol=solver(1e-12, factor=100.0))


@pytest.mark.slow
def test_kernels_are_differentiated_with_respect_to_scales():
    start = gaussian(2)

    @jax.jit
    @jax.grad
    def slope(w_std):
        return jnp.sum(linear(w_std, 1e-10).propagate(start).ntk)

    # The derivative of (Θ₀ + w²T Σ₀) exp(w²T) in w.
    growth = np.exp(POWER) * 2 * W_STD * T1
    expected = np.sum(start.ntk + (1 + POWER) * start.nngp) * growth
    found = slope(jnp.asarray(W_STD))
    np.testing.assert_allclose(found, expected, rtol=solver(1e-10, factor=1000.0))


BRANCHES = {
    "one layer": Sequential([Relu(), Dense(1.3, 0.4)]),
    "two layers": Sequential([Dense(0.8, 0.1), LeakyRelu(0.2), Dense(1.1, 0.3)]),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_kernels_of_many_blocks_approach_those_of_depth(name):
    branch, start = BRANCHES[name], gaussian(1)

    @jax.jit
    def of_blocks(count):
        scale = T1 / count.astype(float)

        def block(_, moments):
            added = branch.propagate(moments)
            sums = (
                getattr(moments, part) + scale * getattr(added, part)
                for part in ("nngp", "ntk", "own1", "own2")
            )
            return moments.with_moments(*sums)

        return jax.lax.fori_loop(0, count, block, start)

    end = at_end(UntiedDepth(branch, T1), start)
    counts = np.array([16, 32, 64, 128])
    blocks = [of_blocks(jnp.asarray(count)) for count in counts]
    for part in ("nngp", "ntk", "own1", "own2"):
        expected = getattr(end, part)
        gaps = [np.abs(getattr(found, part) - expected).max() for found in blocks]
        slope = np.polyfit(np.log(counts), np.log(gaps), 1)[0]
        assert abs(slope + 1) < 0.2, (part, slope)
        assert gaps[-1] < 0.1 * np.abs(expected).max()


def test_examples_that_occur_twice_cost_no_accuracy():
    z = np.random.default_rng(4).normal(size=(3, 4))
    nngp = jnp.asarray(z @ z.T / 4)
    own = jnp.diagonal(nngp)
    layer = UntiedDepth(BRANCHES["one layer"], T1)
    found, expected = (
        at_end(layer, Moments(nngp, nngp, own, own, same, gaussian=True))
        for same in (jnp.zeros((3, 3), bool), jnp.eye(3, dtype=bool))
    )
    np.testing.assert_allclose(
        found.nngp, expected.nngp, rtol=solver(1e-8, factor=100.0)
    )
    # The slope of the kernel of equals turns a rounding e into √e.
    root = 10 * np.sqrt(roundoff(8))
    np.testing.assert_allclose(found.ntk, expected.ntk, rtol=root)


def test_single_precision_at_every_position_stays_single():
    random = np.random.default_rng(3)
    nngp = random.normal(size=(2, 3, 4)).astype(np.float32)
    own1, own2 = (jnp.full((n, 4), 9.0, np.float32) for n in (2, 3))
    same = jnp.zeros((2, 3), bool)
    start = jnp.asarray(nngp)
    layer = UntiedDepth(Sequential([IDENTITY, Dense(W_STD, 0.0)]), T1)
    found = at_end(layer, Moments(start, 0 * start, own1, own2, same, gaussian=True))
    tolerance = solver(16 * float(np.finfo(np.float32).eps), factor=20.0)
    for part, before, factor in [
        (found.nngp, nngp, 1.0),
        (found.ntk, nngp, POWER),
        (found.own1, own1, 1.0),
        (found.own2, own2, 1.0),
    ]:
        assert part.dtype == np.float32
        expected = factor * np.exp(POWER) * np.asarray(before)
        np.testing.assert_allclose(part, expected, rtol=tolerance, atol=tolerance)


def test_too_few_steps_are_an_error():
    layer = UntiedDepth(Sequential([IDENTITY, Dense()]), T1, max_steps=2)
    with pytest.raises(eqx.EquinoxRuntimeError, match="max_steps=2"):
        jax.block_until_ready(at_end(layer, gaussian(6)).ntk)


def test_what_has_no_limit_is_refused():
    start = gaussian(7)
    with pytest.raises(ValueError, match="must end in a layer with random weights"):
        UntiedDepth(Sequential([Dense(), Relu()]))
    with pytest.raises(ValueError, match="`blocks` must be an integer"):
        UntiedDepth(Dense(), blocks=0)
    with pytest.raises(ValueError, match="needs Gaussian units"):
        UntiedDepth(Dense()).propagate(start.with_moments(*four(start), gaussian=False))
    wide = UntiedDepth(Dense(width=3))
    with pytest.raises(ValueError, match="returns 3 units and the state has 2"):
        wide.propagate(start.with_moments(*four(start), channels=2))
    with pytest.raises(ValueError, match="branch's last layer width=2"):
        wide.build((2,), 2, key=jax.random.key(0))


def test_positions_that_a_branch_loses_are_refused():
    x = jnp.ones((2, 3, 4))
    depth = UntiedDepth(Sequential([Relu(), Flatten(), Dense()]))
    with pytest.raises(ValueError, match="positions of the state"):
        Sequential([Dense(), depth, Dense()])(x)


def four(moments):
    return moments.nngp, moments.ntk, moments.own1, moments.own2


@pytest.mark.slow
def test_finite_networks_of_many_blocks_have_these_kernels():
    x = jnp.asarray(np.random.default_rng(8).normal(size=(3, 4)))
    seeds, width, blocks = 32, 192, 16
    branch = Sequential([Relu(), Dense(1.2, 0.3)])
    depth = UntiedDepth(branch, 1.0, blocks=blocks)
    network = Sequential([Dense(1.0, 0.3), depth, Dense(1.0, 0.2, width=1)])

    @jax.jit
    def kernel(key):
        return tangent_kernel(network.build((4,), width, key=key)[0], x)

    found = np.array([kernel(k) for k in jax.random.split(jax.random.key(9), seeds)])
    expected = np.asarray(network(x).ntk)
    # Beside the draws' spread, the limits are off by 1/width and 1/blocks.
    bound = standard_errors(found.std(axis=0), seeds)
    bound += np.abs(expected) * (2 / width + 2 / blocks)
    assert (np.abs(found.mean(axis=0) - expected) < bound).all()
    assert (bound < 0.25 * expected.max()).all()
