import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from ntkflow.models import MLP
from ntkflow.problem import CrossEntropy, Hinge, Problem, SquaredError
from tests.tolerances import roundoff


@pytest.fixture
def f(key):
    return jax.random.normal(key, (6, 4))


def problem(y, loss, key):
    x = jax.random.normal(key, (6, 3))
    model = MLP(3, 4, width=5, depth=1, key=key)
    return Problem(model, x, y, loss=loss)


def test_output_gradient_of_squared_error_is_the_residual(f, key):
    y = jax.random.normal(jax.random.fold_in(key, 1), (6, 4))
    gradient = problem(y, SquaredError(), key).output_gradient(f, y)
    np.testing.assert_allclose(gradient, f - y, rtol=roundoff(1))


def test_squared_error_is_half_the_sum_of_squares(f, key):
    y = np.ones((6, 4))
    loss = problem(y, SquaredError(), key).loss_of(f, jnp.asarray(y))
    expected = 0.5 * np.sum((np.asarray(f) - y) ** 2)
    np.testing.assert_allclose(loss, expected, rtol=roundoff(24))


def test_cross_entropy_of_labels_equals_that_of_onehot_rows(f, key):
    labels = np.array([0, 3, 1, 2, 2, 0])
    rows = np.eye(4)[labels]
    by_label = problem(labels, CrossEntropy(), key)
    by_row = problem(rows, CrossEntropy(), key)
    expected = np.sum(logsumexp(f, axis=1) - np.asarray(f)[np.arange(6), labels])
    for posed in (by_label, by_row):
        loss = posed.loss_of(f, posed.y)
        np.testing.assert_allclose(loss, expected, rtol=roundoff(24))
    softmax = np.exp(f - logsumexp(f, axis=1, keepdims=True))
    np.testing.assert_allclose(
        by_label.output_gradient(f, by_label.y), softmax - rows, atol=roundoff(4)
    )


def test_hinge_is_zero_beyond_the_margin(key):
    y = np.array([[1.0, -1, -1, -1]] * 6)
    hinge = problem(y, Hinge(), key)
    assert hinge.loss_of(2 * hinge.y, hinge.y) == 0
    assert hinge.loss_of(jnp.zeros((6, 4)), hinge.y) == 24
    gradient = hinge.output_gradient(0.5 * hinge.y, hinge.y)
    np.testing.assert_array_equal(gradient, -y)


def test_a_callable_of_one_example_is_a_loss(f, key):
    y = np.zeros((6, 4))
    quartic = problem(y, lambda f, y: jnp.sum((f - y) ** 4), key)
    expected = 4 * np.asarray(f) ** 3
    np.testing.assert_allclose(
        quartic.output_gradient(f, quartic.y), expected, rtol=roundoff(4)
    )
    assert quartic.accuracy(f, quartic.y) is None


@pytest.mark.parametrize(
    ("loss", "y", "message"),
    [
        (SquaredError(), np.zeros(6), r"\[N, 4\]"),
        (SquaredError(), np.zeros((6, 3)), r"\[N, 4\]"),
        (CrossEntropy(), np.array([0, 1, 2, 3, 4, 0]), "labels from 0 to 4"),
        (CrossEntropy(), np.full((6, 4), 0.3), 'targets="labels"'),
        (CrossEntropy(), np.eye(4)[[0, 1, 2, 3, 0, 1]] - 0.25, 'targets="labels"'),
        (Hinge(), np.zeros((6, 4)), "−1 and"),
        ("squared", np.zeros((6, 4)), "nf.SquaredError"),
        (SquaredError, np.zeros((6, 4)), "nf.SquaredError"),
    ],
)
def test_unsuitable_targets_are_refused_with_the_remedy(loss, y, message, key):
    with pytest.raises(ValueError, match=message):
        problem(y, loss, key)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda f, y: (f - y) ** 2, r"returned float64 of shape \[4\]"),
        (lambda f, y: jnp.sum(f > y), "returned int64"),
        (lambda f, y: f @ y[0] @ f, "cannot be called on them"),
    ],
)
def test_a_loss_that_is_no_number_of_one_example_is_refused(loss, message, key):
    with pytest.raises(ValueError, match=f"ONE example to a real scalar.*{message}"):
        problem(np.zeros((6, 4)), loss, key)


def test_accuracy_counts_the_largest_output(key):
    f = jnp.asarray([[3.0, 1], [0, 2], [5, 1], [1, 0]])
    labels = np.array([0, 1, 1, 0])
    x = jax.random.normal(key, (4, 3))
    model = MLP(3, 2, width=5, depth=1, key=key)
    for loss, y in [(CrossEntropy(), labels), (SquaredError(), np.eye(2)[labels])]:
        classified = Problem(model, x, y, loss=loss)
        assert classified.accuracy(f, classified.y) == pytest.approx(3 / 4)
    regression = Problem(MLP(3, 1, width=5, depth=1, key=key), x, labels[:, None] * 1.0)
    assert regression.accuracy(f[:, :1], regression.y) is None
    several = Problem(model, x, np.asarray(f))
    assert several.accuracy(f, several.y) is None


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_accuracy_of_one_output_counts_equal_signs(dtype):
    """By `Problem.accuracy`; outputs of zero are right for neither class."""
    x = jnp.linspace(-1.0, 1.0, 7, dtype=dtype)[:, None]
    y = jnp.asarray([[1.0], [-1.0], [1.0], [1.0], [-1.0], [1.0], [-1.0]], dtype)
    model = eqx.nn.Linear(1, 1, key=jax.random.key(0), dtype=dtype)
    problem = Problem(model, x, y, loss=Hinge())
    outputs = [-3.0, -0.2, 0.0, 1e-6, 0.5, 20.0, 0.0]
    right = 0
    for output, target in zip(outputs, np.ravel(y), strict=True):
        right += (output > 0 and target == 1) or (output < 0 and target == -1)
    assert right == 3
    found = problem.accuracy(jnp.asarray(outputs, dtype)[:, None], y)
    np.testing.assert_allclose(found, right / len(outputs), rtol=1e-6)
    trained = problem.outputs(problem.params, x)
    agree = np.count_nonzero(np.sign(trained) == np.asarray(y))
    found = problem.accuracy(trained, y)
    np.testing.assert_allclose(found, agree / len(y), rtol=1e-6)


def test_accuracy_of_several_hinges_counts_the_largest_output():
    y = jnp.asarray([[1.0, -1.0], [-1.0, 1.0], [1.0, -1.0]])
    model = eqx.nn.Linear(1, 2, key=jax.random.key(0))
    problem = Problem(model, jnp.ones((3, 1)), y, loss=Hinge())
    f = jnp.asarray([[-2.0, -3.0], [4.0, 3.0], [1.0, -1.0]])
    np.testing.assert_allclose(problem.accuracy(f, y), 2 / 3)


@pytest.mark.parametrize("loss", [SquaredError(), CrossEntropy(), Hinge()])
def test_a_hint_at_targets_names_the_function_that_takes_them(loss):
    with pytest.raises(ValueError, match=r"nf\.data\.digits\(targets=") as caught:
        loss.check_targets(np.array([[0.5], [2.0]]), 3)
    before, *_ = str(caught.value).split("targets=")
    assert before.endswith("nf.data.digits(")
