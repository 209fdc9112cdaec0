"""Every product of float32 numbers asks for the highest precision.

A GPU rounds the factors of a product that does not to ten bits. On a CPU no number
tells, so what is read here is the program, traced as it is for a GPU.
"""

from collections.abc import Iterator
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.extend.core as jex
import jax.numpy as jnp
import lineax as lx
import pytest

import ntkflow as nf
from ntkflow import _precision, solvers
from ntkflow.simulate import _integrate, _locate, _plan, _reading, _segment_record
from ntkflow.simulate._records import Span

from .simulate.problems import tiny

HIGHEST = (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)
PRODUCTS = {"dot_general", "conv_general_dilated", "ragged_dot_general"}


@pytest.fixture(scope="module", autouse=True)
def as_for_a_gpu() -> Iterator[None]:
    """What was traced for the CPU is forgotten, and what is traced here afterwards."""
    jax.clear_caches()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_precision, "rounds_products", lambda: True)
        yield
    jax.clear_caches()


def equations(jaxpr) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        yield equation
        for inner in jex.jaxprs_in_params(equation.params):
            yield from equations(inner)


def precisions(function, *args) -> list[Any]:
    """What each floating product of a function's program asks for."""
    jaxpr = eqx.filter_make_jaxpr(function)(*args)[0].jaxpr
    return [
        equation.params["precision"]
        for equation in equations(jaxpr)
        if equation.primitive.name in PRODUCTS
        and jnp.issubdtype(equation.invars[0].aval.dtype, jnp.inexact)
    ]


def expect_highest(function, *args, products: bool = True) -> None:
    found = precisions(function, *args)
    assert found or not products, "the program has no products: it says nothing"
    assert set(found) <= {HIGHEST}, [asked for asked in found if asked != HIGHEST]


class Weighted(eqx.Module):
    """A loss with a product of its own."""

    matrix: jax.Array

    def __call__(self, f, y):
        return 0.5 * jnp.dot(f - y, self.matrix @ (f - y))


@pytest.fixture(scope="module")
def problem():
    return tiny(dtype=jnp.float32, loss=Weighted(jnp.eye(2, dtype=jnp.float32)))


def planned(problem, solver, flows, events=()):
    (one,) = _plan.plan_solves(
        flows,
        problem,
        solver=solver,
        controller=None,
        dt0=None,
        rtol=1e-3,
        atol=1e-5,
        events=events,
        dense_steps=0,
    )
    return one.solve


SOLVERS = [
    solvers.Explicit(dfx.Dopri5()),
    solvers.Chebyshev(),
    solvers.Rock4(),
    solvers.KernelImplicit(),
    solvers.KernelExponential(),
]


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_every_step_asks_for_full_precision(solver, problem):
    flows = [nf.flows.Gradient()]
    explicit = isinstance(solver, solvers.Explicit)
    if explicit:
        flows += [nf.flows.Residual("evolving")]
        flows += [nf.flows.Modified(nf.flows.Descent(0.1))]
    solve = planned(problem, solver, flows, [nf.SteadyState(0.1)])
    end = jnp.ones((), jnp.float32)
    constants = eqx.filter_eval_shape(_integrate.prepare, solve, problem)
    state = eqx.filter_eval_shape(_integrate._start, solve, problem, constants, end)
    span = Span(jnp.ones(3, jnp.float32), end, jnp.asarray(5, jnp.int32), end, end)
    expect_highest(_integrate._advance, solve, problem, constants, state, span)
    expect_highest(_integrate._start, solve, problem, constants, end)
    # An explicit solver takes over with the step that was proposed to another.
    expect_highest(
        _integrate._take_over,
        solve,
        problem,
        constants,
        state,
        end,
        products=not explicit,
    )
    if explicit:
        expect_highest(_integrate.prepare, solve, problem)
        expect_highest(_segment_record.objectives, solve, problem, state.y)


