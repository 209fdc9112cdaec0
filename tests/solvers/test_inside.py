"""Between the ends of steps: interpolations are as right as the steps are."""

from typing import ClassVar

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from ntkflow.flows import Coupled, Gradient
from ntkflow.problem import Problem
from ntkflow.solvers import (
    FlowTerm,
    FunctionSpace,
    KernelExponential,
    estimate_inside,
)
from tests.solvers.problems import FORCED_Y0, forced
from tests.solvers.quick import quick_jit
from tests.tolerances import roundoff


class Square(eqx.Module):
    """f = w²x: one parameter, whose kernel moves."""

    w: jax.Array

    def __call__(self, x):
        return self.w**2 * x


def flow_of_a_square():
    one = jnp.ones((1, 1))
    coupled = Coupled((Gradient(),))
    term = FlowTerm(coupled, Problem(Square(jnp.asarray([0.3])), one, one))
    return term, coupled.pack(coupled.init(term.problem))


def exact_outputs(ts):
    """u̇ = 4u(1 − u) of u = w², for the loss (w² − 1)²/2, is logistic."""
    return 1 / (1 + (1 / 0.3**2 - 1) * np.exp(-4 * ts))


@quick_jit
def between_and_at_ends(term, y0, method, rtol, ts):
    """Outputs at save times and at the ends of all steps, with their times."""

    def outputs(y):
        state = term.coupled.unpack(y, term.problem)
        return term.coupled.outputs(state, term.problem, term.constants)

    found = dfx.diffeqsolve(
        term,
        method,
        0.0,
        ts[-1],
        None,
        y0,
        saveat=dfx.SaveAt(subs=[dfx.SubSaveAt(ts=ts), dfx.SubSaveAt(steps=True)]),
        stepsize_controller=FunctionSpace(
            dfx.PIDController(rtol=rtol, atol=1e-3 * rtol), outputs, 1.0
        ),
        max_steps=512,
        adjoint=dfx.ForwardMode(),
    )

    def read(ys):
        (own,) = jax.vmap(outputs)(ys).values()
        return own.train[:, 0, 0]

    return [(t, read(y)) for t, y in zip(found.ts, found.ys, strict=True)]


@pytest.mark.parametrize("dense", ["exact", "hermite"])
def test_exponential_is_as_right_between_steps_as_at_their_ends(dense):
    term, y0 = flow_of_a_square()
    ts = jnp.asarray(np.sort(np.random.default_rng(0).uniform(0, 4, 200)))
    for rtol in (1e-5, 1e-7):
        method = KernelExponential(dense=dense)
        worst = []
        for saved in between_and_at_ends(term, y0, method, jnp.asarray(rtol), ts):
            t, f = np.asarray(saved)
            t, f = t[np.isfinite(t)], f[np.isfinite(t)]
            worst.append(np.max(np.abs(f - exact_outputs(t))) / rtol)
        inside, at_ends = worst
        # The error with which a step began, and one tolerance of its own.
        assert inside < at_ends + 1


@pytest.mark.parametrize("method", [dfx.Tsit5(), dfx.Dopri5(), dfx.Dopri8()])
def test_estimate_is_of_the_size_of_the_error_inside(method):
    term, thetas = dfx.ODETerm(forced), np.linspace(0, 1, 101)

    @quick_jit
    def step(t0, h, y0):
        t1 = t0 + h
        state = method.init(term, t0, t1, y0, None)
        _, _, info, _, _ = method.step(term, t0, t1, y0, None, state, made_jump=False)
        given = (term, t0, t1, None), y0, info
        found = [estimate_inside(method, *given, read) for read in (None, t0[None])]
        inside = method.interpolation_cls(t0=t0, t1=t1, **info)
        return found, jax.vmap(inside.evaluate)(t0 + h * thetas)

    for t0, h in [(0.0, 0.2), (0.3, 0.4), (1.1, 0.3), (2.0, 0.4)]:
        (estimate, nothing), states = step(*map(jnp.asarray, (t0, h)), FORCED_Y0)
        exact = solve_ivp(
            forced_by_numpy, (0, h), FORCED_Y0, "DOP853", h * thetas, args=(t0,),
            rtol=1e-13, atol=1e-14,
        ).y.T  # fmt: skip
        error = np.linalg.norm(states - exact, axis=1).max()
        assert error > roundoff(100)
        assert 0.5 * error < float(jnp.linalg.norm(estimate[0])) < 6 * error
        assert int(estimate[1]) == 2
        assert not nothing[0].any()
        assert int(nothing[1]) == 0


def forced_by_numpy(t, y, t0):
    return np.asarray(forced(t0 + t, jnp.asarray(y), None))


class Wrong(eqx.Module):
    """An interpolation of y = 0 that is wrong as one that is right at both ends is."""

    t0: jax.Array
    t1: jax.Array
    even: float
    odd: float

    def evaluate(self, t):
        at = (t - self.t0) / (self.t1 - self.t0)
        return (at * (1 - at)) ** 2 * (self.even + self.odd * (at - 0.5))


@pytest.mark.parametrize(("even", "odd"), [(1.0, 0.0), (0.0, 1.0)])
def test_estimate_is_the_error_at_the_time_that_is_read(even, odd):
    class Method(dfx.Dopri5):
        interpolation_cls: ClassVar = Wrong

    term = dfx.ODETerm(lambda t, y, args: 0 * y)
    t0, t1, y0 = jnp.asarray(2.0), jnp.asarray(2.5), jnp.asarray(0.0)

    def estimate(read):
        info = {"even": even, "odd": odd}
        found, count = estimate_inside(Method(), (term, t0, t1, None), y0, info, read)
        assert int(count) == 2
        return abs(float(found))

    wrong = Wrong(t0, t1, even, odd)
    for at in (0.1, 0.3, 0.7, 0.85):
        # One of two times, the other of another step.
        t = t0 + at * (t1 - t0)
        exact = abs(float(wrong.evaluate(t)))
        np.testing.assert_allclose(estimate(jnp.stack([t0 - 1, t])), exact, rtol=1e-12)
    grid = jax.vmap(wrong.evaluate)(jnp.linspace(t0, t1, 1001))
    # The largest anywhere is known to three digits.
    np.testing.assert_allclose(estimate(None), np.abs(grid).max(), rtol=0.01)
