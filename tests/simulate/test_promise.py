"""`auto` holds three tolerances at every save time, on problems that are hard for it.

Errors are not aligned in time, and the truth is a closed form or scipy's.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.data import digits
from ntkflow.flows import Gradient, Momentum
from ntkflow.kernels import ntk
from ntkflow.models import MLP, DeepLinear, Scaled
from ntkflow.problem import CrossEntropy, Hinge, Problem
from ntkflow.simulate import Reason, log_times, simulate
from tests.simulate.truth import (
    integrate,
    integrate_hinge,
    integrate_stiff,
    learned,
    wrong_by,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quickly_compiled")]

X, Y = (
    jax.random.normal(key, (8, k))
    for key, k in zip(jax.random.split(jax.random.key(0), 2), (3, 1), strict=True)
)
RTOLS = 1e-2, 1e-4, 1e-6
NETWORK = MLP(3, 1, width=12, depth=2, key=jax.random.key(1))


def check(problem, times, exact, flow=None, rtols=RTOLS):
    """Three tolerances, and an estimate that says so."""
    flows = [Gradient()] if flow is None else [flow]
    for rtol in rtols:
        run = simulate(
            problem,
            times,
            flows=flows,
            measures=(),
            rtol=rtol,
            atol=0.01 * rtol,
            progress=False,
        )
        wrong, estimated = wrong_by(run, exact, problem, rtol)
        assert run.reason is Reason.COMPLETED, rtol
        assert wrong.max() <= 3, (rtol, wrong.max())
        # Of errors far below the tolerance the size does not matter.
        told = max(estimated.max(), 0.03)
        assert wrong.max() <= 3 * told, (rtol, wrong.max(), estimated.max())


@pytest.mark.parametrize("strengths", [(1.0,), (3.0, 2.0, 1.0)], ids=["one", "three"])
@pytest.mark.parametrize("depth", [2, 3])
def test_deep_linear_networks_learn_their_modes_in_time(depth, strengths):
    """In rotated bases, each layer `size` times an orthogonal matrix."""
    k = len(strengths)
    rng = np.random.default_rng(0)
    bases = [np.linalg.qr(rng.standard_normal((k, k)))[0] for _ in range(depth + 1)]
    model = DeepLinear(k, k, width=k, depth=depth - 1, key=jax.random.key(0))
    # With three modes of depth 3, a weight of 1e-6 in an array of ones is known to ten
    # digits, and what it becomes after a plateau of 10⁶ to four.
    hardest = RTOLS[:1] if depth == 3 and k == 3 else RTOLS
    for size, rtols in ((1e-2, RTOLS), (1e-4, RTOLS), (1e-6, hardest)):
        weights = tuple(
            jnp.asarray(size * bases[i + 1] @ bases[i].T) for i in range(depth)
        )
        model = eqx.tree_at(
            lambda m: tuple(layer.weight for layer in m.layers), model, weights
        )
        targets = bases[-1] @ np.diag(strengths) @ bases[0].T
        problem = Problem(model, jnp.eye(k), jnp.asarray(targets.T))
        last = 4 - np.log(size) if depth == 2 else 1.5 / size + 4
        times = np.linspace(last / 30, last, 30)
        modes = np.stack([learned(depth, s, size, times) for s in strengths], -1)
        exact = np.einsum("ij,tj,kj->tki", bases[-1], modes, bases[0])
        check(problem, times, exact, rtols=rtols)


class Diagonal(eqx.Module):
    """f = (u² − v²)·x."""

    u: jax.Array
    v: jax.Array

    def __call__(self, x):
        return jnp.sum((self.u**2 - self.v**2) * x, keepdims=True)


def test_a_diagonal_network_from_tiny_weights():
    rng = np.random.default_rng(1)
    x, u, v = rng.standard_normal((8, 20)), jnp.full(20, 1e-4), jnp.full(20, 1e-4)
    y = x[:, :3] @ np.array([[1.0], [-0.7], [0.4]])
    problem = Problem(Diagonal(u, v), jnp.asarray(x), jnp.asarray(y))
    times = np.linspace(0.3, 12, 40)
    check(problem, times, integrate(problem, times))


@pytest.mark.parametrize(("alpha", "last"), [(1e-3, 0.05), (0.05, 10.0)])
def test_rich_networks(alpha, last):
    problem = Problem(Scaled(NETWORK, alpha, centered=True), X, Y)
    times = np.linspace(last / 40, last, 40)
    check(problem, times, integrate(problem, times))


def test_one_target_a_thousand_times_the_others():
    problem, times = (
        Problem(NETWORK, X, Y.at[0, 0].set(1e3)),
        np.linspace(5e-3, 0.2, 40),
    )
    check(problem, times, integrate(problem, times))


def test_one_input_thirty_times_the_others():
    problem = Problem(NETWORK, X.at[:, 0].multiply(30.0), Y)
    times = log_times(1e-3, 1, 30)
    check(problem, times, integrate_stiff(problem, times))


def test_a_weakly_damped_heavy_ball():
    problem, times = Problem(NETWORK, X, Y), np.linspace(0.75, 30, 40)
    check(problem, times, integrate(problem, times, 0.5), Momentum(0.5))


def test_cross_entropy_for_a_million_units_of_time():
    model = MLP(3, 2, width=12, depth=2, key=jax.random.key(1))
    labels = jnp.asarray([0, 1] * 4)
    problem = Problem(model, X, labels, loss=CrossEntropy())
    times = log_times(1, 1e6, 40)
    check(problem, times, integrate_stiff(problem, times))


def test_a_hinge_loss_across_kinks():
    x_key, y_key, key = jax.random.split(jax.random.key(2), 3)
    x = jax.random.normal(x_key, (8, 3))
    y = jnp.where(jax.random.normal(y_key, (8, 1)) > 0, 1.0, -1.0)
    model = MLP(3, 1, width=12, depth=2, key=key)
    problem = Problem(model, x, y, loss=Hinge())
    at, kinks, end = integrate_hinge(problem, 20.0)
    assert kinks >= 5
    times = np.linspace(end / 40, 0.98 * end, 40)
    check(problem, times, at(times))


class Recurrent(eqx.Module):
    """A GRU over the positions of an input, read at the last."""

    cell: eqx.nn.GRUCell
    out: eqx.nn.Linear

    def __call__(self, x):
        def step(h, row):
            return self.cell(row, h), None

        return self.out(jax.lax.scan(step, jnp.zeros(self.cell.hidden_size), x)[0])


def test_a_gru_over_ten_steps():
    keys = jax.random.split(jax.random.key(5), 4)
    cell, out = eqx.nn.GRUCell(3, 6, key=keys[0]), eqx.nn.Linear(6, 1, key=keys[1])
    x, y = jax.random.normal(keys[2], (8, 10, 3)), jax.random.normal(keys[3], (8, 1))
    problem, times = Problem(Recurrent(cell, out), x, y), np.linspace(0.5, 10, 20)
    check(problem, times, integrate(problem, times))


def fastest(problem):
    """The largest eigenvalue of the kernel, in units of time."""
    n = problem.x.shape[0] * problem.n_outputs
    kernel = ntk(problem.model, problem.x, outputs="full").transpose(0, 2, 1, 3)
    return problem.time_scale * float(jnp.linalg.eigvalsh(kernel.reshape(n, n))[-1])


@pytest.mark.parametrize("alpha", [0.1, 10.0], ids=["rich", "lazy"])
def test_digits(alpha):
    data = digits(n_train=40, n_test=1)
    model = MLP(64, 10, width=24, depth=2, key=jax.random.key(2))
    problem = Problem(Scaled(model, alpha, centered=True), data.x_train, data.y_train)
    rate = fastest(problem)
    times = log_times(0.1 / rate, 1e3 / rate, 40)
    check(problem, times, integrate(problem, times))


def test_a_horizon_of_a_hundred_million_time_constants():
    x_key, y_key, key = jax.random.split(jax.random.key(9), 3)
    x, y = jax.random.normal(x_key, (6, 2)), jax.random.normal(y_key, (6, 1))
    problem = Problem(MLP(2, 1, width=10, depth=1, key=key), x, y)
    rate = fastest(problem)
    times = log_times(1 / rate, 1e8 / rate, 40)
    check(problem, times, integrate_stiff(problem, times))
