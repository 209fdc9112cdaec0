import numpy as np
import pytest
import scipy.linalg

from ntkflow.measures import EnergyDefect
from ntkflow.models import DeepLinear

from ..tolerances import roundoff
from .snapshots import K, N, make_problem, read, snapshot


@pytest.mark.parametrize("dissipated", [0.3, 5.0])
def test_defect_matches_its_formula(dissipated):
    problem = make_problem()
    first = snapshot(problem, kernel=None, kernel0=None, energy=4.0)
    now = snapshot(
        problem, kernel=None, kernel0=None, energy=1.5, quadrature=dissipated
    )
    found = read(EnergyDefect(), now, first)["energy_defect"]
    np.testing.assert_allclose(
        found, abs(1.5 - 4.0 + dissipated) / 4.0, rtol=roundoff(3)
    )


def test_exact_flow_has_no_defect(key):
    # L = ½|r|² with ṙ = −cHr: c∫|∇L|² = ½ r₀ᵀ(I − e^{−2cHt})r₀.
    c, time = 0.2, 0.9
    problem = make_problem(
        DeepLinear(3, K, width=1, depth=0, key=key), time_scale=c, test=False
    )
    first = snapshot(problem)
    matrix = np.asarray(first.kernel0).reshape(N * K, N * K)
    r0 = np.asarray(first.f_train - problem.y).ravel()
    decay = scipy.linalg.expm(-2 * c * time * matrix)
    now = snapshot(
        problem,
        time=time,
        energy=float(0.5 * r0 @ decay @ r0),
        quadrature=float(0.5 * r0 @ (np.eye(N * K) - decay) @ r0),
    )
    assert read(EnergyDefect(), now, first)["energy_defect"] <= roundoff(N * K)
