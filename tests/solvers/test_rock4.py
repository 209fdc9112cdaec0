"""ROCK4: its polynomials, its order conditions, and its orders as measured."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.flows import Gradient, Momentum, Residual
from ntkflow.simulate import simulate
from ntkflow.solvers import Code, Rock4
from ntkflow.solvers._rock4_coefficients import DEGREES, N_LAST, tabulate
from ntkflow.solvers._stabilized import Step
from tests.simulate.problems import tiny
from tests.solvers.problems import (
    FORCED_Y0,
    forced,
    forced_beside_stiffness,
    gap,
    gradient_flow,
    reference,
    slope,
    solve_adaptive,
    solve_fixed,
)
from tests.solvers.quick import quick_jit
from tests.tolerances import solver as solver_tolerance

FORCED = dfx.ODETerm(forced)


def butcher(index):
    """The method of one degree as a tableau: a row a state, the last that at the end.

    Beside it the rows of y₀ − g and of the last slopes, which the rest is made of.
    """
    table, s = tabulate(), DEGREES[index]
    first, n = table.start[index], s - N_LAST
    rows = np.zeros((s + 1, s))
    for j in range(1, n + 1):
        at = first + j - 1
        rows[j] = (1 + table.kappa[at]) * rows[j - 1] + table.mu[at] * np.eye(s)[j - 1]
        rows[j] -= table.kappa[at] * (rows[j - 2] if j > 1 else 0)
    a, b = table.last.a[index], table.last.b[index]
    g, last = rows[n].copy(), np.eye(s)[n:]
    rows[n:s] = g + a @ last
    rows[s] = g + b @ last
    return rows, np.vstack([-g, last])


def conditions(weights, a):
    """Σ b Φ(t)γ(t) for the eight trees t of order up to four, from the tableau."""
    c = a.sum(axis=1)
    trees = (1, c, c**2, a @ c, c**3, c * (a @ c), a @ c**2, a @ a @ c)
    densities = (1, 2, 3, 6, 4, 8, 12, 24)
    return [
        density * np.sum(weights * tree)
        for density, tree in zip(densities, trees, strict=True)
    ]


@pytest.mark.parametrize("index", range(len(DEGREES)))
def test_every_degree_is_of_order_four(index):
    rows, five = butcher(index)
    a, b = rows[:-1], rows[-1]
    # Sums of s terms of order one.
    np.testing.assert_allclose(conditions(b, a), 1, atol=DEGREES[index] * 1e-14)
    n, start = DEGREES[index] - N_LAST, tabulate().start[index]
    times = *tabulate().time[start : start + n], *tabulate().last.c[index]
    np.testing.assert_allclose(a.sum(axis=1), times, atol=1e-12)
    # The estimate vanishes to order three; the state inside has order three there.
    error = tabulate().last.error[index] @ five
    np.testing.assert_allclose(conditions(error, a)[:4], 0, atol=1e-11)
    assert abs(conditions(error, a)[7] - 1 / 16) < 1e-11
    theta = 0.3
    inside = theta ** np.arange(1, 5) @ tabulate().last.dense[index] @ five
    order = np.array([1, 2, 3, 3, 4, 4, 4, 4])
    found = conditions(inside, a) / theta**order
    np.testing.assert_allclose(found[:4], 1, atol=1e-11)
    assert abs(np.mean(found[4:]) - 1) < 1e-11


def test_dense_output_ends_where_the_step_does():
    last = tabulate().last
    ends = last.dense.sum(axis=1)
    np.testing.assert_allclose(ends[:, 0], -1, atol=1e-11)
    np.testing.assert_allclose(ends[:, 1:], last.b, atol=1e-11)


def amplification(z, degree):
    """R(−z): what a step of so many stages makes of y' = −z y."""
    one = jnp.asarray(1.0)

    def after(z):
        term = dfx.ODETerm(lambda t, y, args: -z * y)
        step = Step(term, 0.0, one, one, None)
        return Rock4().run_stages(step, one, -z, jnp.asarray(degree))[0]

    return jax.vmap(after)(jnp.asarray(z))


