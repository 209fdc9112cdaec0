"""Every tolerance of the test suite, derived rather than guessed.

Round-off: a sum of n products in precision eps is wrong by at most about n·eps times
the sum of magnitudes (Higham 2002, section 3.1); random signs make sqrt(n) typical, so
`roundoff` allows a small constant times n·eps. Solvers: a result that a solver holds to
rtol is compared at a stated multiple of rtol.
"""

import numpy as np


def roundoff(terms: int, dtype: object = np.float64, *, factor: float = 4.0) -> float:
    """Relative error allowed for a sum of `terms` rounded products."""
    return float(factor * terms * np.finfo(np.dtype(dtype)).eps)


def solver(rtol: float, *, factor: float = 10.0) -> float:
    """Relative error allowed for a solution held to `rtol` at every step."""
    return factor * rtol


def standard_errors(std: float, samples: int, *, count: float = 5.0) -> float:
    """Half-width of the interval a sample mean leaves less than once in 10^6 tries."""
    return count * std / np.sqrt(samples)
