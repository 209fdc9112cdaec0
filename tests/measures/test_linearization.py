import numpy as np
import pytest

from ntkflow.measures import LinearizationGap
from ntkflow.problem import CrossEntropy

from ..tolerances import roundoff
from .snapshots import K, N, make_problem, read, snapshot


def loop_rms(values: np.ndarray) -> float:
    total = 0.0
    for value in values.ravel().tolist():
        total += value**2
    return (total / values.size) ** 0.5


def test_gap_matches_the_loop():
    problem = make_problem()
    rng = np.random.default_rng(5)
    linear, linear_test = rng.normal(size=(N, K)), rng.normal(size=(4, K))
    now = snapshot(problem, linearized=linear, linearized_test=linear_test)
    found = read(LinearizationGap(), now)
    unit = loop_rms(np.asarray(problem.y))
    np.testing.assert_allclose(
        found["linearization_gap"],
        loop_rms(np.asarray(now.f_train) - linear) / unit,
        rtol=roundoff(N * K),
    )
    np.testing.assert_allclose(
        found["linearization_gap_test"],
        loop_rms(np.asarray(now.f_test) - linear_test) / unit,
        rtol=roundoff(N * K),
    )
    assert set(found) == set(LinearizationGap().variables(problem))


def test_gap_of_label_targets_is_in_units_of_onehot_rows():
    problem = make_problem(y=np.array([0, 1, 1, 0, 1]), loss=CrossEntropy(), test=False)
    now = snapshot(problem, linearized=np.zeros((N, K)))
    found = read(LinearizationGap(), now)
    assert set(found) == set(LinearizationGap().variables(problem))
    expected = loop_rms(np.asarray(now.f_train)) * np.sqrt(K)
    np.testing.assert_allclose(
        found["linearization_gap"], expected, rtol=roundoff(N * K)
    )


def test_gap_without_a_linearized_flow_names_the_remedy():
    now = snapshot(make_problem())
    with pytest.raises(ValueError, match=r"Add nf\.flows\.Linearized"):
        read(LinearizationGap(), now)
