"""How far the network is from its own linearization."""

from typing import ClassVar, final

import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from ..problem import Problem
from ._base import AbstractMeasure, Snapshot, Variable
from ._kernel import given
from ._targets import target_rows

_REMEDY = "Add nf.flows.Linearized() to the flows, or leave out LinearizationGap."


@final
class LinearizationGap(AbstractMeasure):
    """rms(f − f_lin)/rms(y), over examples and outputs.

    f_lin are the outputs of the linearized flow at the same time. Both gaps are divided
    by the root mean square of the training targets (labels as one-hot rows), so that
    training and test gap share one unit.

    Source: Lee et al. (2019), theorem 2.1, for its fall with the width.
    Verified by: tests/measures/test_linearization.py::test_gap_matches_the_loop
    """

    needs: ClassVar[frozenset[str]] = frozenset({"linearized"})

    def prepare(self, first: Snapshot) -> Float[Array, ""]:
        """rms(y).

        Args:
            first: The moment t = 0.

        Returns:
            A scalar.
        """
        return _rms(target_rows(first.problem))

    def __call__(self, now: Snapshot, prepared: Array) -> dict[str, Array]:
        """The gaps now.

        Args:
            now: The moment.
            prepared: rms(y).

        Returns:
            `linearization_gap`, and `linearization_gap_test` with a test set.
        """
        linear = given(now.linearized, "linearized", _REMEDY)
        read = {"linearization_gap": _rms(now.f_train - linear) / prepared}
        if now.f_test is not None:
            linear_test = given(now.linearized_test, "linearized_test", _REMEDY)
            read["linearization_gap_test"] = _rms(now.f_test - linear_test) / prepared
        return read

    def variables(self, problem: Problem) -> dict[str, Variable]:
        """The gap, and the test gap with a test set.

        Args:
            problem: The problem.

        Returns:
            The variables, a number at every save time.
        """
        # Targets that are no rows are refused before the run starts.
        target_rows(problem)
        found = {
            "linearization_gap": Variable(
                (), "gap to the linearized model, training set"
            )
        }
        if problem.x_test is not None:
            found["linearization_gap_test"] = Variable(
                (), "gap to the linearized model, test set"
            )
        return found

    def flops(self, problem: Problem) -> float:
        """Three operations an output.

        Args:
            problem: The problem.

        Returns:
            Floating-point operations.
        """
        n_test = 0 if problem.x_test is None else len(problem.x_test)
        return 3.0 * (problem.n_examples + n_test) * problem.n_outputs


def _rms(values: Inexact[Array, "N K"]) -> Float[Array, ""]:
    return jnp.sqrt(jnp.mean(values**2))
