"""Solves with I − τA for the blocks A of coupled flows, through their kernels.

For A = −UW − σ the unknown x of (I − τA) x = v is known by its reading w = W x:

    ((1 + τσ) I + τ WU) w = W v,    x = (v − τ U w)/(1 + τσ),

the identity of Woodbury without an inverse of WU, which may be singular.
"""

from typing import Any

import jax.numpy as jnp
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Array, Float

from .._types import Scalar
from ..flows import Packed
from ._gauss_newton import GaussNewton


class Resolvent:
    """(I − τA)⁻¹, with one Cholesky decomposition for flows of equal kernel and decay.

    It lives inside one trace. A matrix that is not positive definite to working
    precision makes every solve NaN.

    Args:
        blocks: A.
        cores: WU of every kernel.
        tau: τ, in units of time.

    Source: Woodbury (1950).
    Verified by:
        tests/solvers/test_implicit.py::test_resolvent_solves_with_the_dense_matrix
    """

    def __init__(
        self,
        blocks: GaussNewton,
        cores: dict[str, Float[Array, "m m"]],
        tau: Scalar,
    ):
        self._blocks = blocks
        self._tau = tau
        self._scales = {name: 1 + shift * tau for name, shift in blocks.shifts.items()}
        self._factors: dict[tuple[str, Any], Any] = {}
        for name, key in self._keys().items():
            if key not in self._factors:
                core = cores[key[0]]
                identity = jnp.eye(len(core), dtype=core.dtype)
                shifted = self._scales[name] * identity + tau * core
                self._factors[key] = cho_factor(shifted, lower=True)

    def _keys(self) -> dict[str, tuple[str, Any]]:
        shifts = self._blocks.shifts
        return {name: (k, shifts[name]) for name, k in self._blocks.kernels.items()}

    @property
    def factorizations(self) -> int:
        """How many Cholesky decompositions it took."""
        return len(self._factors)

    def __call__(self, v: Packed) -> Packed:
        """Solves (I − τA) x = v.

        Args:
            v: The right-hand side; flows without a stiff part are returned as they are.

        Returns:
            x.
        """
        read, keys = self._blocks.read(v), self._keys()
        w = {name: cho_solve(self._factors[keys[name]], r) for name, r in read.items()}
        driven = self._blocks.drive(w)
        stiff = {
            name: (v[name] - self._tau * driven[name]) / self._scales[name]
            for name in driven
        }
        return v | stiff
