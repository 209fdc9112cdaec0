"""Small problems that the tests of this folder share."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from ntkflow.models import MLP, Antisymmetric
from ntkflow.problem import Problem


def tiny(
    key=None, *, n=6, dtype=jnp.float64, antisymmetric=False, **options
) -> Problem:
    """Six examples, two outputs, one hidden layer of eight tanh units."""
    key = jax.random.key(7) if key is None else key
    x_key, y_key, model_key = jax.random.split(jax.random.key(3), 3)
    x = jax.random.normal(x_key, (n + 3, 3), dtype)
    y = jax.random.normal(y_key, (n + 3, 2), dtype)
    model = MLP(3, 2, width=8, depth=1, key=model_key, dtype=dtype)
    if antisymmetric:
        model = Antisymmetric(model)
    return Problem(model, x[:n], y[:n], x_test=x[n:], y_test=y[n:], **options)


def dense_kernel(problem: Problem, x=None) -> np.ndarray:
    """Θ(x, X) at θ₀ as a matrix, from an explicit Jacobian of raveled parameters."""
    from jax.flatten_util import ravel_pytree

    flat, unravel = ravel_pytree(problem.params)

    def jacobian(x):
        def f(theta):
            return problem.outputs(unravel(theta), x).ravel()

        return np.asarray(jax.jacrev(f)(flat))

    jac = jacobian(problem.x)
    return (jac if x is None else jacobian(x)) @ jac.T


def frozen_outputs(problem, t):
    """Outputs of the linearized network at time t: e^{−Θ₀t} r₀ + y."""
    r0 = np.ravel(problem.outputs(problem.params, problem.x) - problem.y)
    left = scipy.linalg.expm(-dense_kernel(problem) * t) @ r0
    return left.reshape(problem.y.shape) + problem.y
