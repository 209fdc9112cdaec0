"""What a step of `KernelExponential` is inside.

The remainder is taken for the parabola through its values at the start (zero), the
middle and the end of the step, and integrated as the step itself does: the linear part
exactly, so that a layer much thinner than the step has its true shape.
"""

from typing import Any, final

import diffrax as dfx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
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


@final
class ExponentialInterpolation(dfx.AbstractLocalInterpolation):
    """Order three, exact for linear models; a value costs one product Jᵀg.

    Attributes:
        t0: Start of the step.
        t1: End of the step.
        y0: The packed state at its start.
        h: Its length, in the state's dtype.
        start: The field at its start.
        middle: The remainder in its middle.
        end: The remainder at its end.
        decomposition: The linearization.
        parts: The flows, from `storable`.

    Source: derived from ∫₀^θ e^{(θ−s)hA} sʲ ds = j! θ^{j+1} φ_{j+1}(θhA), Hochbruck &
    Ostermann (2010), eq. 2.10.

    Verified by:
        tests/solvers/test_exponential.py::test_dense_output_is_exact_inside_a_layer
    Verified by:
        tests/solvers/test_exponential.py::test_dense_output_is_of_order_three
    """

    t0: Any
    t1: Any
    y0: Packed
    h: Scalar
    start: Split
    middle: Split
    end: Split
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
        h = theta * self.h
        functions = FunctionsOfA(_restored(self.parts), self.decomposition)
        table = functions.over(h)
        linear = combine((4, self.middle), (-1, self.end))
        quadratic = combine((2, self.end), (-4, self.middle))
        change = combine(
            (h, functions.phi(table, {1: 1}, self.start)),
            (h * theta, functions.phi(table, {2: 1}, linear)),
            (h * theta**2, functions.phi(table, {3: 2}, quadratic)),
        )
        return jtu.tree_map(jnp.add, self.y0, functions.join(change))
