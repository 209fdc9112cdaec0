"""Vector fields whose solutions, and so whose kernels, are known in closed form.

All in one module on states [2], chosen by a number that is not static, so that one
compiled kernel serves every row; fields of one dimension leave the second alone. Each
row has four parameters, of which a field uses the first few.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

T = 1.3
X = np.array([[0.4, 0.0], [-0.3, 0.0], [0.7, 0.0]])
"""Examples of the fields of one dimension; within the logistic field's reach."""

PLANE = np.array([[0.4, -0.9], [-0.3, 0.5], [1.1, 0.2]])
C = np.array([0.8, -0.6])
"""The readout f = Cᵀz."""


def first(v, z):
    return jnp.stack([v, jnp.zeros_like(z[1])])


FIELDS = {
    "exponential": lambda p, z: first(p[0] * z[0], z),
    "constant": lambda p, z: p[:2],
    "logistic": lambda p, z: first(p[0] * z[0] * (1 - z[0]), z),
    "hyperbolic": lambda p, z: first(-p[0] * z[0] ** 2, z),
    "affine": lambda p, z: first(p[0] + p[1] * z[0], z),
    "tanh": lambda p, z: first(p[0] * jnp.tanh(p[1] * z[0] + p[2]), z),
    "linear": lambda p, z: p.reshape(2, 2) @ z,
}

OMEGA = 1.7
PARAMS = {
    "exponential": [0.6, 0.0, 0.0, 0.0],
    "constant": [0.3, -0.5, 0.0, 0.0],
    "logistic": [0.9, 0.0, 0.0, 0.0],
    "hyperbolic": [0.5, 0.0, 0.0, 0.0],
    "affine": [0.4, -0.7, 0.0, 0.0],
    "tanh": [0.8, 1.1, 0.2, 0.0],
    "linear": [0.3, -0.8, 0.5, 0.1],
    "rotation": [0.0, -OMEGA, OMEGA, 0.0],
}


class Field(eqx.Module):
    params: jax.Array
    number: jax.Array

    def __call__(self, t, z):
        branches = [lambda p, z, v=v: v(p, z) for v in FIELDS.values()]
        return jax.lax.switch(self.number, branches, self.params, z)


class Readout(eqx.Module):
    """Not trained: the rows are kernels of the field's parameters."""

    def __call__(self, z):
        return (jnp.asarray(C, z.dtype) @ z)[None]


def field(name, dtype=jnp.float64):
    number = list(FIELDS).index("linear" if name == "rotation" else name)
    return Field(jnp.asarray(PARAMS[name], dtype), jnp.asarray(number))


def examples(name):
    return PLANE if name in {"linear", "rotation"} else X


def solution(name, x):
    """f of one example, where the table of closed forms gives the flow."""
    p = PARAMS[name]
    z = x[0]
    if name == "constant":
        return C @ (x + np.array(p[:2]) * T)
    if name in {"linear", "rotation"}:
        return C @ scipy.linalg.expm(T * np.reshape(p, (2, 2))) @ x
    z = {
        "exponential": lambda: z * np.exp(p[0] * T),
        "logistic": lambda: 1 / (1 + (1 / z - 1) * np.exp(-p[0] * T)),
        "hyperbolic": lambda: z / (1 + p[0] * T * z),
        "affine": lambda: z * np.exp(p[1] * T) + p[0] * (np.exp(p[1] * T) - 1) / p[1],
        "tanh": lambda: float(tanh_flow(jnp.asarray(p[:3]), z)),
    }[name]()
    return C[0] * z


def tanh_flow(p, z):
    a, w, b = p
    h0 = w * z + b
    return (jnp.arcsinh(jnp.exp(a * w * T) * jnp.sinh(h0)) - b) / w


def gradient(name, x):
    """∂f/∂(parameters) of one example, without any solver."""
    p, z = PARAMS[name], x[0]
    if name == "constant":
        return T * C
    if name in {"linear", "rotation"}:
        A = np.reshape(p, (2, 2))
        _, slope = scipy.linalg.expm_frechet(T * A.T, T * np.outer(C, x))
        return slope.ravel()
    if name == "affine":
        e = np.exp(p[1] * T)
        q0 = (e - 1) / p[1]
        q1 = T * z * e + p[0] * (T * e / p[1] - (e - 1) / p[1] ** 2)
        return C[0] * np.array([q0, q1])
    if name == "tanh":
        return C[0] * np.asarray(jax.grad(tanh_flow)(jnp.asarray(p[:3]), z))
    end = solution(name, x) / C[0]
    slope = {
        "exponential": T * z * np.exp(p[0] * T),
        "logistic": T * end * (1 - end),
        "hyperbolic": -T * z**2 / (1 + p[0] * T * z) ** 2,
    }[name]
    return C[:1] * slope


def kernel(name):
    """Θ of `examples(name)`; the rotation's by its own formula."""
    if name == "rotation":
        along = T**2 + np.sin(OMEGA * T) ** 2 / OMEGA**2
        return 0.5 * (C @ C) * (PLANE @ PLANE.T) * along
    jac = np.stack([np.atleast_1d(gradient(name, x)) for x in examples(name)])
    return jac @ jac.T
