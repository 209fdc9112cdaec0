"""The coefficients of ROCK4, computed from its construction.

Its stability polynomial of degree s is R(z) = w(z) P(z), where w has degree four and no
real zero, and P, of degree n = s − 4, is one of the polynomials orthogonal with weight
w(x)²/√(1 − x²) on the interval −1 ≤ x = a + d z ≤ 1. Such a product oscillates between
nearly equal extremes, ±0.8 here: the zeros of w, a and d are those for which
R(z) = eᶻ + O(z⁵), and the extremes at both ends are 0.8.

A step is composed of two: n stages by the recurrence of the orthogonal polynomials, and
then four whose own stability polynomial is w and whose other coefficients make the
whole of order four.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.polynomial import polynomial

DEGREES = (
    *range(5, 17), 18, 20, 22, 24, 26, 28, 30, 33, 36, 39, 42, 45, 48, 52, 56, 60, 65,
    70, 75, 81, 87, 94, 101,
)  # fmt: skip
"""Numbers of stages s that a step may have.

The last stages multiply what the first left by w, and its rounding with it: by 1.6e12
at the end of the interval for s = 101, where 2⁻⁵³ becomes 1.7e-4.
"""

N_LAST = 4
"""Stages of the second part of a step."""

_WEIGHT = (
    (-2.527925, 0.130086, -0.001758, 0.000299, -1.3e-05),
    (1.334975, -0.048255, -0.002103, -0.000109, -1.8e-05),
    (-0.303993, 0.066314, -0.015316, 0.001289, -6.4e-05),
    (3.619484, -0.20991, 0.004764, 0.000315, -4.5e-05),
    (26.608425, 2.943219, 0.294469, 0.052334, -0.000424),
    (5.824947, 1.256264, 0.202603, 0.008905, 0.007674),
)
"""Re z₁, Im z₁, Re z₂, Im z₂, s²(a − 1) and s²d, as polynomials in (10/s)².

