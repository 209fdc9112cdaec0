"""Runge-Kutta-Chebyshev against its theory and against methods of higher order."""

from fractions import Fraction

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.flows import Gradient, Linearized, Residual
from ntkflow.solvers import Chebyshev, Code
from ntkflow.solvers._chebyshev import _stages, count_stages
from ntkflow.solvers._stabilized import Step
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

STAGES = (2, 3, 10, 50)


def test_order_is_two():
    term, steps = dfx.ODETerm(forced), np.array([20, 40, 80, 160])
    exact = reference(term, FORCED_Y0, 2.0)
    errors = [
        gap(solve_fixed(term, Chebyshev(), FORCED_Y0, 2.0, n).ys, exact) for n in steps
    ]
    assert abs(slope(steps, errors) - 2) < 0.2


def test_error_estimate_is_of_order_three():
    term, solver = dfx.ODETerm(forced), Chebyshev()
    lengths = np.array([0.1, 0.05, 0.025])

    def estimate(h):
        state = solver.init(term, 0.0, h, FORCED_Y0, None)
        return solver.attempt(term, 0.0, h, FORCED_Y0, None, state, False).y_error

    errors = np.linalg.norm(jax.vmap(estimate)(jnp.asarray(lengths)), axis=1)
    assert abs(slope(1 / lengths, errors) - 3) < 0.2


def test_order_stays_two_with_many_stages():
    y0, steps = jnp.append(FORCED_Y0, 0.0), np.array([10, 20, 40, 80])
    term = dfx.ODETerm(forced_beside_stiffness)
    exact = reference(dfx.ODETerm(forced), FORCED_Y0, 2.0)
    errors = [
        gap(solve_fixed(term, Chebyshev(), y0, 2.0, n).ys[:, :2], exact) for n in steps
    ]
    assert abs(slope(steps, errors) - 2) < 0.2


def amplification(z: np.ndarray, stages: int) -> np.ndarray:
    """R_s(−z): what a step of so many stages makes of y' = −z y."""
    one = jnp.asarray(1.0)

    def after(z):
        term = dfx.ODETerm(lambda t, y, args: -z * y)
        step = Step(term, 0.0, one, one, None)
        return _stages(step, one, -z, jnp.asarray(stages))

    return np.asarray(quick_jit(jax.vmap(after))(jnp.asarray(z)))


def exact_constants(stages: int) -> tuple[float, ...]:
    """w₀, w₁, b_s and T_s(w₀), by recurrences of rational numbers."""
    x = 1 + Fraction(2, 13) / stages**2
    before, now = (1, 0, 0), (x, 1, 0)
    for _ in range(stages - 1):
        (t0, d0, e0), (t, d, e) = before, now
        after = 2 * x * t - t0, 2 * t + 2 * x * d - d0, 4 * d + 2 * x * e - e0
        before, now = now, after
    t, d, e = now
    return float(x), float(d / e), float(e / d**2), float(t)


@pytest.mark.parametrize("stages", STAGES)
def test_stability_polynomial_is_the_shifted_chebyshev_polynomial(stages):
    z = np.linspace(0, 0.65 * stages**2, 9)
    w0, w1, b, value = exact_constants(stages)
    argument = w0 - w1 * z
    expected = 1 - b * value + b * np.cos(stages * np.emath.arccos(argument)).real
    np.testing.assert_allclose(
        amplification(z, stages), expected, atol=1e-14 * stages**2
    )


@pytest.mark.parametrize("stages", STAGES[1:])
def test_stability_interval_grows_as_stages_squared(stages):
    edge = 0.65 * stages**2
    inside = np.abs(amplification(np.linspace(0, 0.98 * edge - 0.65, 200), stages))
    assert inside.max() <= 1 + 1e-12
    # Far inside the interval modes are damped, not only bounded.
    assert inside[50:].max() < 0.98
    assert abs(amplification(np.asarray([1.1 * edge + 2]), stages)[0]) > 1
    # The longest step that is given so many stages is stable with them.
    longest = (1 - 1e-9) * (stages**2 - 1) / 1.54
    assert int(count_stages(jnp.asarray(longest))) == stages
    assert abs(amplification(np.asarray([longest]), stages)[0]) <= 1


def solve(term, y0, t1, *, solver=None, **options):
    return solve_adaptive(
        term, Chebyshev() if solver is None else solver, y0, t1, **options
    )


