"""f = r z(T) + s with ż = q₀ + q₁z and z(0) = ex + b: all in closed form."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ntkflow import models

T = 1.3
Q = (0.4, -0.7)
X = np.array([[0.5], [-1.2], [2.0]])


class Affine(eqx.Module):
    q: jax.Array

    def __call__(self, t, z):
        return self.q[0] + self.q[1] * z


def network(field=None, **settings):
    def layer(seed):
        return models.Dense(1, 1, "standard", b_std=0.5, key=jax.random.key(seed))

    field = Affine(jnp.array(Q)) if field is None else field
    depth = models.Depth(T, **settings)
    return models.NeuralODE(field, layer(1), layer(2), depth=depth)


def outputs(model, x):
    """The closed form as a function of the model's parameters."""
    q0, q1 = model.field.q
    z = model.encoder(x)[0]
    e = jnp.exp(q1 * T)
    return model.readout((z * e + q0 * (e - 1) / q1)[None])


def jacobian(model, x):
    """Of one example, leaf by leaf."""
    params, static = models.partition(model)
    return jax.jacrev(lambda p: outputs(eqx.combine(p, static), x))(params)


def response(model, x, ts):
    """G(s) = r e^{q₁(T−s)} (1, z(s)) at several depths."""
    q0, q1 = Q
    z0, r = float(model.encoder(jnp.asarray(x))[0]), float(model.readout.weight[0, 0])
    e = np.exp(q1 * ts)
    z = z0 * e + q0 * (e - 1) / q1
    along = r * np.exp(q1 * (T - ts))
    return along[:, None] * np.stack([np.ones_like(z), z], axis=1)


def integral(values, weights):
    return np.tensordot(weights, values, axes=1)


def gauss(start, stop, nodes=40):
    s, w = np.polynomial.legendre.leggauss(nodes)
    return (start + stop) / 2 + (stop - start) / 2 * s, (stop - start) / 2 * w


def outside(model):
    """The part of encoder and readout in the kernel [N, N]."""
    rows = []
    for x in X:
        jac = jacobian(model, jnp.asarray(x))
        leaves = jax.tree.leaves((jac.encoder, jac.readout))
        rows.append(np.concatenate([np.ravel(leaf) for leaf in leaves]))
    return np.stack(rows) @ np.stack(rows).T


def l2_kernel(model):
    ts, w = gauss(0, T)
    G = np.stack([response(model, x, ts) for x in X])
    return np.einsum("m,imp,jmp->ij", w, G, G) + outside(model)


def basis_kernel(model, pieces):
    """Of the parameters of equal pieces in an orthonormal basis."""
    total, h = outside(model), T / pieces
    for b in range(pieces):
        ts, w = gauss(b * h, (b + 1) * h)
        H = np.stack([integral(response(model, x, ts), w) for x in X])
        total = total + H @ H.T / h
    return total
