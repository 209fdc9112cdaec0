"""The slow kernel oracle of this room: the whole Jacobian, then one product."""

import equinox as eqx
import jax
from jax.flatten_util import ravel_pytree

from ntkflow import models


def jacobian(model, x):
    """J as a matrix `[N K, P]` over the trained leaves, in leaf order."""
    params, static = models.partition(model)
    flat, unravel = ravel_pytree(params)

    def outputs(vector):
        return jax.vmap(eqx.combine(unravel(vector), static))(x).ravel()

    return jax.jit(jax.jacrev(outputs))(flat)


def kernel(model, x):
    """J Jᵀ as a matrix `[N K, N K]`."""
    jac = jacobian(model, x)
    return jac @ jac.T
