"""φ-functions of a step times A = −U W − σ, on vectors of the size of the state.

With an eigenbasis V of the small matrix W U = VΛVᵀ, function by function,
φ(hA)v = φ(−hσ)v + UV g(Λ)VᵀWv with g(λ) = (φ(−h(σ + λ)) − φ(−hσ))/λ. At λ = 0 this is
a derivative: nothing is ever divided by a small eigenvalue, so that a singular kernel
is as good as any.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import Scalar
from ..flows import Packed
from ..theory import phi_slopes, phis
from ._decomposition import Decomposition
from ._gauss_newton import GaussNewton, Modes
from ._term import FlowTerm


class Split(NamedTuple):
    """A tangent of the state, plain + UV modes; a product with U is put off.

    So any number of functions of A is taken at the cost of one product with U in the
    end. Vectors of N·K numbers are in the eigenbasis.

    Attributes:
        plain: A tangent.
        modes: By flow with a stiff part.
        seen: VᵀW of the whole tangent, by flow with a stiff part.
    """

    plain: Packed
    modes: Modes
    seen: Modes


def combine(*terms: tuple[float | int | Scalar, Split]) -> Split:
    """A linear combination.

    Args:
        terms: Factors and vectors.

    Returns:
        Their sum.
    """

    def total(field: int) -> Packed:
        names = terms[0][1][field]
        return {n: jnp.asarray(sum(a * v[field][n] for a, v in terms)) for n in names}

    return Split(total(0), total(1), total(2))


_LAST = 3
"""The last φ-function that the method is made of."""


class Table(NamedTuple):
    """The φ-functions of hA as numbers, by flow with a stiff part and by index.

    Attributes:
        h: The step.
        small: φ(−hσ).
        large: φ(−h(σ + λ)).
        slopes: Their divided differences.
    """

    h: Scalar
    small: dict[str, list[Scalar]]
    large: dict[str, list[Float[Array, " m"]]]
    slopes: dict[str, list[Float[Array, " m"]]]


class FunctionsOfA:
    """Functions of A at one linearization; lives inside one trace.

    Args:
        term: The flows.
        decomposition: Where they are linearized, and the eigenbases there.
    """

    def __init__(self, term: FlowTerm, decomposition: Decomposition):
        self._a = GaussNewton(term, decomposition.base)
        self._shifts = {name: free.shift for name, free in self._a.free.items()}
        kernels = self._a.kernels
        self._bases = {n: decomposition.vectors[k] for n, k in kernels.items()}
        self._values = {n: decomposition.values[k] for n, k in kernels.items()}

    def split(self, v: Packed) -> Split:
        """A tangent as it is; costs one product with W.

        Args:
            v: A tangent.

        Returns:
            The same, with what W sees of it.
        """
        modes = {n: jnp.zeros_like(values) for n, values in self._values.items()}
        return Split(v, modes, self._see(v))

    def join(self, v: Split) -> Packed:
        """A tangent as one vector a flow; costs one product with U.

        Args:
            v: A tangent.

        Returns:
            plain + UV modes.
        """
        driven = self._a.drive({
            name: jnp.einsum("ij,j->i", self._bases[name], own, precision="highest")
            for name, own in v.modes.items()
        })
        return {
            n: own + driven[n] if n in driven else own for n, own in v.plain.items()
        }

    def remainder(self, f: Packed, start: Split, change: Split) -> Split:
        """What A leaves of a change of the field; costs one product with W.

        Args:
            f: The field where the state has changed.
            start: The field where it had not.
            change: By how much the state has changed.

        Returns:
            f − start − A change.
        """
        rise = {n: own - start.plain[n] for n, own in f.items()}
        risen = self._see(rise)
        shifts = self._shifts
        plain = {
            n: own + shifts[n] * change.plain[n] if n in shifts else own
            for n, own in rise.items()
        }
        modes = {n: change.seen[n] + s * change.modes[n] for n, s in shifts.items()}
        seen = {
            n: risen[n] + (self._values[n] + s) * change.seen[n]
            for n, s in shifts.items()
        }
        return Split(plain, modes, seen)

    def times(self, v: Split) -> Split:
        """A v; no product with U or W.

        Args:
            v: A tangent.

        Returns:
            A tangent.
        """
        shifts = self._shifts
        plain = {
            n: -shifts[n] * own if n in shifts else jnp.zeros_like(own)
            for n, own in v.plain.items()
        }
        modes = {n: -v.seen[n] - s * v.modes[n] for n, s in shifts.items()}
        seen = {n: -(self._values[n] + s) * v.seen[n] for n, s in shifts.items()}
        return Split(plain, modes, seen)

    def over(self, h: Scalar) -> Table:
        """The φ-functions of hA, as numbers.

        Args:
            h: A step.

        Returns:
            What `phi` takes.
        """
        small, large, slopes = {}, {}, {}
        for name, values in self._values.items():
            shift, drop = self._shifts[name], h * values
            top = jnp.full_like(drop[:1], -h * shift)
            # Both arguments at once: fewer operations compile faster.
            at = phis(_LAST + 1, jnp.concatenate([top, top - drop]))
            small[name], large[name] = [a[0] for a in at], [a[1:] for a in at]
            if isinstance(shift, float | int) and shift == 0:
                slopes[name] = large[name][1:]
            else:
                slopes[name] = phi_slopes(
                    _LAST, jnp.broadcast_to(top, drop.shape), drop
                )
        return Table(h, small, large, slopes)

    def phi(self, table: Table, weights: dict[int, float | int], v: Split) -> Split:
        """Σ_k weights[k] φ_k(hA)v; no product with U or W.

        Args:
            table: From `over`.
            weights: Weights by index, which is at most three.
            v: A tangent.

        Returns:
            A tangent.

        Verified by:
            tests/solvers/test_exponential.py::test_functions_of_a_are_those_of_the_dense_matrix
        """

        def total(values: list[Array]) -> Array:
            return jnp.asarray(sum(w * values[k] for k, w in weights.items()))

        at_zero = sum(w / math.factorial(k) for k, w in weights.items())
        small = {name: total(values) for name, values in table.small.items()}
        plain = {n: small.get(n, at_zero) * own for n, own in v.plain.items()}
        modes = {
            n: small[n] * own - table.h * total(table.slopes[n]) * v.seen[n]
            for n, own in v.modes.items()
        }
        seen = {n: total(table.large[n]) * own for n, own in v.seen.items()}
        return Split(plain, modes, seen)

    def _see(self, v: Packed) -> Modes:
        return {
            name: jnp.einsum("ij,i->j", self._bases[name], own, precision="highest")
            for name, own in self._a.read(v).items()
        }
