"""Flows that the tests of solvers share, and what they are without the solvers."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax.flatten_util import ravel_pytree

from ntkflow.flows import Coupled, Gradient, Linearized, Residual
from ntkflow.problem import Problem
from ntkflow.solvers import FlowTerm
from tests.solvers.quick import quick_jit

EVERY = (Gradient(), Residual("evolving"), Residual("frozen"), Linearized())


class Linear(eqx.Module):
    """f = Wx + b: linear in its parameters."""

    weight: jax.Array
    bias: jax.Array

    def __call__(self, x):
        return self.weight @ x + self.bias


def linear(n=3, *, copies=1, **options) -> Problem:
    """Two outputs of three inputs, eight parameters; every example `copies` times."""
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((n + 2, 3)), rng.standard_normal((n + 2, 2))
    rows = np.tile(np.arange(n), copies)
    model = Linear(jnp.asarray(rng.standard_normal((2, 3))), jnp.zeros(2))
    return Problem(model, x[rows], y[rows], x_test=x[n:], y_test=y[n:], **options)


def term_of(problem, flows=EVERY) -> FlowTerm:
    return FlowTerm(Coupled(tuple(flows)), problem)


def initial(term):
    return term.coupled.pack(term.coupled.init(term.problem))


def moved(y, size=0.3, seed=0):
    """A state away from another, in every flow differently."""
    rng = np.random.default_rng(seed)
    return {
        n: own + size * rng.standard_normal(own.shape).astype(own.dtype)
        for n, own in y.items()
    }


def affine_solution(term, y0):
    """The exact solution of flows that are affine: t -> state, by expm."""
    flat, unravel = ravel_pytree(y0)

    def field(flat):
        return ravel_pytree(term.vf(0.0, unravel(flat), None))[0]

    size = flat.size
    whole = np.zeros((size + 1, size + 1))
    whole[:size, :size] = jax.jacfwd(field)(flat)
    whole[:size, size] = field(flat)

    def at(t):
        return unravel(flat + jnp.asarray(scipy.linalg.expm(t * whole)[:size, size]))

    return at


def reference(term, y0, ts, rtol=1e-12):
    """The solution at some times by Dopri8."""
    return quick_jit(dfx.diffeqsolve)(
        term,
        dfx.Dopri8(),
        0.0,
        ts[-1],
        None,
        y0,
        saveat=dfx.SaveAt(ts=jnp.asarray(ts)),
        stepsize_controller=dfx.PIDController(rtol=rtol, atol=rtol),
        max_steps=100_000,
    ).ys


def gap(a, b):
    """The largest difference, over all flows."""
    return max(float(jnp.abs(a[name] - b[name]).max()) for name in b)


def slope(steps, errors):
    """The exponent of the error's growth with the step."""
    return np.polyfit(np.log(steps), np.log(errors), 1)[0]
