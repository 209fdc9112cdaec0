"""Solves with I − τA for the blocks A of coupled flows, through their kernels.

For A = N − UW the unknown x of (I − τA) x = v is known by its reading w = W x:

    x = (I − τN)⁻¹ (v − τ U w),    (I + τ W(I − τN)⁻¹U) w = W(I − τN)⁻¹ v,

the identity of Woodbury without an inverse of WU, which may be singular. For N = −σ the
matrix is ((1 + τσ) I + τ WU)/(1 + τσ). With inertia it is (κ I + τ² WU)/κ with
κ = 1 + τd + τ²σ: one solve, and one product each with U and W, as without.
"""

from typing import Any

import jax.numpy as jnp
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Array, Float

from .._types import Scalar
from ..flows import Packed
from ._gauss_newton import GaussNewton


class Resolvent:
    """(I − τA)⁻¹, with one Cholesky decomposition for flows of equal kernel and N.

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
        self._free = blocks.free
        self._scales = {n: free.determinant(tau) for n, free in self._free.items()}
        self._factors: dict[tuple[Any, ...], Any] = {}
        for name, key in self._keys().items():
            if key not in self._factors:
                core = cores[key[0]]
                identity = jnp.eye(len(core), dtype=core.dtype)
                weight = tau * self._free[name].delay(tau)
                shifted = self._scales[name] * identity + weight * core
                self._factors[key] = cho_factor(shifted, lower=True)

    def _keys(self) -> dict[str, tuple[Any, ...]]:
        # Numbers that are traced are told apart by the objects that stand for them.
        return {
            name: (kernel, *map(_told, self._free[name]))
            for name, kernel in self._blocks.kernels.items()
        }

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
        tau, free, keys = self._tau, self._free, self._keys()
        read = self._blocks.read({n: free[n].adjugate(tau, v[n]) for n in free})
        w = {name: cho_solve(self._factors[keys[name]], r) for name, r in read.items()}
        driven = self._blocks.drive(w)
        left = {n: v[n] - tau * own for n, own in driven.items()}
        return v | {
            n: f.adjugate(tau, left[n]) / self._scales[n] for n, f in free.items()
        }


def _told(number: Any) -> Any:
    return number if isinstance(number, float | int | None) else id(number)
