"""The error of a step of `KernelExponential`, that of its linearization included.

Where A has decayed away since it was taken, as the curvature of cross-entropy does,
stages with h‖A‖ ≫ 1 hardly move: each by f/A where it should move by hf. All are wrong
alike, and no comparison between them under the same A shows it. But the field at two
states reached says what A should be between them, and the quadrature of the step can
be done again under that.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import BoolScalar, Scalar
from ._functions_of_a import FunctionsOfA, Split, combine
from ._gauss_newton import Modes

MIDDLE: dict[int, float | int] = {2: 4, 3: -8}
"""Weights of φ-functions on the remainder in the middle of a step."""

END: dict[int, float | int] = {2: -1, 3: 4}
"""Weights on the remainder at its end."""

_NOISE = 1000
"""Units of rounding of the change of the field that are taken for no change."""

_WRONG = 0.5
"""Share of the change that A foresees which makes a linearization wrong."""

_COSTLY = 1.5
"""How much a wrong one may add to the error before it is replaced."""


class Trial(NamedTuple):
    """A step, as changes of the state and what A leaves of the field there.

    Attributes:
        h: Its length.
        start: The field at its start.
        to_middle: Change to its middle, the mean of two stages.
        middle: The mean of their remainders.
        to_last: Change to its last stage.
        last: The remainder there.
        change: Change to its end.
        end: The remainder there.
    """

    h: Scalar
    start: Split
    to_middle: Split
    middle: Split
    to_last: Split
    last: Split
    change: Split
    end: Split


class Verdict(NamedTuple):
    """What is found of a step.

    Attributes:
        error: Estimate of its error, of the size of h⁴.
        serves: Whether the linearization is worth keeping.
    """

    error: Split
    serves: BoolScalar


def judge(functions: FunctionsOfA, step: Trial) -> Verdict:
    """The step less its last quadrature done again, with the field at its end.

    Done under A it is the last stage against the same at the end of the step. It is
    done under (1 − ε)A, with the same values of the field, where ε is the error of A
    relative to A, along the difference between the last stage and the end.

    Args:
        functions: Functions of A.
        step: The step.

    Returns:
        The estimate, and whether a wrong A makes it large.

    Source: derived; for ε = 0 the estimate of Balac & Mahé (2013), section 3.

    Verified by:
        tests/solvers/test_exponential.py::test_estimate_sees_a_curvature_that_has_gone
    """
    h, change = step.h, step.change
    apart = combine((1, step.to_last), (-1, change))
    gap = combine((1, step.last), (-1, step.end))
    foreseen = functions.times(apart).seen
    noise = _NOISE * jnp.finfo(h.dtype).eps
    whole = functions.times(change).seen
    epsilon = {
        name: _ratio(_norm(own), _norm(foreseen[name]) + noise * _norm(whole[name]))
        for name, own in gap.seen.items()
    }
    lost = jnp.minimum(jnp.max(jnp.stack([*epsilon.values()])), 1.0)

    def under(changed: Split, remainder: Split) -> Split:
        return combine((1, remainder), (lost, functions.times(changed)))

    table = functions.over((1 - lost) * h)
    error = combine(
        (1, change),
        (-h, functions.phi(table, {1: 1}, step.start)),
        (-h, functions.phi(table, MIDDLE, under(step.to_middle, step.middle))),
        (-h, functions.phi(table, END, under(change, step.end))),
    )
    believed = combine((h, functions.phi(functions.over(h), END, gap)))
    return Verdict(error, ~_any_wrong(epsilon, error.seen, believed.seen))


def _any_wrong(epsilon: dict[str, Scalar], error: Modes, believed: Modes) -> BoolScalar:
    wrong = [
        (own > _WRONG) & (_norm(error[name]) > _COSTLY * _norm(believed[name]))
        for name, own in epsilon.items()
    ]
    return jnp.stack(wrong).any()


def _norm(v: Float[Array, "c m"]) -> Scalar:
    # With inertia only velocities are driven: how positions change is no model.
    return jnp.linalg.norm(v[-1])


def _ratio(part: Scalar, whole: Scalar) -> Scalar:
    return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1), 0)
