"""Backward error analysis: what is left of the gap between descent and flow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
from jax.flatten_util import ravel_pytree

from ntkflow.flows import Coupled, Descent, Modified, Momentum
from tests.simulate.problems import tiny
from tests.solvers.quick import quick_jit
from tests.tolerances import roundoff

STEPS, END = 0.1 * 0.5 ** np.arange(4), 1.6
DAMPING = 1.5


def problem_of():
    """A nonlinear tanh network that learns features, at a rate other than one."""
    return tiny(decay=0.1, time_scale=0.5)


def outputs(problem, params):
    return np.asarray(problem.outputs(params, problem.x))


def flowed(problem, flow):
    """Outputs at the end of a flow, by scipy's own solver."""
    coupled = Coupled((flow,))
    start, unravel = ravel_pytree(coupled.init(problem))

    @quick_jit
    def field(flat):
        change = coupled.vector_field(
            unravel(flat), problem, {}, coupled.origin(problem)
        )
        return ravel_pytree(change)[0]

    solution = scipy.integrate.solve_ivp(
        lambda t, y: np.asarray(field(y)), (0, END), start, "DOP853", rtol=1e-10
    )
    state = unravel(jnp.asarray(solution.y[:, -1]))[flow.name]
    return outputs(problem, flow.params(state))


def descended(problem, descent):
    """Outputs after as many updates, in plain words."""
    flat, unravel = ravel_pytree(problem.params)
    rate = descent.learning_rate * problem.time_scale

    @quick_jit
    def train(flat):
        def update(_, pair):
            now, last = pair
            gradient = jax.grad(lambda p: problem.objective(unravel(p)))(now)
            return now - rate * gradient + descent.momentum * (now - last), now

        return jax.lax.fori_loop(0, round(END / descent.step), update, (flat, flat))[0]

    return outputs(problem, unravel(train(flat)))


@pytest.mark.parametrize("kind", ["descent", "heavy ball"])
def test_gap_has_slope_one_and_after_correction_two(kind):
    problem = problem_of()
    raw, corrected = [], []
    for h in STEPS:
        descent = Descent(h)
        if kind == "heavy ball":  # of one damping, so that all have one limit
            descent = Descent(h**2, momentum=1 - DAMPING * h)
            assert isinstance(descent.limit, Momentum)
            assert descent.limit.damping == pytest.approx(DAMPING)
        assert descent.step == pytest.approx(h)
        f = descended(problem, descent)
        raw.append(np.abs(f - flowed(problem, descent.limit)).max())
        corrected.append(np.abs(f - flowed(problem, Modified(descent))).max())
    slopes = [np.polyfit(np.log(STEPS), np.log(gap), 1)[0] for gap in (raw, corrected)]
    np.testing.assert_allclose(slopes, [1, 2], atol=0.2)


def test_modified_flow_descends_the_regularized_loss():
    """−c∇(L + (ηc/4)‖∇L‖²), by differentiating that."""
    problem, eta = problem_of(), 0.3
    flow = Modified(Descent(eta))
    coupled = Coupled((flow,))
    flat, unravel = ravel_pytree(problem.params)

    @quick_jit
    def both(flat):
        def loss(p):
            return problem.objective(unravel(p))

        def regularized(p):
            weight = eta * problem.time_scale / 4
            return loss(p) + weight * jnp.sum(jax.grad(loss)(p) ** 2)

        state = coupled.init(problem)
        change = coupled.vector_field(state, problem, {}, coupled.origin(problem))
        change = change[flow.name]
        energy = flow.energy(state[flow.name], problem)
        return (
            ravel_pytree(change)[0],
            jax.grad(regularized)(flat),
            energy,
            regularized(flat),
        )

    change, gradient, energy, regularized = both(flat)
    expected = -problem.time_scale * gradient
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(change, expected, rtol=0, atol=roundoff(200) * scale)
    np.testing.assert_allclose(energy, regularized, rtol=roundoff(100))


def test_descent_in_batches_has_no_modified_equation_here():
    with pytest.raises(ValueError, match="takes a descent in full batches"):
        Modified(Descent(0.1, batches=[[0, 1]]))
