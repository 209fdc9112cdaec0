"""What a problem and an operator print: one line, whatever is inside of them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest

from ntkflow import Decay, NTKOperator, Problem
from ntkflow.models import MLP, Scaled


@pytest.fixture(scope="module")
def problem() -> Problem:
    model = Scaled(MLP(3, 2, width=8, depth=3, key=jax.random.key(0)), 2.0)
    x, y = jnp.ones((5, 3)), jnp.zeros((5, 2))
    return Problem(model, x, y, x_test=x[:2], y_test=y[:2], decay=Decay(0.1))


def test_a_problem_is_one_line(problem):
    assert repr(problem) == (
        f"<Problem: Scaled of 2 outputs, {problem.n_params:,} parameters; 5 examples "
        "of shape [3], 2 to test on; SquaredError, sum; decay zero>"
    )


def test_a_problem_prints_whatever_its_leaves_are(problem):
    seen = []

    @eqx.filter_jit
    def trace(p):
        seen.append(repr(p))
        return p.x

    trace(problem)
    assert seen == [repr(problem)]
    for leaf in (None, True, 1.0, jax.ShapeDtypeStruct((2,), np.float64)):
        filled = jtu.tree_map(lambda _, leaf=leaf: leaf, problem)
        assert "\n" not in repr(filled)
        assert repr(filled).startswith("<Problem: ")


def test_an_operator_is_one_line(problem):
    operator = NTKOperator(problem.model, problem.x)
    assert repr(operator) == (
        "<NTKOperator: Scaled, 5 examples × 2 outputs, float64; 5 examples at once>"
    )
