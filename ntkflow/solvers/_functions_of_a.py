"""φ-functions of a step times A = N − U W, on vectors of the size of the state.

With an eigenbasis V of the small matrix W U = VΛVᵀ, function by function,
φ(hA)v = φ(hN)v + UV g(Λ)VᵀWv with g(λ) = (φ(hM) − φ(hN))/λ, where M is what A makes of
a mode: −σ − λ, for N = −σ. At λ = 0 this is a derivative: nothing is ever divided by a
small eigenvalue, so that a singular kernel is as good as any. With inertia M and N are
2 by 2 matrices, and U and W are taken component by component, as for positions.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from .._types import Scalar
from ..flows import Packed
from ._decomposition import Decomposition
from ._gauss_newton import GaussNewton, Modes
from ._mode_phis import ModePhis, decay_phis
from ._oscillator import oscillator_phis
from ._term import FlowTerm


class Split(NamedTuple):
    """A tangent of the state, plain + UV modes; a product with U is put off.

    So any number of functions of A is taken at the cost of one product with U in the
    end. Vectors of N·K numbers are in the eigenbasis, one a component of the state.

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

    def total(field: int) -> dict[str, Array]:
        names = terms[0][1][field]
        return {n: jnp.asarray(sum(a * v[field][n] for a, v in terms)) for n in names}

    return Split(total(0), total(1), total(2))


_LAST = 3
"""The last φ-function that a step is made of."""


class Table(NamedTuple):
    """The φ-functions of hA as numbers, by flow with a stiff part.

    Attributes:
        h: The step.
        modes: Those of hN and hM, and their divided differences.
    """

    h: Scalar
    modes: dict[str, ModePhis]


class FunctionsOfA:
    """Functions of A at one linearization; lives inside one trace.

    Args:
        term: The flows.
        decomposition: Where they are linearized, and the eigenbases there.
    """

    def __init__(self, term: FlowTerm, decomposition: Decomposition):
        self._a = GaussNewton(term, decomposition.base)
        self._free = self._a.free
        kernels = self._a.kernels
        self._bases = {n: decomposition.vectors[k] for n, k in kernels.items()}
        self._values = {n: decomposition.values[k] for n, k in kernels.items()}

    @property
    def components(self) -> int:
        """The most components that a flow's state has: two if one has inertia."""
        return max(free.components for free in self._free.values())

    def trace(self) -> None:
        """Traces the linearizations now, so that a loop may close over them."""
        self._a.trace()

    def split(self, v: Packed) -> Split:
        """A tangent as it is; costs one product with W a component.

        Args:
            v: A tangent.

        Returns:
            The same, with what W sees of it.
        """
        seen = self._see(v)
        return Split(v, {n: jnp.zeros_like(own) for n, own in seen.items()}, seen)

    def join(self, v: Split) -> Packed:
        """A tangent as one vector a flow; costs one product with U a component.

        Args:
            v: A tangent.

        Returns:
            plain + UV modes.
        """

        def driven(name: str, mode: Array) -> Array:
            turned = jnp.einsum("ij,j->i", self._bases[name], mode, precision="highest")
            return self._a.drive({name: turned})[name]

        return v.plain | {
            n: v.plain[n] + self._free[n].joined([driven(n, mode) for mode in own])
            for n, own in v.modes.items()
        }

    def remainder(self, f: Packed, start: Split, change: Split) -> Split:
        """What A leaves of a change of the field; costs one product with W a component.

        Args:
            f: The field where the state has changed.
            start: The field where it had not.
            change: By how much the state has changed.

        Returns:
            f − start − A change.
        """
        rise = {n: own - start.plain[n] for n, own in f.items()}
        still = {n: jnp.zeros_like(own) for n, own in change.modes.items()}
        return combine(
            (1, Split(rise, still, self._see(rise))), (-1, self.times(change))
        )

    def times(self, v: Split) -> Split:
        """A v; no product with U or W.

        Args:
            v: A tangent.

        Returns:
            A tangent.
        """
        plain = {n: jnp.zeros_like(own) for n, own in v.plain.items()}
        modes, seen = {}, {}
        for name, free in self._free.items():
            own = v.seen[name]
            parts = v.plain[name].reshape(free.components, -1)
            plain[name] = free.times(parts).reshape(-1)
            modes[name] = free.times(v.modes[name]) - free.driven(own)
            seen[name] = free.times(own) - self._values[name][None] * free.driven(own)
        return Split(plain, modes, seen)

    def over(self, h: Scalar, last: int = _LAST) -> Table:
        """The φ-functions of hA, as numbers.

        Args:
            h: A step.
            last: The largest index that is needed.

        Returns:
            What `phi` takes.
        """
        found = {}
        for name, values in self._values.items():
            shift, damping = self._free[name]
            if damping is None:
                found[name] = decay_phis(last, h, shift, values)
            else:
                found[name] = oscillator_phis(last, h, damping, shift, values)
        return Table(h, found)

    def phi(self, table: Table, weights: dict[int, float | int], v: Split) -> Split:
        """Σ_k weights[k] φ_k(hA)v; no product with U or W.

        Args:
            table: From `over`.
            weights: Weights by index, none beyond the table's last.
            v: A tangent.

        Returns:
            A tangent.

        Verified by:
            tests/solvers/test_exponential.py::test_functions_of_a_are_those_of_the_dense_matrix
        """

        def total(values: Any, v: Array) -> Array:
            matrix = jnp.asarray(sum(w * values[k] for k, w in weights.items()))
            matrix = matrix.reshape(*matrix.shape[:2], -1)
            return jnp.sum(matrix * v[None], axis=1)

        at_zero = sum(w / math.factorial(k) for k, w in weights.items())
        plain = {n: at_zero * own for n, own in v.plain.items()}
        modes, seen = {}, {}
        for name, phi in table.modes.items():
            own = v.seen[name]
            parts = v.plain[name].reshape(self._free[name].components, -1)
            plain[name] = total(phi.small, parts).reshape(-1)
            driven = table.h * total(phi.slopes, own)
            modes[name] = total(phi.small, v.modes[name]) - driven
            seen[name] = total(phi.large, own)
        return Split(plain, modes, seen)

    def _see(self, v: Packed) -> Modes:
        def seen(name: str, component: Array) -> Array:
            read = self._a.read({name: component})[name]
            return jnp.einsum("ij,i->j", self._bases[name], read, precision="highest")

        return {
            name: jnp.stack([seen(name, own) for own in free.spread(v[name])])
            for name, free in self._free.items()
        }