def test_readings_ask_for_full_precision(problem):
    flows = [nf.flows.Gradient(), nf.flows.Residual("frozen"), nf.flows.Linearized()]
    measures = nf.measures.default_measures(problem, [flow.name for flow in flows])
    flows = _plan.complete_flows(flows, measures)
    solve = planned(problem, dfx.Tsit5(), flows)
    event = nf.DriftAbove(0.1)
    reader = _reading.Reader(solve.coupled, tuple(measures), (event,), "linearized")
    expect_highest(_reading.compute_reference, reader, problem)
    reference = eqx.filter_eval_shape(_reading.compute_reference, reader, problem)
    constants = eqx.filter_eval_shape(_integrate.prepare, solve, problem)
    y = eqx.filter_eval_shape(lambda: solve.coupled.pack(solve.coupled.init(problem)))
    time = jnp.ones((), jnp.float32)
    given = constants, reference, time, y, None, reference.before
    expect_highest(_reading._read, reader, problem, *given)


def test_a_cpu_is_asked_for_nothing(monkeypatch):
    """It rounds nothing, and compiles what asks in up to twice the time."""
    monkeypatch.setattr(_precision, "rounds_products", lambda: False)
    square = _precision.at_full_precision(lambda a: a @ a)
    assert precisions(square, jnp.eye(2, dtype=jnp.float32)) == [None]


def test_locating_events_asks_for_full_precision(problem):
    solve = planned(problem, dfx.Tsit5(), [nf.flows.Gradient()])
    constants = eqx.filter_eval_shape(_integrate.prepare, solve, problem)
    y = eqx.filter_eval_shape(lambda: solve.coupled.pack(solve.coupled.init(problem)))
    times = jnp.zeros((), jnp.float32), jnp.ones((), jnp.float32)
    event = nf.DriftAbove(0.1)
    kernel = jnp.ones((6, 2, 6, 2), jnp.float32)
    expect_highest(
        _locate._state_at, solve, problem, constants, y, *times, event, kernel
    )


def test_what_a_user_asks_for_stays(problem, key):
    """A model may round on purpose, and its derivatives do as it does."""

    class Rounding(eqx.Module):
        weight: jax.Array

        def __call__(self, x):
            return jnp.dot(self.weight, x, precision="default")

    weight = jax.random.normal(key, (2, 3), jnp.float32)
    rounding = nf.Problem(Rounding(weight), problem.x, problem.y)
    found = precisions(nf.Problem.gradient, rounding, rounding.params)
    assert HIGHEST not in found
    assert found


X = jnp.linspace(0.1, 1.0, 18, dtype=jnp.float32).reshape(6, 3)
Y = jnp.linspace(-1.0, 1.0, 12, dtype=jnp.float32).reshape(6, 2)
KERNEL = X @ X.T + jnp.eye(6, dtype=jnp.float32)
CROSS = KERNEL[:2]
TEST = {"ntk_test_train": CROSS, "f0_test": Y[:2]}
KEY = jax.random.key(0)


