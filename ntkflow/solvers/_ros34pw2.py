"""The coefficients of ROS34PW2, a Rosenbrock method whose Jacobian need not be exact.

With increments k_i of a step h the method reads

    k_i = f(y₀ + h Σ_{j<i} α_ij k_j) + h A Σ_{j≤i} γ_ij k_j,    y₁ = y₀ + h Σ_i b_i k_i,

of order three for any matrix A. In the unknowns u_i = h Σ_j γ_ij k_j no product with A
is left but the solve:

    (I − hγA) u_i = γ (h f(y₀ + Σ_{j<i} a_ij u_j) + Σ_{j<i} c_ij u_j).
"""

from typing import NamedTuple

import numpy as np

Row = tuple[float, ...]

N_STAGES = 4
"""Stages of a step."""


class Coefficients(NamedTuple):
    """The method in the unknowns u_i, as Python numbers, which take any dtype.

    Attributes:
        gamma: γ, the diagonal of γ_ij.
        a: Row i: what u_j adds to the state of stage i.
        c: Row i: what u_j adds to the right-hand side of stage i.
        weights: y₁ − y₀ in the u_j.
        error: y₁ minus the embedded result, in the u_j.
        dense: Row p: y₀ + Σ_p θ^{p+1} Σ_j dense[p][j] u_j is the state at t₀ + θh.
    """

    gamma: float
    a: tuple[Row, ...]
    c: tuple[Row, ...]
    weights: Row
    error: Row
    dense: tuple[Row, ...]


ALPHA = np.array([
    [0.0, 0.0, 0.0, 0.0],
    [8.7173304301691801e-01, 0.0, 0.0, 0.0],
    [8.4457060015369423e-01, -1.1299064236484185e-01, 0.0, 0.0],
    [0.0, 0.0, 1.0, 0.0],
])
"""α_ij: how increments enter the states of later stages."""

GAMMA = np.array([
    [4.3586652150845900e-01, 0.0, 0.0, 0.0],
    [-8.7173304301691801e-01, 4.3586652150845900e-01, 0.0, 0.0],
    [-9.0338057013044082e-01, 5.4180672388095326e-02, 4.3586652150845900e-01, 0.0],
    [
        2.4212380706095346e-01,
        -1.2232505839045147e00,
        5.4526025533510214e-01,
        4.3586652150845900e-01,
    ],
])
"""γ_ij: how increments enter the product with A."""

WEIGHTS = np.array([
    2.4212380706095346e-01,
    -1.2232505839045147e00,
    1.5452602553351020e00,
    4.3586652150845900e-01,
])
"""b_i, of order three; the last row of α + γ, so that stiff parts end with the step."""

EMBEDDED = np.array([
    3.7810903145819369e-01,
    -9.6042292212423178e-02,
    5.0000000000000000e-01,
    2.1793326075422950e-01,
])
"""Weights of order two, also for any A."""


def dense_weights() -> np.ndarray:
    """Weights b(θ) of the state inside the step, a polynomial of degree three.

    They are the only ones of order three for the exact Jacobian, and of order two for
    any A. Built of the k_i, which the solves have damped, they stay bounded in a stiff
    step, where an interpolation through f(y₀) and f(y₁) would not.

    Returns:
        Coefficients of θ, θ² and θ³, [3, 4].

    Verified by:
        tests/solvers/test_implicit.py::test_dense_weights_hold_their_order_for_any_matrix
    Verified by:
        tests/solvers/test_implicit.py::test_dense_output_stays_bounded_inside_a_stiff_step
    """
    ones, both = np.ones(N_STAGES), ALPHA + GAMMA
    conditions = np.stack([ones, both @ ones, (ALPHA @ ones) ** 2, both @ both @ ones])
    # b(θ) times these four vectors is θ, θ²/2, θ³/3 and θ³/6.
    first, second, third, nested = np.linalg.inv(conditions).T
    return np.stack([first, second / 2, third / 3 + nested / 6])


def _in_the_unknowns() -> Coefficients:
    inverse = np.linalg.inv(GAMMA)
    gamma = float(GAMMA[0, 0])
    return Coefficients(
        gamma=gamma,
        a=_rows(np.tril(ALPHA @ inverse, -1)),
        c=_rows(np.tril(-inverse, -1)),
        weights=_row(WEIGHTS @ inverse),
        error=_row((WEIGHTS - EMBEDDED) @ inverse),
        dense=_rows(dense_weights() @ inverse),
    )


def _row(values: np.ndarray) -> Row:
    return tuple(values.tolist())


def _rows(values: np.ndarray) -> tuple[Row, ...]:
    return tuple(_row(row) for row in values)


ROS34PW2 = _in_the_unknowns()
"""The method of Rang & Angermann.

Source: Rang & Angermann (2005), table 4.
Verified by:
    tests/solvers/test_implicit.py::test_conditions_of_order_three_hold_for_any_matrix
Verified by:
    tests/solvers/test_implicit.py::test_method_is_stiffly_accurate_and_l_stable
"""