The zeros of w in the upper half-plane, and the interval. They were found for each s by
Newton's method on the four conditions of order and the two on the extremes, and fitted
to four digits. The order does not depend on them: w is computed anew from P.
"""

_ABSCISSAE = 0.3, 0.57
"""c₂ and c₃ of the second part, over its length: free, and chosen for small errors."""

_ERROR_SIZE = 1 / 16
"""Of the estimate, over h⁴y⁗/24: what makes errors about as large as asked for."""

_EXPONENTIAL = np.array([1, 1, 1 / 2, 1 / 6, 1 / 24])

Trees = Float[np.ndarray, " 8"]
"""Elementary weights of τ, [τ], [τ²], [[τ]], [τ³], [τ[τ]], [[τ²]] and [[[τ]]]."""

EXACT = 1 / np.array([1.0, 2.0, 3.0, 6.0, 4.0, 8.0, 12.0, 24.0])
"""Those of the solution at the end of a step."""


class Recurrence(NamedTuple):
    """P_j(z) = (μ_j z + 1 + κ_j) P_{j−1}(z) − κ_j P_{j−2}(z), with P₀ = 1 and κ₁ = 0.

    Attributes:
        mu: μ_j, from j = 1.
        kappa: κ_j.
        reach: The length of the interval −reach ≤ z ≤ 0 in which w P is stable.
    """

    mu: Float[np.ndarray, " n"]
    kappa: Float[np.ndarray, " n"]
    reach: float


class Last(NamedTuple):
    """The second part: four stages with slopes k_i from the state g that P leaves.

    What a step yields beside its end is combined from y₀ − g and h k_i, five in all.

    Attributes:
        a: Stage i is at g + h Σ_j a_ij k_j.
        b: The step ends at g + h Σ_i b_i k_i.
        c: Where in the step each stage lies.
        error: The combination that is an error of order h⁴.
        dense: Row p: y₀ + Σ_p θ^{p+1} times that combination is the state at t₀ + θh.
    """

    a: Float[np.ndarray, "4 4"]
    b: Float[np.ndarray, " 4"]
    c: Float[np.ndarray, " 4"]
    error: Float[np.ndarray, " 5"]
    dense: Float[np.ndarray, "4 5"]


class Table(NamedTuple):
    """Coefficients of all degrees; those of the first parts one after another.

    Attributes:
        degree: s.
        reach: The length of the stable interval.
        start: Where those of the first part begin.
        mu: μ_j.
        kappa: κ_j.
        time: Where in the step the slope is taken that μ_j multiplies.
        last: Those of the second part, stacked.
    """

    degree: Int[np.ndarray, " degrees"]
    reach: Float[np.ndarray, " degrees"]
    start: Int[np.ndarray, " degrees"]
    mu: Float[np.ndarray, " all"]
    kappa: Float[np.ndarray, " all"]
    time: Float[np.ndarray, " all"]
    last: Last


def find_recurrence(degree: int) -> Recurrence:
    """The orthogonal polynomials, by the procedure of Stieltjes.

    Args:
        degree: s.

    Returns:
        Their recurrence, s − 4 steps of it.

    Source: Abdulle (2002), section 2; Gautschi (2004), section 2.2.3.1.
    Verified by:
        tests/solvers/test_rock4.py::test_polynomial_is_bounded_in_its_interval
    """
    real1, imag1, real2, imag2, beyond, scale = (
        float(polynomial.polyval((10 / degree) ** 2, fit)) for fit in _WEIGHT
    )
    a, d, n = 1 + beyond / degree**2, scale / degree**2, degree - N_LAST
    # Gauss and Chebyshev's nodes integrate x P_n² w² exactly.
    nodes = n + N_LAST + 2
    x = np.cos((np.arange(nodes) + 0.5) * np.pi / nodes)
    z = (x - a) / d
    w = ((z - real1) ** 2 + imag1**2) * ((z - real2) ** 2 + imag2**2)
    weight = w**2 / np.sum(w**2)
    before, now = np.zeros(nodes), np.ones(nodes)
    last_norm, ratio = 1.0, 1.0
    mu, kappa = np.zeros(n), np.zeros(n)
    for j in range(n):
        # Monic polynomials p_j over their values at z = 0: ratio is p_j(0)/p_{j−1}(0).
        norm = np.sum(weight * now**2)
        mean = np.sum(weight * x * now**2) / norm
        coupling = ratio * norm / last_norm if j else 0.0
        ratio = a - mean - coupling
        before, now = now, ((x - mean) * now - coupling * before) / ratio
        last_norm, mu[j], kappa[j] = norm, d / ratio, coupling / ratio
    return Recurrence(mu, kappa, (1 + a) / d)


def slope_trees(state: Trees) -> Trees:
    """The weights of hf(y), from those of y.

    Args:
        state: The weights of a stage's state.

    Returns:
        The weights of its slope.

    Source: Hairer, Nørsett & Wanner (1993), theorem II.2.11.
    """
    one, two, bush, tall = state[:4]
    return np.array([1.0, one, one**2, two, one**3, one * two, bush, tall])


def first_trees(recurrence: Recurrence) -> Float[np.ndarray, "n_plus_one 8"]:
    """The weights of every state of the first part.

    Args:
        recurrence: Its coefficients.

    Returns:
        A row a state, the first of which is the step's start.
    """
    states = [np.zeros(8), np.zeros(8)]
    for mu, kappa in zip(recurrence.mu, recurrence.kappa, strict=True):
        before, now = states[-2:]
        states.append(mu * slope_trees(now) + (1 + kappa) * now - kappa * before)
    return np.stack(states[1:])


def last_stages(start: Trees) -> Last:
    """The second part of a step, which makes it of order four.

    Its eight conditions are those on the trees with every weight of the first part
    brought to the right-hand side. c₂ and c₃ are free; c₄ follows, as does all else.

    Args:
        start: The weights of the state that the first part leaves.

    Returns:
        The coefficients.

    Source: Abdulle (2002), section 3.
    Verified by: tests/solvers/test_rock4.py::test_every_degree_is_of_order_four
    """
    one, two, bush, _, bush3, mixed, stem, _ = start
    taylor = np.array([1.0, *start[[0, 1, 3, 7]]])
    w = np.zeros(5)
    for k in range(5):
        w[k] = _EXPONENTIAL[k] - w[:k] @ taylor[k:0:-1]
    w1, w2, w3, w4 = w[1:]
    # Σ b c², Σ b c³, Σ b c Ac and Σ b A c².
    bc2 = EXACT[2] - bush - one**2 * w1 - 2 * one * w2
    bc3 = EXACT[4] - bush3 - one**3 * w1 - 3 * one**2 * w2 - 3 * one * bc2
    product = two * w1 + one * w2 + w3
    bcac = EXACT[5] - mixed - one * product - two * w2 - one * bc2
    bac2 = EXACT[6] - stem - bush * w1 - one**2 * w2 - 2 * one * w3
    c2, c3 = (w1 * share for share in _ABSCISSAE)
    rest = bac2 - c2 * w3
    c4 = (rest * bcac - w4 * (bc3 - c2 * bc2)) / (rest * w3 - w4 * (bc2 - c2 * w2))
    powers = np.array([[c2, c3, c4], [c2**2, c3**2, c4**2], [c2**3, c3**3, c4**3]])
    b2, b3, b4 = np.linalg.solve(powers, [w2, bc2, bc3])
    inner3, inner4 = np.linalg.solve([[b3, b4], [b3 * c3, b4 * c4]], [w3, bcac])
    a32, a43 = inner3 / c2, rest / (b4 * c3 * (c3 - c2))
    a42 = (inner4 - a43 * c3) / c2
    a = np.zeros((4, 4))
    a[1, 0], a[2, :2], a[3, :3] = c2, (c3 - a32, a32), (c4 - a42 - a43, a42, a43)
    b = np.array([w1 - b2 - b3 - b4, b2, b3, b4])
    slopes = np.zeros((0, 8))
    for i, row in enumerate(a):
        slopes = np.vstack([slopes, slope_trees(start + row[:i] @ slopes)])
    error, dense = _embedded(start, slopes)
    return Last(a, b, one + np.array([0, c2, c3, c4]), error, dense)


def _embedded(
    start: Trees, slopes: Float[np.ndarray, "4 8"]
) -> tuple[Float[np.ndarray, " 5"], Float[np.ndarray, "4 5"]]:
    """The error estimate and the dense output, from y₀ − g and the last slopes."""
    # Slopes at the ends would enter both with a factor hρ on whatever a step left along
    # stiff directions; these five are bounded there, as the step is. They meet the four
    # conditions of order three and leave one combination free, which is the estimate.
    # Dense output uses it to meet those of order four on average.
    trees = np.vstack([-start, slopes]) / EXACT
    free = np.linalg.svd(trees[:, :4].T)[2][4]
    error = _ERROR_SIZE * free / (free @ trees[:, 7])
    conditions = np.column_stack([trees[:, :4], trees[:, 4:].mean(axis=1)])
    # A tree of order q has the weight θ^q/γ inside a step: row p is for θ^{p+1}.
    powers = np.eye(4)[:, [0, 1, 2, 2, 3]]
    return error, np.linalg.solve(conditions.T, powers.T).T


@functools.cache
def tabulate() -> Table:
    """The coefficients of every degree.

    Returns:
        Them, as arrays to take rows of.
    """
    recurrences = [find_recurrence(degree) for degree in DEGREES]
    trees = [first_trees(one) for one in recurrences]
    last = [last_stages(rows[-1]) for rows in trees]
    lengths = [len(one.mu) for one in recurrences]
    return Table(
        np.asarray(DEGREES, np.int32),
        np.asarray([one.reach for one in recurrences]),
        np.cumsum([0, *lengths[:-1]]).astype(np.int32),
        np.concatenate([one.mu for one in recurrences]),
        np.concatenate([one.kappa for one in recurrences]),
        np.concatenate([rows[:-1, 0] for rows in trees]),
        Last(*(np.stack(parts) for parts in zip(*last, strict=True))),
    )
