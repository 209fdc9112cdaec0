import numpy as np
import scipy.linalg

from ntkflow.measures import LambdaMin, loss_bound

from ..tolerances import roundoff
from .snapshots import K, N, make_problem, random_kernel, read, snapshot

SIZE = N * K


def test_lambda_min_is_the_smallest_eigenvalue():
    kernel = random_kernel()
    values = np.linalg.eigvalsh(kernel.reshape(SIZE, SIZE))
    found = read(LambdaMin(), snapshot(make_problem(), kernel=kernel))["lambda_min"]
    np.testing.assert_allclose(found, values[0], atol=roundoff(SIZE) * values[-1])


def test_loss_stays_below_its_bound():
    # ṙ = −cH(t)r with H(t) = H₀/(1 + t), solved by r = (1 + t)^{−cH₀} r₀.
    time, c = np.linspace(0, 3, 31), 0.05
    matrix = random_kernel().reshape(SIZE, SIZE)
    values, vectors = np.linalg.eigh(matrix)
    for r0, is_slowest in ((np.ones(SIZE), False), (vectors[:, 0], True)):
        paths = [scipy.linalg.expm(-c * matrix * np.log1p(t)) @ r0 for t in time]
        loss = np.array([0.5 * r @ r for r in paths])
        bound = np.asarray(loss_bound(values[0] / (1 + time), time, loss[0], c))
        assert np.all(loss <= bound * (1 + roundoff(SIZE)))
        if is_slowest:
            # With a constant kernel the slowest mode attains it.
            constant = loss_bound(np.full(31, values[0]), time, loss[0], c)
            exact = loss[0] * np.exp(-2 * c * values[0] * time)
            np.testing.assert_allclose(constant, exact, rtol=roundoff(SIZE))


def test_bound_uses_the_least_eigenvalue_so_far():
    lambda_min = np.array([2.0, 3.0, 0.5, 4.0, -1e-17])
    time = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    expected = 7.0 * np.exp(-2 * 0.3 * np.array([2.0, 2.0, 0.5, 0.5, 0.0]) * time)
    bound = loss_bound(lambda_min, time, 7.0, 0.3)
    np.testing.assert_allclose(bound, expected, rtol=roundoff(4))