def test_polynomial_is_bounded_in_its_interval():
    run = quick_jit(amplification)
    for degree, reach in zip(DEGREES, tabulate().reach, strict=True):
        assert reach >= 0.3425 * (degree**2 - 8.1)
        # Extremes are no closer than reach/s² near the start: 3,000 points see them.
        z = np.concatenate([np.geomspace(2.5, reach, 3000), 1.03 * reach + np.ones(1)])
        found = np.abs(np.asarray(run(z, jnp.asarray(degree))))
        # 0.8, 0.0055 more within the interval, and rounding times w(z).
        rounding = 3 * 2**-53 * (reach**4 / 100)
        assert found[:-1].max() <= 0.8055 + rounding, degree
        assert found[-1] > 1 - rounding, degree


def test_longest_step_of_each_degree_is_counted_right():
    reach = jnp.asarray(tabulate().reach)
    count = jax.vmap(Rock4().count)
    np.testing.assert_array_equal(count((1 - 1e-9) * reach), DEGREES)
    beyond = np.append(DEGREES[1:], DEGREES[-1] + 1)
    np.testing.assert_array_equal(count((1 + 1e-9) * reach), beyond)


def test_order_is_four():
    steps = np.array([10, 20, 40, 80])
    exact = reference(FORCED, FORCED_Y0, 2.0)
    errors = [
        gap(solve_fixed(FORCED, Rock4(), FORCED_Y0, 2.0, n).ys, exact) for n in steps
    ]
    assert abs(slope(steps, errors) - 4) < 0.2


def test_order_stays_four_with_many_stages():
    term = dfx.ODETerm(forced_beside_stiffness)
    y0, steps = jnp.append(FORCED_Y0, 0.0), np.array([10, 20, 40])
    exact = reference(FORCED, FORCED_Y0, 2.0)
    errors = [
        gap(solve_fixed(term, Rock4(), y0, 2.0, n).ys[:, :2], exact) for n in steps
    ]
    assert abs(slope(steps, errors) - 4) < 0.2


def test_error_estimate_is_of_order_four():
    solver, lengths = Rock4(), np.array([0.025, 0.0125, 0.00625])

    def estimate(h):
        state = solver.init(FORCED, 0.0, h, FORCED_Y0, None)
        return solver.attempt(FORCED, 0.0, h, FORCED_Y0, None, state, False).y_error

    estimates = quick_jit(jax.vmap(estimate))(jnp.asarray(lengths))
    errors = np.linalg.norm(estimates, axis=1)
    assert abs(slope(1 / lengths, errors) - 4) < 0.2


def test_error_estimate_and_dense_output_are_bounded_on_stiff_modes():
    """What is left along stiff directions is not multiplied by hρ."""
    h = jnp.asarray(1.0)

    def judged(z):
        term = dfx.ODETerm(lambda t, y, args: -z * y)
        solver, one = Rock4(), jnp.asarray(1.0)
        state = solver.init(term, 0.0, h, one, None)
        tried = solver.attempt(term, 0.0, h, one, None, state, False)
        inside = solver.interpolation_cls(t0=0.0 * h, t1=h, **tried.dense_info)
        return tried.y_error, jax.vmap(inside.evaluate)(jnp.linspace(0.0, 1.0, 9))

    error, inside = quick_jit(jax.vmap(judged))(jnp.geomspace(1.0, 1500.0, 50))
    assert float(jnp.abs(error).max()) < 1
    assert float(jnp.abs(inside).max()) < 5


