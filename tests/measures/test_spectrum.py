import numpy as np
import pytest

from ntkflow.measures import EffectiveRank, Modes, Spectrum

from ..tolerances import roundoff
from .snapshots import K, N, make_problem, random_kernel, read, snapshot

SIZE = N * K


@pytest.fixture(scope="module")
def problem():
    return make_problem()


@pytest.mark.parametrize("k", [1, 4, SIZE, None])
def test_spectrum_matches_dense_eigenvalues(k, problem):
    kernel = random_kernel()
    expected = np.linalg.eigvalsh(kernel.reshape(SIZE, SIZE))[::-1]
    found = read(Spectrum(k), snapshot(problem, kernel=kernel))["spectrum"]
    np.testing.assert_allclose(
        found, expected[: k or SIZE], atol=roundoff(SIZE) * expected[0]
    )


@pytest.mark.parametrize("rank", [1, 3, SIZE])
def test_effective_rank_counts_equal_eigenvalues(rank, problem):
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(SIZE, SIZE)))[0]
    kernel = 2.5 * basis[:, :rank] @ basis[:, :rank].T
    now = snapshot(problem, kernel=kernel.reshape(N, K, N, K))
    found = read(EffectiveRank(), now)["effective_rank"]
    np.testing.assert_allclose(found, rank, rtol=roundoff(SIZE**2))


def test_effective_rank_is_the_participation_ratio_of_the_spectrum(problem):
    kernel = random_kernel()
    values = np.linalg.eigvalsh(kernel.reshape(SIZE, SIZE))
    expected = values.sum() ** 2 / (values**2).sum()
    found = read(EffectiveRank(), snapshot(problem, kernel=kernel))["effective_rank"]
    np.testing.assert_allclose(found, expected, rtol=roundoff(SIZE**2))


@pytest.mark.parametrize("measure", [Spectrum, Modes])
@pytest.mark.parametrize("k", [0, -1, True])
def test_count_of_modes_that_is_no_positive_integer_is_refused(measure, k):
    with pytest.raises(ValueError, match="must be a positive integer"):
        measure(k)


@pytest.mark.parametrize("measure", [Spectrum, Modes])
def test_more_modes_than_the_kernel_has_are_refused(measure, problem):
    with pytest.raises(ValueError, match=f"has {SIZE}. Use k={SIZE}"):
        measure(SIZE + 1).variables(problem)