THEORY = {
    "frozen_flow": lambda k: nf.theory.frozen_flow(k, Y, Y, 1.0, **TEST),
    "frozen_momentum": lambda k: nf.theory.frozen_momentum(
        k, Y, Y, 1.0, damping=0.1, **TEST
    ),
    "frozen_descent": lambda k: nf.theory.frozen_descent(
        k, Y, Y, 3, learning_rate=0.1, **TEST
    ),
    "ensemble": lambda k: nf.theory.ensemble(
        k, k, Y, 1.0, nngp_test_train=CROSS, nngp_test=KERNEL[:2, :2],
        ntk_test_train=CROSS,
    ),
    "nngp_posterior": lambda k: nf.theory.nngp_posterior(
        k, Y, 0.1, nngp_test_train=CROSS, nngp_test=KERNEL[:2, :2]
    ),
    "kernel_ridge": lambda k: nf.theory.kernel_ridge(k, Y, 0.1, **TEST),
    "early_stopping_matrix": lambda k: nf.theory.early_stopping_matrix(k, 1.0),
    "descent_gap": lambda k: nf.theory.descent_gap(
        k.reshape(3, 2, 3, 2), Y[:3], Y[:3], jnp.ones(1, jnp.float32)
    ),
    "derivative": jax.grad(lambda k: jnp.sum(nf.theory.frozen_flow(k, Y, Y, 1.0)[0])),
    "flow_by_products": lambda k: nf.theory.frozen_flow_by_products(
        k, Y, 0 * Y, 1.0, steps=2, **TEST
    ),
    "ridge_by_products": lambda k: nf.theory.kernel_ridge_by_products(
        k, Y, 0 * Y, 0.1, rtol=1e-4, rank=2, key=KEY, **TEST
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", THEORY)
def test_theory_asks_for_full_precision(name):
    expect_highest(THEORY[name], KERNEL)


def operator(problem):
    return nf.NTKOperator(problem.model, problem.x, max_bytes=10_000_000)


V = jnp.ones((6, 2), jnp.float32)
KERNELS = {
    "ntk": lambda p: nf.ntk(p.model, p.x),
    "products": lambda p: nf.ntk(p.model, p.x, method="vector_products"),
    "velocity": nf.ntk_velocity,
    "operator": lambda p: operator(p).mv(V),
    "operator in batches": lambda p: nf.NTKOperator(p.model, p.x, max_bytes=1).mv(V),
    "operator linearized": lambda p: lx.linearise(operator(p)).mv(V),
    "operator materialized": lambda p: lx.materialise(operator(p)).mv(V),
    "operator's diagonal": lambda p: lx.diagonal(operator(p)),
    "eigenpairs": lambda p: nf.kernels.top_eigenpairs(operator(p), 2, key=KEY),
    "Lanczos": lambda p: nf.kernels.top_eigenpairs(
        jnp.eye(520, dtype=jnp.float32) * p.x[0, 0], 2, key=KEY
    ),
    "solve": lambda p: nf.kernels.solve(operator(p), V, ridge=0.1, rank=2, key=KEY),
    "trace": lambda p: nf.kernels.estimate_trace(operator(p), n_samples=2, key=KEY),
    "effective rank": lambda p: nf.kernels.estimate_effective_rank(
        operator(p), n_samples=2, key=KEY
    ),
    "density": lambda p: nf.kernels.spectral_density(
        operator(p), n_samples=2, n_steps=3, key=KEY
    ),
    "outputs": lambda p: p.outputs(p.params, p.x),
    "loss": lambda p: p.loss_of(p.y, 2 * p.y),
    "gradient in outputs": lambda p: p.output_gradient(p.y, 2 * p.y),
    "objective": lambda p: p.objective(p.params),
    "gradient": lambda p: p.gradient(p.params),
    "Monte Carlo": lambda p: nf.infinite.monte_carlo(
        lambda key: nf.models.MLP(3, 2, 4, 1, key=key, dtype=jnp.float32),
        p.x, seeds=2, key=KEY,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_ask_for_full_precision(name, problem):
    expect_highest(eqx.filter_jit(KERNELS[name]), problem)


DEPTH = {
    "Lyapunov kernel": lambda m: nf.flows.lyapunov_kernel(m, X[:2, :1]),
    "forward sensitivity": lambda m: nf.flows.Sensitivity().jacobian(m, X[0, :1]),
}


@pytest.mark.parametrize("name", DEPTH)
def test_equations_in_depth_ask_for_full_precision(name, key):
    field = nf.models.MLPField(1, 2, key=key, dtype=jnp.float32)
    readout = nf.models.Dense(1, 1, key=key, dtype=jnp.float32)
    depth = nf.models.Depth(1.0, rtol=1e-5, atol=1e-5)
    model = nf.models.NeuralODE(field, None, readout, depth=depth)
    expect_highest(eqx.filter_jit(DEPTH[name]), model)


def network(*layers):
    inf = nf.infinite
    return inf.Sequential([inf.Dense(), *layers, inf.Dense()])


INFINITE = {
    "dense": network(nf.infinite.Relu()),
    "quadrature": network(nf.infinite.Tanh()),
}


@pytest.mark.parametrize("name", INFINITE)
def test_infinite_width_asks_for_full_precision(name):
    expect_highest(lambda x: INFINITE[name](x), X)
