"""Outputs along the gradient flow by other means than this library's solvers."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from ntkflow.problem import Problem
from ntkflow.simulate import Trajectory

PRECISE = {"rtol": 1e-12, "atol": 1e-16}


def integrate(problem: Problem, ts: np.ndarray, damping: float | None = None):
    """By scipy's DOP853, on raveled parameters."""
    start, slope, outputs = raveled(problem)
    p = start.size

    def field(t, y):
        if damping is None:
            return np.asarray(slope(y))
        return np.concatenate([y[p:], np.asarray(slope(y[:p])) - damping * y[p:]])

    if damping is not None:
        start = np.concatenate([start, np.zeros(p)])
    solved = solve_ivp(field, (0, ts[-1]), start, "DOP853", t_eval=ts, **PRECISE)
    assert solved.success
    return np.stack([np.asarray(outputs(y[:p])) for y in solved.y.T])


def integrate_stiff(problem: Problem, ts: np.ndarray, rtol: float = 1e-9):
    """By scipy's Radau, which is implicit."""
    start, slope, outputs = raveled(problem)
    jacobian = jax.jit(jax.jacfwd(slope))
    solved = solve_ivp(
        lambda t, y: np.asarray(slope(y)),
        (0, ts[-1]),
        start,
        "Radau",
        t_eval=ts,
        rtol=rtol,
        atol=1e-12,
        jac=lambda t, y: np.asarray(jacobian(y)),
    )
    assert solved.success
    return np.stack([np.asarray(outputs(y)) for y in solved.y.T])


def integrate_hinge(problem: Problem, until: float):
    """Between kinks, which are located: the outputs as a function, kinks, and an end.

    The end is where the flow would begin to slide along a kink, or `until`.
    """
    start, _, outputs = raveled(problem)

    @jax.jit
    def margins(theta):
        return 1 - problem.y[:, 0] * outputs(theta)[:, 0]

    @jax.jit
    def slope(theta, active):
        return -jax.grad(lambda theta: jnp.sum(active * margins(theta)))(theta)

    def crossings(active):
        def crossing(i):
            def value(t, theta):
                return float(margins(theta)[i])

            value.terminal, value.direction = True, -1 if active[i] else 1
            return value

        return [crossing(i) for i in range(len(active))]

    t, theta, pieces, active = 0.0, start, [], np.asarray(margins(start) > 0) * 1.0
    while t < until:
        solved = solve_ivp(
            lambda _, theta, active=active: np.asarray(slope(theta, active)),
            (t, until),
            theta,
            "DOP853",
            events=crossings(active),
            dense_output=True,
            **PRECISE,
        )
        t, theta = solved.t[-1], solved.y[:, -1]
        pieces.append((t, solved.sol))
        crossed = [i for i, times in enumerate(solved.t_events) if len(times)]
        if not crossed:
            break
        (i,) = crossed
        active = active.copy()
        active[i] = 1 - active[i]
        moves = jax.jvp(margins, (theta,), (slope(theta, active),))[1][i]
        if (moves < 0) == bool(active[i]):
            break

    def at(times):
        states = [next(sol(t) for end, sol in pieces if t <= end) for t in times]
        return np.stack([np.asarray(outputs(jnp.asarray(y))) for y in states])

    return at, len(pieces) - 1, t


def raveled(problem: Problem):
    """θ₀ as a vector, the right side of the gradient flow, and outputs of a vector."""
    flat, unravel = ravel_pytree(problem.params)

    @jax.jit
    def slope(theta):
        change = ravel_pytree(problem.gradient(unravel(theta)))[0]
        return -problem.time_scale * change

    @jax.jit
    def outputs(theta):
        return problem.outputs(unravel(theta), problem.x)

    return np.asarray(flat), slope, outputs


def learned(depth: int, strength: float, size: float, t: np.ndarray) -> np.ndarray:
    """One mode of a deep linear network whose layers all begin with the weight `size`.

    u = w^depth with ẇ = w^(depth−1)(s − u). Depth 2 is logistic; for depth 3 partial
    fractions give the time at which a weight is reached, which is inverted.
    """
    if depth == 2:
        rate = 2 * strength * t
        return strength / (1 + (strength / size**2 - 1) * np.exp(-rate))
    assert depth == 3
    a = strength ** (1 / 3)

    def reached(w, short):
        """The time for w, where `short` is a − w."""
        turn = np.sqrt(3) * np.arctan((2 * w + a) / (np.sqrt(3) * a))
        logs = np.log(w**2 + a * w + a**2) / 2 - np.log(short)
        return (-1 / w + (logs - turn) / (3 * a)) / strength

    def weight(z):
        return a / (1 + np.exp(-z)), a / (1 + np.exp(z))

    began = reached(size, a - size)

    def at(time):
        def missing(z):
            return reached(*weight(z)) - began - time

        if missing(36) < 0:
            return strength
        return weight(brentq(missing, -36, 36, xtol=1e-14, rtol=1e-14))[0] ** 3

    return np.array([at(time) for time in t])


def rms(f: np.ndarray) -> np.ndarray:
    """Root mean squares over examples and outputs."""
    return np.sqrt(np.mean(np.square(f), axis=(-2, -1)))


def wrong_by(run: Trajectory, exact: np.ndarray, problem: Problem, rtol: float):
    """Errors of the first flow in units of `rtol`, and the estimated ones."""
    size = 1.0
    if jnp.issubdtype(problem.y.dtype, jnp.inexact):
        size = float(jnp.sqrt(jnp.mean(problem.y**2)))
    unit = rtol * np.maximum(rms(exact), size)
    wrong = rms(np.asarray(run.dataset.f_train[0]) - exact)
    return wrong / unit, np.asarray(run.dataset.f_train_error[0]) / unit
