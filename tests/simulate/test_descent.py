"""Discrete training through `simulate`, against loops written out by hand."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from ntkflow import measures, solvers
from ntkflow.flows import Descent, Gradient, Linearized, Modified, Momentum, Residual
from ntkflow.models import MLP, DeepLinear, Scaled, named_leaves
from ntkflow.problem import Problem
from ntkflow.simulate import (
    DriftAbove,
    LossBelow,
    Reason,
    SimulationError,
    Trajectory,
    simulate,
)
from tests.simulate.problems import dense_kernel, tiny
from tests.solvers.quick import quick_jit
from tests.tolerances import roundoff, solver

pytestmark = pytest.mark.usefixtures("cheaply_compiled")

quickly = pytest.mark.usefixtures("quickly_compiled")
QUIET = {"measures": (), "progress": False}
ETA = 0.02
ROWS = np.random.default_rng(4).integers(0, 6, (60, 2))


def loop(problem, rate, updates, momentum=0.0, rows=None):
    """θ₀, θ₁, …: the recursion in plain words, with the loss written out."""
    flat, unravel = ravel_pytree(problem.params)
    n = len(problem.x)

    @quick_jit
    def gradient(flat, row):
        def loss(flat):
            params = unravel(flat)
            f = problem.outputs(params, problem.x[row])
            data = 0.5 * jnp.sum((f - problem.y[row]) ** 2) * (n / len(row))
            strength = 0.0 if problem.decay is None else problem.decay.strength
            return data + 0.5 * strength * jnp.sum(flat**2)

        return jax.grad(loss)(flat)

    visited, last = [flat], flat
    for k in range(updates):
        row = jnp.arange(n) if rows is None else jnp.asarray(rows[k])
        new = flat - rate * gradient(flat, row) + momentum * (flat - last)
        flat, last = new, flat
        visited.append(flat)
    return np.stack(visited)


def visited_by(run, problem):
    """The parameters of a run as `loop` gives them."""
    leaves = [run.params[name] for name, _ in named_leaves(problem.params)]
    return np.concatenate([a.reshape(len(a), -1) for a in leaves], axis=1)


def scaled():
    base = tiny()
    model = Scaled(base.model, 3.0)
    return Problem(model, base.x, base.y, reduction="mean", decay=0.3)


BALL, BATCHES = {"momentum": 0.9}, {"batches": ROWS}
CASES = {
    "descent of the mean": (lambda: tiny(reduction="mean"), {}, 1 / 6),
    "heavy ball in batches, scaled": (scaled, BALL | BATCHES, 1 / 54),
    "batches in float32": (lambda: tiny(decay=0.3, dtype=jnp.float32), BATCHES, 1.0),
}
"""A problem, the descent's options, and what multiplies the rate."""


@quickly
@pytest.mark.parametrize("case", CASES)
def test_every_update_is_that_of_a_loop(case):
    make, options, c = CASES[case]
    problem, updates = make(), 50
    descent = Descent(ETA, **options)
    h = descent.step
    assert h == (np.sqrt(ETA) if "momentum" in options else ETA)
    # At each update, between two, and with a last step that is cut.
    k = np.append(np.arange(updates - 1), updates - 0.75)
    k = np.insert(k, 8, 7.25)
    run = simulate(problem, k * h, flows=[descent], **QUIET)
    rows = options.get("batches")
    exact = loop(problem, ETA * c, updates, options.get("momentum", 0.0), rows)
    low = np.floor(k).astype(int)
    part = (k - low).astype(exact.dtype)[:, None]
    expected = (1 - part) * exact[low] + part * exact[np.minimum(low + 1, updates)]
    eps = np.finfo(problem.dtype).eps
    # Between updates the time, k roundings of a step away, is rounded too.
    tolerance = 1e-12 if eps < 1e-10 else roundoff(updates, problem.dtype)
    gap = np.linalg.norm(visited_by(run, problem) - expected, axis=1)
    assert (gap <= tolerance * np.linalg.norm(expected, axis=1)).all()
    assert run.stats["steps"] == run.stats["gradients"] == updates
    assert list(run.dataset.flow.values) == ["descent"]
    assert {leaf.dtype for leaf in run.params.values()} == {problem.dtype}


