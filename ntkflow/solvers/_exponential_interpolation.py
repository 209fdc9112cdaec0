"""What a step of `KernelExponential` is inside.

The remainder is taken for a polynomial of time and integrated as the step itself does:
the linear part exactly, so that a layer much thinner than the step has its true shape.
The stages give a parabola, whose local error is of the size of h⁴. That of the step may
be much smaller: where A is nearly right it is of the size of h⁵, and so is what the
step's error estimate sees. So the field is evaluated at two states on that first curve,
and the cubic through the remainder there is integrated anew, to h⁵ (Enright, Jackson,
Nørsett & Thomsen 1986). That is done when a time is read: the steps cost what they did.
"""

import math
from typing import Any, final

import diffrax as dfx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax import lax
from jaxtyping import Array

from .._types import Scalar
from ..flows import Packed
from ._decomposition import Decomposition, Fixed, Parts, parts_of, term_from
from ._functions_of_a import FunctionsOfA, Split, combine
from ._term import FlowTerm


def storable(term: FlowTerm) -> tuple[Parts, Fixed]:
    """A term as arrays of floats, the only ones diffrax keeps of a step.

    Integers are exact as floats up to 2²⁴ in single precision, 2⁵³ in double.

    Args:
        term: The flows.

    Returns:
        What `ExponentialInterpolation` takes.
    """
    (arrays, rest), dtype = parts_of(term), term.problem.dtype
    dtypes = jtu.tree_map(lambda a: np.dtype(a.dtype), arrays)

    def floating(a: Array) -> Array:
        a = jnp.asarray(a)
        return a if jnp.issubdtype(a.dtype, jnp.inexact) else a.astype(dtype)

    return (jtu.tree_map(floating, arrays), rest), Fixed(dtypes)


def _restored(parts: tuple[Parts, Fixed]) -> FlowTerm:
    (arrays, rest), dtypes = parts
    arrays = jtu.tree_map(lambda a, dtype: a.astype(dtype), arrays, dtypes.value)
    return term_from((arrays, rest))


_NODES = (1 / 3, 2 / 3)
"""Where in the step the remainder is evaluated once more."""


@final
class ExponentialInterpolation(dfx.AbstractLocalInterpolation):
    """Order four, exact for linear models.

    A value costs two evaluations of the field, two products Jv and three Jᵀg.

    Attributes:
        t0: Start of the step.
        t1: End of the step.
        y0: The packed state at its start.
        h: Its length, in the state's dtype.
        start: The field at its start.
        middle: The remainder in its middle, of the stages.
        end: The remainder at the state it ends with.
        change: What it adds to the state.
        decomposition: The linearization.
        parts: The flows, from `storable`.

    Source: derived from ∫₀^θ e^{(θ−s)hA} sʲ ds = j! θ^{j+1} φ_{j+1}(θhA), Hochbruck &
    Ostermann (2010), eq. 2.10; the second pass is that of Enright, Jackson, Nørsett &
    Thomsen (1986), section 3.

    Verified by:
        tests/solvers/test_exponential.py::test_dense_output_is_exact_inside_a_layer
    Verified by:
        tests/solvers/test_exponential.py::test_dense_output_is_of_order_four
    """

    t0: Any
    t1: Any
    y0: Packed
    h: Scalar
    start: Split
    middle: Split
    end: Split
    change: Split
    decomposition: Decomposition
    parts: tuple[Parts, Fixed]

    def evaluate(self, t0: Any, t1: Any | None = None, left: bool = True) -> Packed:
        """The state at a time within the step, or its change between two.

        Args:
            t0: A time.
            t1: A later time, or None.
            left: Not read; the solution is continuous.

        Returns:
            The state at t0, or that at t1 less that at t0.
        """
        if t1 is not None:
            return jtu.tree_map(jnp.subtract, self.evaluate(t1), self.evaluate(t0))
        span = jnp.asarray(self.t1 - self.t0)
        length = jnp.where(span > 0, span, jnp.ones_like(span))
        theta = ((t0 - self.t0) / length).astype(self.h.dtype)
        term = _restored(self.parts)
        functions = FunctionsOfA(term, self.decomposition)
        cubic = self._cubic(term, functions)
        at_end = self._integrated(functions, jnp.ones_like(theta), cubic)
        # The step itself has another error, of the same size: the curve has to end in
        # its end, and is bent there by the difference, in no mode by more than that.
        change = combine(
            (1, self._integrated(functions, theta, cubic)),
            (theta**2, self.change),
            (-(theta**2), at_end),
        )
        return self._moved(functions, change)

    def _cubic(self, term: FlowTerm, functions: FunctionsOfA) -> list[Split]:
        """The remainder as a cubic of θ, by its coefficients of θ, θ² and θ³."""
        # The parabola through zero, the middle and the end.
        parabola = [
            combine((4, self.middle), (-1, self.end)),
            combine((2, self.end), (-4, self.middle)),
        ]

        def remainder(theta: Scalar) -> Split:
            change = self._integrated(functions, theta, parabola)
            # The field does not depend on time.
            f = term.vf(self.t0, self._moved(functions, change), None)
            return functions.remainder(f, self.start, change)

        # One after the other, so that the field is compiled once.
        functions.trace()
        both = lax.map(remainder, jnp.asarray(_NODES, self.h.dtype))
        first, second = (_row(both, i) for i in range(len(_NODES)))
        return [
            combine((9.0, first), (-4.5, second), (1.0, self.end)),
            combine((-22.5, first), (18.0, second), (-4.5, self.end)),
            combine((13.5, first), (-13.5, second), (4.5, self.end)),
        ]

    def _integrated(
        self, functions: FunctionsOfA, theta: Scalar, remainder: list[Split]
    ) -> Split:
        """The change of the state up to θ, for a remainder that is a polynomial."""
        h = theta * self.h
        table = functions.over(h, last=1 + len(remainder))
        terms = [(h, functions.phi(table, {1: 1}, self.start))]
        for power, coefficient in enumerate(remainder, start=1):
            weights: dict[int, float | int] = {1 + power: math.factorial(power)}
            terms.append((h * theta**power, functions.phi(table, weights, coefficient)))
        return combine(*terms)

    def _moved(self, functions: FunctionsOfA, change: Split) -> Packed:
        return jtu.tree_map(jnp.add, self.y0, functions.join(change))


def _row(rows: Split, i: int) -> Split:
    return jtu.tree_map(lambda own: own[i], rows)