def test_dense_output_is_of_order_four():
    steps, at = np.array([10, 20, 40]), jnp.linspace(0.1, 1.9, 7)
    exact = jnp.concatenate([reference(FORCED, FORCED_Y0, float(t)) for t in at])
    options = {"saveat": dfx.SaveAt(ts=at)}
    errors = [
        gap(solve_fixed(FORCED, Rock4(), FORCED_Y0, 2.0, n, **options).ys, exact)
        for n in steps
    ]
    # Fourth order locally, on states of fourth order.
    assert abs(slope(steps, errors) - 4) < 0.2


def test_cubics_in_time_are_integrated_exactly():
    term = dfx.ODETerm(lambda t, y, args: 4 * t**3 - 3 * t**2 + 0 * y)
    found = solve_fixed(term, Rock4(), jnp.zeros(1), 2.0, 1).ys
    np.testing.assert_allclose(found, [[8.0]], rtol=1e-13)


def test_coupled_flows_are_as_exact_as_asked():
    flows = Gradient(), Residual("evolving")
    term, y0 = gradient_flow(flows)
    exact = reference(term, y0, 3.0)
    found = solve_adaptive(term, Rock4(), y0, 3.0, rtol=1e-6).ys
    for name in y0:
        scale = float(jnp.abs(exact[name]).max())
        assert gap(found[name], exact[name]) <= solver_tolerance(1e-6) * scale * 10


def test_lanes_of_an_ensemble_equal_single_solves():
    def decay(rate):
        def field(t, y, args):
            return -rate * y + jnp.sin(t)

        y0 = jnp.asarray([1.0, 0.0])
        return solve_adaptive(dfx.ODETerm(field), Rock4(), y0, 1.0).ys

    rates = jnp.asarray([1.0, 30.0, 1000.0])
    together = jax.vmap(decay)(rates)
    alone = jnp.stack([decay(rate) for rate in rates])
    # Rounding, times w(hρ) in the longest step.
    assert gap(together, alone) < 1e-7


def test_float32_states_stay_float32():
    term, y0 = gradient_flow(dtype=jnp.float32)
    solution = solve_adaptive(term, Rock4(), y0, jnp.asarray(2.0, jnp.float32))
    assert solution.ys["gradient"].dtype == jnp.float32
    assert solution.result == dfx.RESULTS.successful


def test_a_step_beyond_the_stages_is_refused_at_no_cost():
    solver, h = Rock4(max_stages=10), jnp.asarray(1.0)
    term, y0 = dfx.ODETerm(lambda t, y, args: -1e4 * (y - 1)), jnp.asarray([2.0])
    state = solver.init(term, 0.0, h, y0, None)
    tried = solver.attempt(term, 0.0, h, y0, None, state, False)
    assert int(tried.work.refused) == 1
    assert int(tried.work.evaluations) == 1
    assert np.isinf(np.asarray(tried.y_error)).all()
    np.testing.assert_array_equal(tried.y1, y0)


def test_a_spectrum_that_does_not_settle_ends_the_solve_with_its_code():
    # A rotation at different speeds: no power iteration settles.
    turn = jnp.asarray([[0.0, 9.0], [-1.0, 0.0]])
    solution = solve_adaptive(
        dfx.ODETerm(lambda t, y, args: turn @ y),
        Rock4(),
        jnp.asarray([1.0, 0.3]),
        1.0,
        saveat=dfx.SaveAt(t1=True, solver_state=True),
    )
    assert solution.result == dfx.RESULTS.nonlinear_divergence
    assert int(solution.solver_state.code) == Code.SPECTRUM


@pytest.mark.parametrize("stages", [4, 102])
def test_stages_that_it_does_not_have_are_refused(stages):
    with pytest.raises(ValueError, match=f"got max_stages={stages}"):
        Rock4(max_stages=stages)


def test_the_heavy_ball_is_refused():
    with pytest.raises(ValueError, match="Rock4 is stable on the negative real axis"):
        simulate(tiny(), [0.1], flows=[Momentum(1.0)], measures=(), solver=Rock4())
