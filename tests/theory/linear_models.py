"""Models linear in their parameters, whose training is solved for the parameters."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.linalg


class LinearModel(NamedTuple):
    """f = f₀ + Jθ on both sets, trained from θ = 0 towards y."""

    jac: np.ndarray  # [N, K, P]
    jac_test: np.ndarray  # [Nt, K, P]
    f0: np.ndarray
    f0_test: np.ndarray
    y: np.ndarray

    @property
    def flat(self):
        return self.jac.reshape(-1, self.jac.shape[2])

    @property
    def ntk(self):
        return np.einsum("ikp,jlp->ikjl", self.jac, self.jac)

    @property
    def ntk_test_train(self):
        return np.einsum("ikp,jlp->ikjl", self.jac_test, self.jac)

    @property
    def slope(self):
        """∇L at the start."""
        return self.flat.T @ (self.f0 - self.y).ravel()

    def hessian(self, ridge):
        return self.flat.T @ self.flat + ridge * np.eye(self.flat.shape[1])

    def outputs(self, params):
        return self.f0 + self.jac @ params, self.f0_test + self.jac_test @ params

    def arguments(self, dtype=jnp.float64):
        """What the predictions of a full kernel take."""
        first = (self.ntk, self.f0, self.y)
        rest = {"ntk_test_train": self.ntk_test_train, "f0_test": self.f0_test}
        return (
            tuple(jnp.asarray(a, dtype) for a in first),
            {name: jnp.asarray(a, dtype) for name, a in rest.items()},
        )


def linear_model(n=4, n_test=3, outputs=2, params=5, seed=0):
    """One with fewer parameters than numbers to fit has a singular kernel."""
    rng = np.random.default_rng(seed)
    shapes = [(n, outputs, params), (n_test, outputs, params)]
    shapes += [(n, outputs), (n_test, outputs), (n, outputs)]
    return LinearModel(*(rng.standard_normal(shape) for shape in shapes))


def forced(matrix, force, t):
    """x(t) of ẋ = matrix x + force from rest, by one exponential."""
    size = len(force)
    block = np.zeros((size + 1, size + 1))
    block[:size, :size], block[:size, size] = matrix, force
    return scipy.linalg.expm(t * block)[:size, size]
