"""What of a tolerance a single step may take, and what the dtype can hold of it."""

import diffrax as dfx
import numpy as np

from ..solvers import Chebyshev, Explicit

_ADDS_UP_BELOW = 1e-2
"""Tolerance from which the errors of a second-order method's steps add up."""

_EXPLICIT_AT_MOST = 2e-3
"""Tolerance above which an explicit method at its limit of stability is off by ten."""


def local_share(solver: dfx.AbstractSolver, rtol: float) -> float:
    """The part of the tolerance that one step may take, so that all keep it.

    Steps of a method of order p that are controlled by its own error, of order p + 1,
    grow in number as rtol^(−1/(p+1)), and their errors add up to rtol^(p/(p+1)).
    Methods that go on with the better of two solutions have no such loss.

    At a loose tolerance a step of an explicit method keeps going out of its limit of
    stability and back, and what it leaves in the stiff modes adds up to ten times the
    tolerance, at more steps than a tighter one takes.

    Args:
        solver: The solver.
        rtol: Relative tolerance asked for.

    Returns:
        A factor of the tolerances, at most one.

    Source: Söderlind & Wang (2006), on tolerance proportionality.
    Verified by:
        tests/simulate/test_stiff.py::test_outputs_are_within_three_tolerances
        tests/simulate/test_stiff.py::test_loose_tolerances_hold_at_the_limit_of_stability
    """
    if isinstance(solver, Explicit | dfx.AbstractERK):
        return min(1.0, _EXPLICIT_AT_MOST / rtol)
    if not isinstance(solver, Chebyshev):
        return 1.0
    return min(1.0, (rtol / _ADDS_UP_BELOW) ** 0.5)


def loosest(solver: dfx.AbstractSolver) -> float:
    """The loosest relative tolerance of a step at which a method's errors make sense.

    Args:
        solver: The solver.

    Returns:
        A tolerance. Looser ones take no fewer steps of an explicit method at its limit
        of stability, and their errors are out of proportion.
    """
    if isinstance(solver, Explicit | dfx.AbstractERK):
        return 5 * _EXPLICIT_AT_MOST
    return 0.1


def check_tolerances(rtol: float, atol: float, dtype: np.dtype) -> None:
    """Refuses tolerances that the dtype cannot hold.

    Args:
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        dtype: The state's dtype.

    Raises:
        ValueError: If rtol is below eight units of rounding, or one is not positive.
    """
    if not (rtol > 0 and atol > 0):
        raise ValueError(f"rtol and atol must be positive, got {rtol} and {atol}.")
    reach = 8 * float(np.finfo(dtype).eps)
    if rtol < reach:
        raise ValueError(
            f"rtol={rtol:g} is below what {dtype} can hold (about {reach:.1g}): loosen "
            "it, or use float64 with jax.config.update('jax_enable_x64', True) and a "
            "float64 model."
        )