def test_coupled_flows_are_as_exact_as_asked():
    flows = Gradient(), Residual("evolving"), Residual("frozen"), Linearized()
    term, y0 = gradient_flow(flows)
    exact = reference(term, y0, 3.0)
    found = solve(term, y0, 3.0, rtol=1e-6).ys
    for name in y0:
        scale = float(jnp.abs(exact[name]).max())
        assert gap(found[name], exact[name]) <= solver_tolerance(1e-6) * scale * 10


def test_dense_output_is_of_order_three():
    term, steps = dfx.ODETerm(forced), np.array([10, 20, 40])
    at = jnp.linspace(0.1, 1.9, 7)
    exact = jnp.concatenate([reference(term, FORCED_Y0, float(t)) for t in at])
    errors = []
    for n in steps:
        saved = solve_fixed(
            term, Chebyshev(), FORCED_Y0, 2.0, n, saveat=dfx.SaveAt(ts=at)
        ).ys
        errors.append(gap(saved, exact))
    # Third order locally, on states of second order.
    assert abs(slope(steps, errors) - 2) < 0.2


def test_lanes_of_an_ensemble_equal_single_solves():
    def decay(rate):
        def field(t, y, args):
            return -rate * y + jnp.sin(t)

        return solve(dfx.ODETerm(field), jnp.asarray([1.0, 0.0]), 1.0).ys

    rates = jnp.asarray([1.0, 30.0, 1000.0])
    together = jax.vmap(decay)(rates)
    alone = jnp.stack([decay(rate) for rate in rates])
    assert gap(together, alone) < 1e-12


def test_float32_states_stay_float32():
    term, y0 = gradient_flow(dtype=jnp.float32)
    solution = solve(term, y0, jnp.asarray(2.0, jnp.float32))
    assert solution.ys["gradient"].dtype == jnp.float32
    assert solution.result == dfx.RESULTS.successful


def test_work_grows_as_the_root_of_stiffness():
    """Gradients over λT: an exponent of ½, where explicit methods have one."""
    stiffness, counts = np.array([1e3, 1e4, 1e5]), []
    for rate in stiffness:
        rates = jnp.asarray([1.0, rate])

        def field(t, y, args, rates=rates):
            return -rates * (y - jnp.cos(t))

        counted = []

        def counting(t, y, args, field=field, counted=counted):
            jax.debug.callback(lambda: counted.append(1))
            return field(t, y, args)

        solution = solve(dfx.ODETerm(counting), jnp.asarray([0.0, 1.0]), 1.0)
        assert solution.result == dfx.RESULTS.successful
        jax.effects_barrier()
        counts.append(len(counted))
    assert -slope(stiffness, counts) < 0.55


def test_a_step_beyond_the_stages_is_refused_at_no_cost():
    def field(t, y, args):
        return -1e4 * (y - jnp.cos(t))

    solver = Chebyshev(max_stages=10)
    term, y0 = dfx.ODETerm(field), jnp.asarray([1.0])
    tried = solver.attempt(
        term, 0.0, jnp.asarray(1.0), y0, None,
        solver.init(term, 0.0, jnp.asarray(1.0), y0, None), False,
    )  # fmt: skip
    assert int(tried.work.refused) == 1
    assert int(tried.work.evaluations) == 1
    assert np.isinf(np.asarray(tried.y_error)).all()
    found = solve(term, y0, 1.0, solver=solver)
    assert found.result == dfx.RESULTS.successful
    assert gap(found.ys[-1], jnp.cos(jnp.asarray([1.0]))) < 1e-3


def test_a_spectrum_that_does_not_settle_ends_the_solve_with_its_code():
    # Two blocks of rotation at different speeds: no power iteration settles.
    turn = jnp.asarray([[0.0, 9.0], [-1.0, 0.0]])

    def field(t, y, args):
        return turn @ y

    solution = solve(
        dfx.ODETerm(field),
        jnp.asarray([1.0, 0.3]),
        1.0,
        saveat=dfx.SaveAt(t1=True, solver_state=True),
    )
    assert solution.result == dfx.RESULTS.nonlinear_divergence
    assert int(solution.solver_state.code) == Code.SPECTRUM
    assert np.isfinite(np.asarray(solution.ys)).all()
