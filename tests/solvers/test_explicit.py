"""The free measure of stiffness beside an explicit method."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.flows import Gradient, Linearized
from ntkflow.solvers import Explicit
from tests.solvers.problems import gradient_flow
from tests.solvers.quick import quick_jit

METHODS = [dfx.Tsit5(), dfx.Dopri5(), dfx.Dopri8()]


def saturated(method, term, y0, t1):
    """What an adaptive solve ends with whose steps stability limits."""
    solution = quick_jit(dfx.diffeqsolve)(
        term,
        Explicit(method),
        t0=0.0,
        t1=t1,
        dt0=None,
        y0=y0,
        saveat=dfx.SaveAt(t1=True, solver_state=True),
        stepsize_controller=dfx.PIDController(rtol=1e-4, atol=1e-6),
    )
    return Explicit(method).radius(solution.solver_state), solution.ys


@pytest.mark.parametrize("method", METHODS)
def test_rate_is_that_of_the_stiffest_mode(method):
    """At steps that stability limits, whatever else the state holds."""
    rates = jnp.asarray([0.1, 1.0, 30.0, 100.0])
    term = dfx.ODETerm(lambda t, y, args: -rates * y)
    found, _ = saturated(method, term, jnp.ones(4), 3.0)
    np.testing.assert_allclose(found, 100.0, rtol=0.1)


def test_rate_is_a_blocks_own():
    """The stiffer of two flows tells, however small its part of the state."""
    term, y = gradient_flow([Gradient(), Linearized()])
    found, ys = saturated(dfx.Tsit5(), term, y, 40.0)
    end = {name: own[-1] for name, own in ys.items()}

    def own(name):
        def field(block):
            return term.vf(0.0, {**end, name: block}, None)[name]

        return jnp.abs(jnp.linalg.eigvals(jax.jacfwd(field)(end[name]))).max()

    largest = max(float(own(name)) for name in end)
    np.testing.assert_allclose(found, largest, rtol=0.1)


def test_a_flow_at_rest_shows_no_stiffness():
    term = dfx.ODETerm(lambda t, y, args: jnp.zeros_like(y))
    solver = Explicit()
    state = solver.init(term, 0.0, 1.0, jnp.ones(3), None)
    _, _, _, state, _ = solver.step(term, 0.0, 1.0, jnp.ones(3), None, state, False)
    assert not float(solver.radius(state))


@pytest.mark.parametrize("method", METHODS)
def test_steps_are_those_of_the_method(method):
    term = dfx.ODETerm(lambda t, y, args: -(y**3))
    y0, h = jnp.asarray([1.0, 2.0]), 0.1
    solver = Explicit(method)
    state = solver.init(term, 0.0, h, y0, None)
    plain = method.init(term, 0.0, h, y0, None)
    mine = solver.step(term, 0.0, h, y0, None, state, False)
    own = method.step(term, 0.0, h, y0, None, plain, False)
    np.testing.assert_array_equal(mine[0], own[0])
    np.testing.assert_array_equal(mine[1], own[1])
    tried = solver.attempt(term, 0.0, h, y0, None, state, False)
    assert int(tried.work.evaluations) == method.tableau.num_stages - 1


def test_methods_without_two_last_stages_are_refused():
    with pytest.raises(ValueError, match=r"diffrax\.Tsit5"):
        Explicit(dfx.Heun())
