import numpy as np
import pytest

from ntkflow.measures import KernelRegression
from ntkflow.models import MLP
from ntkflow.problem import CrossEntropy, Hinge
from ntkflow.theory import kernel_ridge

from ..tolerances import roundoff
from .snapshots import IN, K, N, make_problem, random_kernel, read, snapshot, trace_of

LABELS = np.array([0, 1, 1, 0, 1])


def kernels(problem, seed=0):
    """A kernel of training and test examples together, and the moment that has it."""
    whole = random_kernel(N + 4, K, seed=seed)
    train, cross = whole[:N, :, :N], whole[N:, :, :N]
    now = snapshot(
        problem, kernel=train, kernel_test=cross, kernel_test_trace=trace_of(cross)
    )
    return train, cross, now


@pytest.mark.parametrize("outputs", ["full", "trace"])
@pytest.mark.parametrize("labels", [False, True])
def test_predictions_are_those_of_kernel_ridge(outputs, labels):
    options = (
        {"y": LABELS, "loss": CrossEntropy()} if labels else {"y": np.eye(K)[LABELS]}
    )
    problem = make_problem(**options)
    train, cross, now = kernels(problem)
    y, end = np.eye(K)[LABELS], ""
    if outputs == "trace":
        train, cross, end = trace_of(train), trace_of(cross), "_trace"
    size = N if outputs == "trace" else N * K
    ridge = 0.1 * np.trace(train.reshape(size, size)) / size
    f = kernel_ridge(
        train, y, ridge, ntk_test_train=cross, f0_test=np.zeros((4, K)),
        f0_train=np.zeros((N, K)),
    ).test  # fmt: skip
    f = np.asarray(f)
    found = read(KernelRegression(0.1, outputs), now)
    miss = np.sqrt(np.mean((f - y[:4]) ** 2) / np.mean(y[:4] ** 2))
    np.testing.assert_allclose(
        found[f"kernel_regression_error{end}"], miss, rtol=roundoff(10 * size**2)
    )
    right = np.mean(np.argmax(f, 1) == LABELS[:4])
    assert found[f"kernel_regression_accuracy{end}"] == right


def test_kernel_of_the_targets_classifies_every_example():
    y = np.eye(K)[LABELS]
    problem = make_problem(y=y)
    gram = np.einsum("ij,kl->ikjl", y @ y.T, np.eye(K))
    now = snapshot(
        problem, kernel=gram, kernel_test=gram[:4], kernel_test_trace=K * (y @ y.T)[:4]
    )
    for outputs, end in (("full", ""), ("trace", "_trace")):
        found = read(KernelRegression(1e-6, outputs), now)
        assert found[f"kernel_regression_accuracy{end}"] == 1
        # Ridge 1e-6 of the mean eigenvalue, which is at most the least nonzero one.
        assert found[f"kernel_regression_error{end}"] <= 1e-6


def test_single_outputs_are_classified_by_their_sign(key):
    y = np.where(LABELS, 1.0, -1.0)[:, None]
    problem = make_problem(MLP(IN, 1, 3, 1, key=key), y=y, loss=Hinge())
    gram = (y @ y.T)[:, None, :, None]
    now = snapshot(problem, kernel=gram, kernel_test=-gram[:4])
    assert read(KernelRegression(), now)["kernel_regression_accuracy"] == 0


def test_kernel_that_is_no_number_has_no_accuracy():
    problem = make_problem(y=np.eye(K)[LABELS])
    _, cross, now = kernels(problem)
    bad = snapshot(problem, kernel=np.full((N, K, N, K), np.nan), kernel_test=cross)
    found = read(KernelRegression(), bad)
    assert all(np.isnan(value) for value in found.values())
    assert all(np.isfinite(v) for v in read(KernelRegression(), now).values())


def test_regressions_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="the problem has none"):
        KernelRegression().variables(make_problem(test=False))
    with pytest.raises(ValueError, match="`ridge` must be a positive"):
        KernelRegression(0)
    rows = KernelRegression().variables(make_problem())
    assert set(rows) == {"kernel_regression_error"}