def test_explicit_euler_equals_gradient_descent():
    problem, times = tiny(), ETA * np.arange(10, 101, 10)
    fixed = {"solver": dfx.Euler(), "controller": dfx.ConstantStepSize(), "dt0": ETA}
    euler = simulate(problem, times, flows=[Gradient()], **fixed, **QUIET)
    assert euler.stats["evaluations"] == euler.stats["steps"] == 100
    expected = loop(problem, ETA, 100)[10::10]
    np.testing.assert_allclose(
        visited_by(euler, problem), expected, rtol=0, atol=roundoff(500)
    )


@quickly
def test_descent_as_a_solver_makes_discrete_training_of_every_flow():
    """Of the frozen residual and the linearized network it makes (1 − ηH)^k r₀."""
    problem = tiny()
    run = simulate(
        problem,
        ETA * np.array([1, 20, 45]),
        flows=[Gradient(), Residual("frozen"), Linearized()],
        solver=solvers.Descent(ETA),
        **QUIET,
    )
    r0 = np.ravel(problem.outputs(problem.params, problem.x) - problem.y)
    one = np.eye(12) - ETA * dense_kernel(problem)
    for i, k in enumerate((1, 20, 45)):
        expected = (np.linalg.matrix_power(one, k) @ r0).reshape(6, 2) + problem.y
        for flow in ("residual_frozen", "linearized"):
            found = run.dataset.f_train.sel(flow=flow).isel(time=i)
            np.testing.assert_allclose(found, expected, rtol=0, atol=roundoff(1000))
    np.testing.assert_allclose(
        visited_by(run, problem),
        loop(problem, ETA, 45)[[1, 20, 45]],
        rtol=0,
        atol=roundoff(500),
    )


@quickly
def test_descent_and_its_flow_lie_on_one_time_axis():
    """No solver is named; measures read whichever parameter flow comes first."""
    problem = tiny()
    descent = Descent(ETA)
    run = simulate(
        problem,
        [0.5, 1.0, 2.0],
        flows=[descent, descent.limit],
        measures=[measures.KernelDrift(), measures.EnergyDefect()],
        events=[LossBelow(1e-3)],
        progress=False,
    )
    assert descent.limit == Gradient()
    dataset = run.dataset
    assert dataset.attrs["measured_on"] == "descent"
    f = dataset.f_train
    gap = np.abs(f.sel(flow="descent") - f.sel(flow="gradient")).max()
    assert 1e-4 < gap < 10 * ETA
    k0 = dense_kernel(problem)
    moved = problem.with_parts(eqx.filter(run.model, problem.trainable), problem.static)
    drift = np.linalg.norm(dense_kernel(moved) - k0) / np.linalg.norm(k0)
    np.testing.assert_allclose(dataset.kernel_drift[-1], drift, rtol=1e-10)
    # The defect is that of the rectangle rule of ∫‖∇L‖², over the updates.
    theta = loop(problem, ETA, 25)
    _, unravel = ravel_pytree(problem.params)
    loss = [problem.objective(unravel(jnp.asarray(at))) for at in theta]
    fall = ((theta[1:] - theta[:-1]) ** 2).sum() / ETA
    defect = abs(float(loss[25] - loss[0]) + fall) / float(loss[0])
    np.testing.assert_allclose(dataset.energy_defect[0], defect, rtol=1e-8)


@quickly
@pytest.mark.parametrize("momentum", [0.0, pytest.param(0.8, marks=pytest.mark.slow)])
def test_modified_flow_runs_beside_descent_and_keeps_its_energy_identity(momentum):
    problem = tiny()
    descent = Descent(ETA, momentum=momentum)
    rtol = 1e-7
    run = simulate(
        problem,
        descent.step * np.array([4.0, 8.0]),
        flows=[Modified(descent), descent],
        measures=[measures.EnergyDefect()],
        rtol=rtol,
        atol=1e-9,
        progress=False,
    )
    assert list(run.dataset.flow.values) == ["modified", "descent"]
    assert run.dataset.attrs["measured_on"] == "modified"
    assert np.abs(run.dataset.energy_defect).max() <= solver(rtol)
    f = run.dataset.f_train
    gap = np.abs(f.sel(flow="descent") - f.sel(flow="modified")).max()
    assert 0 < gap < 10 * descent.step**2
    # The trained model is that of the flow that is measured.
    last = f.sel(flow="modified").isel(time=-1)
    found = jax.vmap(run.model)(problem.x)
    np.testing.assert_allclose(found, last, rtol=0, atol=roundoff(100))


