"""The kernel-space implicit method: coefficients, orders, blocks and refusals."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
import scipy.linalg

from ntkflow.flows import (
    Coupled,
    Descent,
    Gradient,
    Linearized,
    Modified,
    Momentum,
    Quadrature,
    Residual,
    max_over_flows,
)
from ntkflow.problem import CrossEntropy
from ntkflow.solvers import FlowTerm, KernelImplicit
from ntkflow.solvers._gauss_newton import GaussNewton, linearize
from ntkflow.solvers._resolvent import Resolvent
from ntkflow.solvers._ros34pw2 import ALPHA, EMBEDDED, GAMMA, WEIGHTS, dense_weights
from ntkflow.solvers._stage_polynomial import StagePolynomial
from tests.solvers.quick import quick_jit

from ..simulate.problems import dense_kernel, tiny
from ..tolerances import roundoff
from .fields import Following, Unrelated
from .flows import affine_solution, linear

ALL = (
    Gradient(),
    Residual("evolving"),
    Residual("frozen"),
    Linearized(),
    Quadrature(Gradient()),
)
ONES = np.ones(4)


def start(*flows, problem=None, **options):
    problem = tiny(**options) if problem is None else problem
    term = FlowTerm(Coupled(flows), problem)
    return term, term.coupled.pack(term.coupled.init(problem))


@quick_jit
def one_step(term, y0, h):
    solver, zero = KernelImplicit(), jnp.zeros_like(h)
    state = solver.init(term, zero, h, y0, None)
    return solver.attempt(term, zero, h, y0, None, state, False)


@quick_jit
def steps(term, y0, end, n):
    solver, h = KernelImplicit(), end / n
    state = solver.init(term, 0 * h, h, y0, None)

    def step(i, y):
        return solver.attempt(term, 0 * h, h, y, None, state, False).y1

    return jax.lax.fori_loop(0, n.astype(int), step, y0)


def slope(term, y0, end, counts, exact):
    """Orders by flow, from the errors with two numbers of steps."""
    ends = [steps(term, y0, jnp.asarray(end), jnp.asarray(float(n))) for n in counts]
    errors = [{k: np.linalg.norm(y[k] - exact[k]) for k in exact} for y in ends]
    ratio = np.log(counts[1] / counts[0])
    return {k: np.log(errors[0][k] / errors[1][k]) / ratio for k in exact}


@quick_jit
def solve(term, y0, solver, tol, end):
    return dfx.diffeqsolve(
        term,
        solver,
        t0=0.0,
        t1=end,
        dt0=None,
        y0=y0,
        stepsize_controller=dfx.PIDController(tol, tol, norm=max_over_flows),
        saveat=dfx.SaveAt(ts=end * jnp.linspace(0.0, 1.0, 7)),
        max_steps=None,
    )


# The trees of a method whose Jacobian is arbitrary: a vertex is f or one of its
# derivatives, applied to any number of subtrees, or the matrix A, applied to one.


def trees(order):
    if order == 1:
        return [("f",)]
    found = [("A", tree) for tree in trees(order - 1)]
    for parts in partitions(order - 1):
        found += [("f", *children) for children in forests(parts)]
    return found


def partitions(n, most=None):
    most = n if most is None else most
    if n == 0:
        return [()]
    return [
        (k, *rest) for k in range(min(n, most), 0, -1) for rest in partitions(n - k, k)
    ]


def forests(orders):
    found = {()}
    for order in orders:
        found = {tuple(sorted((*f, t), key=str)) for f in found for t in trees(order)}
    return sorted(found, key=str)


def stage_weights(tree):
    matrix = GAMMA if tree[0] == "A" else ALPHA
    return np.prod([matrix @ stage_weights(child) for child in tree[1:]] or [ONES], 0)


def size(tree):
    return 1 + sum(map(size, tree[1:]))


def density(tree):
    """What the exact solution has: one over the density, or zero if A occurs."""
    if tree[0] == "A":
        return 0.0
    return np.prod([density(child) for child in tree[1:]]) / size(tree)


@pytest.mark.parametrize(("weights", "order"), [(WEIGHTS, 3), (EMBEDDED, 2)])
def test_conditions_of_order_three_hold_for_any_matrix(weights, order):
    assert [len(trees(n)) for n in (1, 2, 3)] == [1, 2, 5]
    residuals = [
        abs(weights @ stage_weights(tree) - density(tree))
        for n in range(1, order + 1)
        for tree in trees(n)
    ]
    assert max(residuals) <= 1e-14
    # The embedded result is not of the higher order, or it would estimate nothing.
    above = [
        abs(weights @ stage_weights(tree) - density(tree)) for tree in trees(order + 1)
    ]
    assert max(above) > 0.01


def test_method_is_stiffly_accurate_and_l_stable():
    both = ALPHA + GAMMA
    np.testing.assert_allclose(both[3], WEIGHTS, atol=1e-15)
    assert abs(1 - WEIGHTS @ np.linalg.solve(both, ONES)) <= 1e-14
    assert abs(1 - EMBEDDED @ np.linalg.solve(both, ONES)) < 0.5
    for size in np.logspace(-3, 6, 200):
        for angle in (0.5j, 0.75j, 1j):
            assert abs(growth(size * np.exp(np.pi * angle))) <= 1 + 1e-13


def growth(z):
    """R(z), by which a step multiplies a mode of rate z/h."""
    both = ALPHA + GAMMA
    return 1 + z * WEIGHTS @ np.linalg.solve(np.eye(4) - z * both, ONES)


def test_undamped_oscillations_never_grow_and_fast_ones_vanish():
    # What L-stability is for the heavy ball, whose modes reach the imaginary axis.
    y = np.concatenate([np.linspace(0.0, 20.0, 2001), np.logspace(1.3, 8, 200)])
    amplitudes = np.array([abs(growth(1j * value)) for value in y])
    assert amplitudes.max() <= 1 + 1e-13
    # The largest power of 1/y at infinity: R falls as 1/z.
    assert amplitudes[-1] <= 10 / y[-1]


def test_dense_weights_hold_their_order_for_any_matrix():
    both, powers = ALPHA + GAMMA, dense_weights()
    np.testing.assert_allclose(powers.sum(0), WEIGHTS, atol=1e-14)
    for theta in np.linspace(0, 1, 5):
        b = np.array([theta, theta**2, theta**3]) @ powers
        for n in (1, 2):
            for tree in trees(n):
                expected = theta**n * density(tree)
                assert abs(b @ stage_weights(tree) - expected) <= 1e-14
        assert abs(b @ (ALPHA @ ONES) ** 2 - theta**3 / 3) <= 1e-14
        assert abs(b @ both @ both @ ONES - theta**3 / 6) <= 1e-14


@pytest.mark.parametrize("n", [4, 30], ids=["regular", "more outputs than parameters"])
def test_resolvent_solves_with_the_dense_matrix(n):
    term, y0 = start(*ALL, Momentum(0.4), problem=labelled(n, decay=0.3))
    tau = 0.7

    @quick_jit
    def both(y0):
        blocks = GaussNewton(term, linearize(term, y0))
        resolvent = Resolvent(blocks, blocks.cores(), jnp.asarray(tau))
        v = jtu.tree_map(lambda y: jnp.cos(jnp.arange(y.size, dtype=y.dtype)), y0)
        driven = jax.jacfwd(lambda v: blocks.drive(blocks.read(v)))(v)
        return v, resolvent(v), {k: driven[k][k] for k in driven}

    v, x, uw = both(y0)
    shifts = {"gradient": 0.3, "linearized": 0.3, "residual_frozen": 0.3}
    for name, own in v.items():
        matrix = np.eye(own.size)
        if name in uw:
            matrix = matrix * (1 + tau * shifts.get(name, 0.0)) + tau * uw[name]
        if name == "momentum":
            oscillator = np.array([[0.0, 1.0], [-0.3, -0.4]])
            matrix -= tau * np.kron(oscillator, np.eye(own.size // 2))
        expected = np.linalg.solve(matrix, own)
        # A solve loses at most its condition number, here below 1e4.
        np.testing.assert_allclose(x[name], expected, atol=1e-10 * np.abs(own).max())


def labelled(n=6, **options):
    plain = tiny(n=n)
    code = jax.nn.one_hot(jnp.arange(n + 3) % 2, 2, dtype=plain.dtype)
    return type(plain)(
        plain.model,
        plain.x,
        code[:n],
        x_test=plain.x_test,
        y_test=code[n:],
        loss=CrossEntropy(),
        **options,
    )


def test_classical_order_is_three():
    # Exact blocks: the frozen kernel's, of a loss that is not quadratic. Gauss–Newton
    # blocks: the gradient flow's and, without its slope in θ, the evolving kernel's.
    flows = (Gradient(), Residual("evolving"), Residual("frozen"), Momentum(0.5))
    term, y0 = start(*flows, problem=labelled(decay=0.1))
    assert_order_three(term, y0, 2.0)


def test_classical_order_is_three_whatever_the_matrix():
    assert_order_three(*start(Unrelated(), time_scale=0.3), 1.0)


def assert_order_three(term, y0, end):
    exact = solve(term, y0, dfx.Dopri8(), 1e-12, end).ys
    found = slope(term, y0, end, (16, 48), {k: v[-1] for k, v in exact.items()})
    for name, order in found.items():
        assert abs(order - 3) <= 0.2, (name, order)


def test_linear_model_is_approached_with_order_three():
    term, y0 = start(Residual("frozen"), Linearized())
    problem = term.problem
    decay = scipy.linalg.expm(-dense_kernel(problem))
    residual = problem.outputs(problem.params, problem.x) - problem.y
    expected = decay @ np.ravel(residual)
    errors = []
    for n in (40.0, 120.0):
        y = steps(term, y0, jnp.asarray(1.0), jnp.asarray(n))
        state = term.coupled.unpack(y, problem)
        outputs = term.coupled.outputs(state, problem, term.constants)
        errors.append([
            np.linalg.norm(np.ravel(out.train - problem.y) - expected)
            for out in outputs.values()
        ])
    assert len(errors[0]) == 2
    orders = np.log(np.divide(*errors)) / np.log(3)
    np.testing.assert_allclose(orders, 3, atol=0.2)


def test_linear_heavy_ball_with_decay_is_approached_with_order_three():
    term, y0 = start(Momentum(0.5), problem=linear(decay=0.3, copies=2))
    exact = affine_solution(term, y0)(2.0)
    order = slope(term, y0, 2.0, (40, 120), exact)["momentum"]
    assert abs(order - 3) <= 0.2


def test_stiff_order_of_forced_decay():
    # Order three and not less where the slow variable drives the fast ones: the method
    # meets the conditions of index one, and the error of a stiffly accurate method is
    # O(h³) + O(εh²) (Hairer & Wanner 1996, section VI.4; Rang & Angermann 2005).
    term, y0 = start(Following(), time_scale=1e8)
    slowest = np.linalg.eigvalsh(dense_kernel(term.problem))[0]
    end, counts = 1.0, (40, 120)
    assert end / counts[1] * slowest * 1e8 > 1e3
    s = 1 / (1 + end)
    exact = np.append(np.ravel(term.problem.y) * np.sin(2 * s), s)
    order = slope(term, y0, end, counts, {"following": exact})["following"]
    assert abs(order - 3) <= 0.2


def test_dense_output_stays_bounded_inside_a_stiff_step():
    # From a state far off, in a step of hλ up to 1e7: |R(θ, z)| ≤ 1 in every direction,
    # and the stiff part is gone at the step's end.
    term, y0 = start(Residual("frozen"), time_scale=1e6)
    step = one_step(term, y0, jnp.asarray(1.0))
    inside = StagePolynomial(
        t0=jnp.asarray(0.0), t1=jnp.asarray(1.0), **step.dense_info
    )
    n = term.problem.y.size
    values, vectors = np.linalg.eigh(dense_kernel(term.problem))
    assert values[0] > 0

    def modes(y):
        return vectors.T @ (y["residual_frozen"][:n] - np.ravel(term.problem.y))

    began = np.abs(modes(y0))
    for theta in np.linspace(0, 1, 21):
        now = np.abs(modes(inside.evaluate(jnp.asarray(theta))))
        assert np.all(now <= 1.001 * began)
    assert np.all(now <= 1e-3 * began)
    np.testing.assert_allclose(
        inside.evaluate(jnp.asarray(1.0))["residual_frozen"],
        step.y1["residual_frozen"],
        atol=roundoff(100) * np.abs(y0["residual_frozen"]).max(),
    )


def test_coupled_flows_step_as_they_do_alone():
    problem = labelled(decay=0.2)
    h = jnp.asarray(0.5)
    together = one_step(*start(*ALL, Momentum(2.0), problem=problem), h)
    alone = {}
    for flow in (ALL[0], ALL[2], ALL[3], Momentum(2.0)):
        alone |= one_step(*start(flow, problem=problem), h).y1
    assert set(alone) == {"gradient", "residual_frozen", "linearized", "momentum"}
    for name, own in alone.items():
        scale = np.abs(own).max()
        np.testing.assert_allclose(together.y1[name], own, atol=1e-12 * scale)
    # Six flows, five loops: two along θ, two at θ₀ and one along the heavy ball. Decay
    # does not act on the outputs of the evolving kernel, so that its system is one of
    # its own.
    work = [int(count) for count in together.work]
    assert work == [4, 0, 40, 3, 4, 0]


def test_constant_kernel_is_built_once():
    work = one_step(*start(*ALL), jnp.asarray(0.5)).work
    assert [int(count) for count in work] == [4, 0, 32, 1, 2, 0]


@pytest.mark.parametrize("loss", ["squared", "cross-entropy"])
def test_solution_agrees_with_a_fine_one_at_every_save_time(loss):
    problem = tiny(n=30, decay=0.1) if loss == "squared" else labelled(decay=0.1)
    term, y0 = start(*ALL, problem=problem)
    tol, end = 1e-5, 3.0
    found = solve(term, y0, KernelImplicit(), tol, end)
    exact = solve(term, y0, dfx.Dopri8(), 1e-10, end)
    for name in y0:
        gap = np.abs(found.ys[name] - exact.ys[name]).max()
        # Local errors add up over a contractive flow: a few tolerances.
        assert gap <= 10 * tol * (1 + np.abs(exact.ys[name]).max()), name


def test_ensemble_steps_as_its_lanes_do():
    term, y0 = start(Gradient(), Residual("frozen"), Residual("evolving"))
    h = jnp.asarray([0.1, 0.4, 1.6])
    lanes = jtu.tree_map(lambda y: y[None] * jnp.asarray([[1.0], [0.9], [1.2]]), y0)
    together = eqx.filter_vmap(lambda y, h: one_step(term, y, h)[:2])(lanes, h)
    for i in range(3):
        alone = one_step(term, jtu.tree_map(lambda y, i=i: y[i], lanes), h[i])[:2]
        own = jtu.tree_map(lambda leaf, i=i: leaf[i], together)
        for a, b in zip(jtu.tree_leaves(own), jtu.tree_leaves(alone), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12, rtol=1e-10)


def test_single_precision_stays_single():
    term, y0 = start(*ALL, dtype=jnp.float32)
    step = one_step(term, y0, jnp.asarray(0.5, jnp.float32))
    double, z0 = start(*ALL, problem=in_double(term.problem))
    exact = one_step(double, z0, jnp.asarray(0.5))
    for leaf in jtu.tree_leaves((step.y1, step.y_error, step.dense_info)):
        assert leaf.dtype == jnp.float32
    for name, own in exact.y1.items():
        scale = np.abs(own).max()
        gap = np.abs(np.asarray(step.y1[name]) - np.asarray(own)).max()
        assert gap <= roundoff(100, np.float32) * scale


def in_double(problem):
    return jtu.tree_map(
        lambda leaf: leaf.astype(float) if eqx.is_inexact_array(leaf) else leaf, problem
    )


def test_failed_decomposition_asks_for_a_shorter_step():
    # Backwards in time I − hγA is not positive definite for long steps.
    term, y0 = start(Gradient())
    step = one_step(term, y0, jnp.asarray(-10.0))
    assert np.all(np.isinf(step.y_error["gradient"]))


def test_flow_that_outputs_alone_do_not_drive_is_refused():
    term, y0 = start(Modified(Descent(0.01)))
    with pytest.raises(ValueError, match=r"'modified' is driven otherwise.*Tsit5"):
        one_step(term, y0, jnp.asarray(0.1))


def test_kernel_too_large_is_refused():
    term, y0 = start(Gradient())
    zero = jnp.asarray(0.0)
    with pytest.raises(ValueError, match=r"12 rows.*max_size allows 11.*Chebyshev"):
        KernelImplicit(max_size=11).init(term, zero, zero, y0, None)
