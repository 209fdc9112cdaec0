"""Ordinary differential equations that the tests of this folder share."""

import diffrax as dfx
import jax.numpy as jnp
import numpy as np

from ntkflow.flows import Coupled, Gradient
from ntkflow.solvers import FlowTerm
from tests.simulate.problems import tiny
from tests.solvers.quick import quick_jit

FORCED_Y0 = jnp.asarray([1.0, -0.5])


def forced(t, y, args):
    """Nonlinear and driven, so that the stages' times count as well."""
    return -y + jnp.sin(y) * jnp.cos(3 * t) + jnp.asarray([0.0, 1.0]) * y[::-1] * t


def forced_beside_stiffness(t, y, args):
    """The same beside a third component, which makes a step take many stages."""
    return jnp.concatenate([forced(t, y[:2], args), -4e3 * y[2:]])


def reference(term, y0, t1):
    """The solution at t1, to near rounding, by an explicit method of order eight."""
    return quick_jit(dfx.diffeqsolve)(
        term,
        dfx.Dopri8(),
        0.0,
        t1,
        None,
        y0,
        stepsize_controller=dfx.PIDController(rtol=1e-12, atol=1e-12),
        adjoint=dfx.ForwardMode(),
        max_steps=None,
    ).ys


def solve_fixed(term, solver, y0, t1, steps, **options):
    """A solve of equal steps."""
    return quick_jit(dfx.diffeqsolve)(
        term,
        solver,
        0.0,
        t1,
        t1 / steps,
        y0,
        stepsize_controller=dfx.ConstantStepSize(),
        adjoint=dfx.ForwardMode(),
        max_steps=None,
        **options,
    )


def solve_adaptive(term, solver, y0, t1, *, rtol=1e-4, **options):
    """A solve of steps chosen by the error of the state."""
    return quick_jit(dfx.diffeqsolve)(
        term,
        solver,
        0.0,
        t1,
        None,
        y0,
        stepsize_controller=dfx.PIDController(rtol=rtol, atol=1e-3 * rtol),
        adjoint=dfx.ForwardMode(),
        max_steps=None,
        throw=False,
        **options,
    )


def slope(steps, errors) -> float:
    """The order of convergence: minus the slope of log error over log steps."""
    return -float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


def gap(one, other) -> float:
    """The largest difference between two states, both pytrees of one structure."""
    import jax.tree_util as jtu

    pairs = zip(jtu.tree_leaves(one), jtu.tree_leaves(other), strict=True)
    return max(float(jnp.max(jnp.abs(a - b))) for a, b in pairs)


def gradient_flow(flows=None, **options):
    """The flows of a tiny network, and their state at t = 0."""
    problem = tiny(**options)
    coupled = Coupled((Gradient(),) if flows is None else tuple(flows))
    y0 = coupled.pack(coupled.init(problem))
    return FlowTerm(coupled, problem), y0