def test_stochastic_descent_is_cut_and_resumed_bit_for_bit(tmp_path):
    problem, times = tiny(), ETA**0.5 * np.array([3.5, 20, 40])
    settings = {"flows": [Descent(ETA, momentum=0.5, batches=ROWS)], **QUIET}
    whole = simulate(problem, times, **settings)
    stopped = simulate(
        problem,
        times,
        checkpoint=tmp_path,
        max_steps=25,
        segment_steps=7,
        throw=False,
        **settings,
    )
    assert stopped.reason is Reason.MAX_STEPS
    resumed = simulate(problem, times, checkpoint=tmp_path, resume=True, **settings)
    np.testing.assert_array_equal(
        visited_by(whole, problem), visited_by(resumed, problem)
    )
    assert resumed.stats["steps"] == whole.stats["steps"] == 40
    for change in ({"batches": ROWS[::-1]}, {"batches": ROWS, "momentum": 0.4}):
        other = settings | {"flows": [Descent(ETA, **{"momentum": 0.5, **change})]}
        with pytest.raises(ValueError, match="holds another run"):
            simulate(problem, times, checkpoint=tmp_path, resume=True, **other)


@quickly
def test_an_ensemble_of_descents_equals_loops():
    base = tiny()
    keys = jax.random.split(jax.random.key(5), 3)

    def make(key):
        return MLP(3, 2, width=8, depth=1, key=key)

    run = simulate(
        Problem(make(keys[0]), base.x, base.y),
        ETA * np.array([1, 30]),
        flows=[Descent(ETA, batches=ROWS)],
        ensemble=eqx.filter_vmap(make)(keys),
        **QUIET,
    )
    assert run.stats["gradients"] == 3 * 30
    for i, key in enumerate(keys):
        problem = Problem(make(key), base.x, base.y)
        expected = loop(problem, ETA, 30, rows=ROWS)[[1, 30]]
        leaves = [run.params[name] for name, _ in named_leaves(problem.params)]
        found = [a[i].reshape(2, -1) for a in leaves]
        np.testing.assert_allclose(
            np.concatenate(found, axis=1), expected, rtol=0, atol=roundoff(500)
        )


@quickly
def test_descent_beyond_its_limit_of_stability_ends_as_diverged():
    model = MLP(3, 2, width=1, depth=0, key=jax.random.key(1))  # linear
    problem = Problem(model, tiny().x, tiny().y)
    eta = 1.2 * 2 / np.linalg.eigvalsh(dense_kernel(problem))[-1]
    times, flows = eta * np.array([1, 5000]), [Descent(eta)]
    run = simulate(problem, times, flows=flows, throw=False, **QUIET)
    assert run.reason is Reason.DIVERGED
    assert run.dataset.sizes["time"] == 1
    assert np.isfinite(run.dataset.f_train).all()


@quickly
def test_descent_whose_loss_grew_has_diverged(tmp_path):
    """Long before anything overflows; flows solved beside it are kept."""
    problem = tiny()
    eta = 3 * 2 / np.linalg.eigvalsh(dense_kernel(problem))[-1]
    times, flows = eta * np.array([1, 20, 21]), [Gradient(), Descent(eta)]
    with pytest.raises(SimulationError, match="Lower learning_rate") as caught:
        simulate(problem, times, flows=flows, checkpoint=tmp_path, **QUIET)
    run = caught.value.trajectory
    assert run.reason is Reason.DIVERGED
    # After one update it is 38 times its start, after twenty 1e28 times.
    loss = run.dataset.loss_train
    assert np.isfinite(loss.sel(flow="gradient")).all()
    np.testing.assert_array_equal(
        np.isfinite(loss.sel(flow="descent")), [True, False, False]
    )
    assert run.stats["t_reached"] == run.dataset.attrs["t_reached"] == times[1]
    failure = run.dataset.attrs["failure"]
    assert failure.startswith("descent: The flow diverged")
    assert "learning_rate" in failure
    assert "dt0" not in failure
    loaded = Trajectory.load(tmp_path)
    assert loaded.reason is Reason.DIVERGED
    assert loaded.dataset.attrs["failure"] == failure
    np.testing.assert_array_equal(loaded.dataset.loss_train, loss)


