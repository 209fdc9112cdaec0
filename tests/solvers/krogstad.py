"""A slow obvious twin: Krogstad's method with dense matrices, in numpy."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ntkflow.problem import Problem

COUPLING = np.append(0.6, np.full(11, 0.4))
START = np.full(12, 1 / 12)
PULL = 2.0


class Stiff(eqx.Module):
    """Outputs s_i w_i, and a bounded one that couples them all."""

    w: jax.Array

    def __call__(self, s):
        return jnp.append(s * self.w, jnp.sin(jnp.asarray(COUPLING) @ self.w))


def scales(stiffness):
    """Two slow modes, and ten of rates from `stiffness` to a hundred times that."""
    return np.append([0.5, 1.0], np.sqrt(stiffness) * np.geomspace(1, 10, 10))


def target(s):
    """Nowhere fast: what the stiff modes relax to is of the size of one."""
    return np.append(s / (1 + s), PULL)


def stiff_problem(stiffness, w=START) -> Problem:
    s = scales(stiffness)
    return Problem(Stiff(jnp.asarray(w)), s[None], target(s)[None])


def integrate(stiffness, w, base, end, count):
    """`count` steps of equal length to `end`, linearized at `base`."""
    s, h = scales(stiffness), end / count
    jac = np.vstack([np.diag(s), np.cos(COUPLING @ base) * COUPLING])
    rates, vectors = np.linalg.eigh(-jac.T @ jac)
    half, full = _phis(0.5 * h * rates), _phis(h * rates)

    def of_a(values, v):
        return vectors @ (values * (vectors.T @ v))

    for _ in range(count):
        f = _field(s, w)

        def left(change, w=w, f=f):
            return _field(s, w + change) - f - of_a(rates, change)

        to_half, to_end = 0.5 * h * of_a(half[1], f), h * of_a(full[1], f)
        second = left(to_half)
        third = left(to_half + h * of_a(half[2], second))
        fourth = left(to_end + 2 * h * of_a(full[2], third))
        twice = of_a(2 * full[2] - 4 * full[3], second + third)
        w = w + to_end + h * (twice + of_a(4 * full[3] - full[2], fourth))
    return w


def _field(s, w):
    out = COUPLING @ w
    residual = np.append(s * w, np.sin(out)) - target(s)
    return -(s * residual[:-1] + residual[-1] * np.cos(out) * COUPLING)


def _phis(z):
    found = [np.exp(z)]
    for k in range(1, 4):
        series = sum(z**j / math.factorial(j + k) for j in range(25))
        far = np.where(np.abs(z) < 1, 1.0, z)
        above = (found[-1] - 1 / math.factorial(k - 1)) / far
        found.append(np.where(np.abs(z) < 1, series, above))
    return found
