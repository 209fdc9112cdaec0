import numpy as np
import pytest
import scipy.linalg
import scipy.special

from ntkflow.measures import (
    KernelDrift,
    Modes,
    Spectrum,
    leading_eigenpairs,
    leading_modes,
)
from ntkflow.models import DeepLinear
from ntkflow.problem import CrossEntropy

from ..tolerances import roundoff
from .snapshots import K, N, make_problem, move, read, snapshot

SIZE = N * K


def test_modes_of_a_linear_model_follow_the_prediction(key):
    problem = make_problem(
        DeepLinear(3, 2, width=1, depth=0, key=key), time_scale=0.3, test=False
    )
    first = snapshot(problem)
    matrix = np.asarray(first.kernel0).reshape(SIZE, SIZE)
    residual0 = np.asarray(first.f_train - problem.y).ravel()
    time = 0.7
    residual = scipy.linalg.expm(-0.3 * time * matrix) @ residual0
    f = residual.reshape(N, K) + np.asarray(problem.y)
    now = snapshot(problem, time=time, f_train=f)
    found = read(Modes(k=6), now, first)
    atol = roundoff(SIZE) * np.linalg.norm(residual0)
    np.testing.assert_allclose(
        found["mode_residual_initial"], found["mode_residual_predicted"], atol=atol
    )
    rates = 0.3 * np.linalg.eigvalsh(matrix)[::-1][:6]
    np.testing.assert_allclose(
        found["mode_rate_initial"], rates, atol=roundoff(SIZE) * rates[0]
    )
    # All modes that move are among the six: the norms agree as well.
    rest = np.linalg.norm(residual0) ** 2 - np.sum(
        read(Modes(k=6), first, first)["mode_residual_initial"] ** 2
    )
    np.testing.assert_allclose(
        np.sum(found["mode_residual_predicted"] ** 2) + rest,
        residual @ residual,
        rtol=roundoff(SIZE),
    )


def test_initial_components_start_nonnegative_and_keep_their_basis():
    problem = make_problem()
    first = snapshot(problem)
    start = read(Modes(k=None), first)["mode_residual_initial"]
    assert np.all(start >= 0)
    np.testing.assert_allclose(
        start, read(Modes(k=None), first)["mode_residual_predicted"], rtol=0, atol=0
    )
    mirrored = snapshot(problem, f_train=2 * problem.y - first.f_train)
    flipped = read(Modes(k=None), mirrored, first)["mode_residual_initial"]
    np.testing.assert_allclose(flipped, -start, atol=roundoff(SIZE) * start.max())


@pytest.mark.parametrize("k", [3, SIZE, None])
def test_current_components_match_dense_eigenvectors(k):
    problem = make_problem(time_scale=2.0)
    params = move(problem)
    now = snapshot(problem, params, 0.4)
    values, vectors = np.linalg.eigh(np.asarray(now.kernel).reshape(SIZE, SIZE))
    residual = np.asarray(now.f_train - problem.y).ravel()
    found = read(Modes(k=k), now, snapshot(problem))
    count = SIZE if k is None else k
    gap = np.min(np.diff(values)) / values[-1]
    np.testing.assert_allclose(
        found["mode_rate_current"],
        2 * values[::-1][:count],
        atol=roundoff(SIZE) * 2 * values[-1],
    )
    # An eigenvector turns by (round-off)/(gap to its neighbor).
    np.testing.assert_allclose(
        found["mode_residual_current"],
        np.abs(residual @ vectors[:, ::-1])[:count],
        atol=roundoff(SIZE) / gap * np.linalg.norm(residual),
    )


@pytest.mark.parametrize(
    "problem",
    [
        make_problem(y=np.array([0, 1, 1, 0, 1]), loss=CrossEntropy(), test=False),
        make_problem(decay=0.1),
    ],
    ids=["cross-entropy", "decay"],
)
def test_prediction_is_left_out_where_it_would_not_hold(problem):
    assert "mode_residual_predicted" not in Modes(3).variables(problem)
    assert "mode_residual_predicted" not in read(Modes(3), snapshot(problem))


def test_residual_of_another_loss_is_its_output_gradient():
    labels = np.array([0, 1, 1, 0, 1])
    problem = make_problem(y=labels, loss=CrossEntropy(), test=False)
    now = snapshot(problem)
    logits = np.asarray(now.f_train)
    gradient = scipy.special.softmax(logits, axis=1) - np.eye(K)[labels]
    found = read(Modes(k=None), now)["mode_residual_current"]
    # In a whole eigenbasis the components have the gradient's norm.
    np.testing.assert_allclose(
        np.sum(found**2), np.sum(gradient**2), rtol=roundoff(SIZE)
    )


@pytest.mark.parametrize("k_shared", [3, 5, 8])
def test_one_eigen_solve_serves_all_who_read_modes(k_shared):
    # More pairs than asked for are cut, fewer are not made do with.
    problem = make_problem()
    first, alone = snapshot(problem), snapshot(problem, move(problem), 0.4)
    pairs = leading_eigenpairs(alone.kernel, k_shared)
    # Doubled, so that a reader of them is known by what it reads.
    marked = (2 * pairs[0], pairs[1])
    shared = snapshot(problem, move(problem), 0.4, eigenpairs=marked)
    factor = 2 if k_shared >= 5 else 1
    for measure, name in ((Spectrum(5), "spectrum"), (Modes(5), "mode_rate_current")):
        expected = read(measure, alone, first)[name]
        found = read(measure, shared, first)[name]
        assert found.shape == (5,)
        np.testing.assert_allclose(found, factor * expected, rtol=roundoff(SIZE))


def test_one_solve_covers_the_largest_number_of_modes():
    assert leading_modes([KernelDrift(), Spectrum(4), Modes(7)]) == 7
    assert leading_modes([Spectrum(None), Modes(2)]) == 2
    assert leading_modes([KernelDrift(), Spectrum(None)]) == 0
