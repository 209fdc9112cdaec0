import jax.numpy as jnp
import numpy as np
import pytest

from ntkflow.measures import Alignment
from ntkflow.models import MLP
from ntkflow.problem import CrossEntropy

from ..tolerances import roundoff
from .snapshots import IN, K, N, make_problem, random_kernel, read, snapshot

TOLERANCE = roundoff((N * K) ** 2)


def dense_alignments(kernel: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Both definitions from whole matrices."""
    n, k = y.shape
    matrix, target = kernel.reshape(n * k, n * k), np.outer(y.ravel(), y.ravel())
    centering = np.kron(np.eye(n) - np.full((n, n), 1 / n), np.eye(k))

    def cosine(a, b):
        return np.trace(a.T @ b) / (np.linalg.norm(a) * np.linalg.norm(b))

    return cosine(matrix, target), cosine(
        centering @ matrix @ centering, centering @ target @ centering
    )


def alignments(problem, kernel):
    values = read(Alignment(), snapshot(problem, kernel=kernel, kernel0=None))
    return values["alignment"], values["alignment_centered"]


@pytest.mark.parametrize("seed", range(3))
def test_alignment_matches_dense_matrices(seed):
    problem, kernel = make_problem(), random_kernel(seed=seed)
    expected = dense_alignments(kernel, np.asarray(problem.y))
    np.testing.assert_allclose(alignments(problem, kernel), expected, rtol=TOLERANCE)


def test_alignment_of_one_output_is_the_classical_one(key):
    problem = make_problem(MLP(IN, 1, width=3, depth=1, key=key))
    kernel = random_kernel(k=1)
    matrix, y = kernel[:, 0, :, 0], np.asarray(problem.y)[:, 0]
    classical = y @ matrix @ y / (y @ y * np.linalg.norm(matrix))
    np.testing.assert_allclose(
        alignments(problem, kernel)[0], classical, rtol=TOLERANCE
    )


def test_alignment_ignores_the_scale_of_kernel_and_targets():
    y = np.asarray(make_problem().y)
    kernel = random_kernel()
    np.testing.assert_allclose(
        alignments(make_problem(y=-7.0 * y, test=False), 0.01 * kernel),
        alignments(make_problem(y=y, test=False), kernel),
        rtol=TOLERANCE,
    )


def test_kernel_of_the_targets_is_perfectly_aligned():
    problem = make_problem()
    y = np.asarray(problem.y)
    kernel = np.einsum("ik,jl->ikjl", y, y)
    np.testing.assert_allclose(alignments(problem, kernel), 1.0, rtol=TOLERANCE)


def test_centered_alignment_ignores_a_constant_offset():
    problem, kernel = make_problem(), random_kernel()
    offset = np.broadcast_to(
        np.array([[5.0, 1.0], [1.0, 3.0]])[None, :, None, :], kernel.shape
    )
    _, before = alignments(problem, kernel)
    _, after = alignments(problem, kernel + offset)
    np.testing.assert_allclose(after, before, rtol=TOLERANCE)


def test_independent_outputs_reach_one_over_root_k():
    w = np.arange(1.0, N + 1)
    y = np.outer(w, [1.0, -2.0])
    problem = make_problem(y=y, test=False)
    kernel = np.einsum("ij,kl->ikjl", np.outer(w, w), np.eye(K))
    np.testing.assert_allclose(
        alignments(problem, kernel)[0], 1 / np.sqrt(K), rtol=TOLERANCE
    )


def test_labels_count_as_onehot_rows():
    labels = np.array([0, 1, 1, 0, 1])
    by_label = make_problem(y=labels, loss=CrossEntropy(), test=False)
    by_row = make_problem(y=np.eye(K)[labels], loss=CrossEntropy(), test=False)
    kernel = random_kernel()
    np.testing.assert_array_equal(
        alignments(by_label, kernel), alignments(by_row, kernel)
    )


def test_one_number_an_example_is_a_row_of_one_output(key):
    def loss(f, y):
        return 0.5 * jnp.sum((f - y.astype(f.dtype)) ** 2)

    counts, kernel = np.array([0, 3, 1, 7, 2]), random_kernel(k=1)
    model = MLP(IN, 1, width=4, depth=1, key=key)
    rows = make_problem(model, y=counts[:, None] * 1.0, test=False)
    for y in (counts, counts * 1.0):
        problem = make_problem(model, y=y, loss=loss, test=False)
        np.testing.assert_array_equal(
            alignments(problem, kernel), alignments(rows, kernel)
        )


def test_targets_that_are_no_rows_are_refused():
    problem = make_problem(
        y=np.zeros((N, 3, 3)), loss=lambda f, y: jnp.sum(f) * jnp.sum(y), test=False
    )
    with pytest.raises(ValueError, match="Leave out Alignment"):
        Alignment().variables(problem)


@pytest.mark.parametrize("wrong", [-1, K])
def test_labels_that_are_no_class_are_refused_before_the_run(wrong):
    labels = np.array([0, 1, wrong, 0, 1])
    # A loss of the caller's may know what to do with such labels.
    problem = make_problem(y=labels, loss=lambda f, y: f[y])
    with pytest.raises(ValueError, match="labels from 0 to"):
        Alignment().variables(problem)