@quickly
def test_a_network_comes_back_from_beyond_the_limit_of_its_first_kernel():
    """What a constant kernel could not: its largest eigenvalue falls to about 2/η."""
    problem = tiny()
    first = np.linalg.eigvalsh(dense_kernel(problem))[-1]
    eta = 1.5 * 2 / first
    run = simulate(problem, [200 * eta], flows=[Descent(eta)], **QUIET)
    assert run.reason is Reason.COMPLETED
    assert run.dataset.loss_train[0, -1] < problem.objective(problem.params)
    params = eqx.filter(run.model, problem.trainable)
    last = dense_kernel(problem.with_parts(params, problem.static))
    assert 1.5 < eta * np.linalg.eigvalsh(last)[-1] < 2.2


@quickly
def test_one_diverged_member_leaves_the_others_alone():
    base = tiny()
    factors = jnp.array([1.0, 30.0])

    def make(factor):
        model = DeepLinear(3, 2, width=4, depth=1, key=jax.random.key(7))
        return jax.tree.map(lambda a: factor * a if eqx.is_array(a) else a, model)

    run = simulate(
        Problem(make(1.0), base.x, base.y),
        ETA * np.array([1, 40]),
        flows=[Descent(ETA)],
        ensemble=eqx.filter_vmap(make)(factors),
        throw=False,
        **QUIET,
    )
    assert run.reason is Reason.DIVERGED
    finite = np.isfinite(run.dataset.loss_train.isel(flow=0))
    assert finite.values.tolist() == [[True, True], [False, False]]
    assert run.stats["t_reached"] == ETA


@pytest.mark.slow
@quickly
def test_updates_beyond_a_hundred_thousand_stay_apart_in_float32():
    """Where diffrax would join the last several to one."""

    class Constant(eqx.Module):
        value: jax.Array

        def __call__(self, x):
            return self.value * jnp.ones_like(x)

    x, updates, eta = jnp.zeros((1, 1), jnp.float32), 400_000, 1e-5
    problem = Problem(Constant(jnp.ones(1, jnp.float32)), x, x)
    late = updates - np.arange(12)[::-1]
    run = simulate(
        problem,
        eta * late,
        flows=[Descent(eta)],
        segment_steps=100_000,
        **QUIET,
    )
    assert run.stats["steps"] == updates
    theta, factor = np.float32(1), np.float32(eta)
    left = []
    for _ in range(updates):
        theta = theta + factor * -theta
        left.append(theta)
    np.testing.assert_array_equal(
        visited_by(run, problem)[:, 0], np.array(left)[late - 1]
    )


def test_heavy_ball_tells_its_flow():
    descent = Descent(0.04, momentum=0.9)
    assert descent.step == pytest.approx(0.2)
    assert isinstance(descent.limit, Momentum)
    assert descent.limit.damping == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
        ({"learning_rate": np.inf}, "learning_rate must be positive, got inf"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0"),
        ({"batches": np.ones((3, 2))}, r"batches must be integers.*float64 \[3, 2\]"),
        ({"batches": np.arange(6)}, r"batches must be integers.*int64 \[6\]"),
        ({"batches": np.zeros((0, 2), int)}, r"batches must be integers.*\[0, 2\]"),
    ],
)
def test_what_is_no_descent_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Descent(**{"learning_rate": ETA, **options})


@pytest.mark.parametrize(
    ("flows", "options", "message"),
    [
        ([Descent(ETA, batches=ROWS + 1)], {}, "indices from 1 to 6.*has 6 examples"),
        ([Descent(ETA, batches=ROWS - 1)], {}, "indices from -1 to 4"),
        (
            [Descent(ETA, batches=ROWS[:49])],
            {},
            "has 49 rows and 50 updates are needed",
        ),
        ([Descent(1e-7)], {}, "updates of 1e-07 cannot be told apart on a time"),
        ([Descent(ETA)], {"solver": {"descent": dfx.Euler()}}, "makes its own updates"),
        (
            [Descent(ETA)],
            {"events": [DriftAbove(0.1)]},
            "DriftAbove is located between",
        ),
        ([Descent(ETA), Descent(0.1)], {}, "'descent' is given twice"),
        ([Descent(ETA)], {"dt0": 0.1}, "leave out controller and dt0"),
    ],
)
def test_descents_that_cannot_be_run_are_refused(flows, options, message):
    dtype = jnp.float32 if flows[0].learning_rate < 1e-3 else jnp.float64
    with pytest.raises(ValueError, match=message):
        simulate(tiny(dtype=dtype), [50 * ETA], flows=flows, **options, **QUIET)
