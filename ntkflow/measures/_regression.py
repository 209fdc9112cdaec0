"""What the kernel of a moment would predict by itself."""

from typing import final

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Array, Inexact

from .._types import MeasuredOutputs
from ..problem import Problem
from ._base import AbstractMeasure, Snapshot, Variable
from ._kernel import (
    as_matrix,
    check_outputs,
    given,
    in_words,
    kernel_now,
    kernel_size,
    named,
)
from ._targets import target_rows


@final
class KernelRegression(AbstractMeasure):
    """How well ridge regression with the kernel Θ_t does on the test set.

    The predictions are f(x) = Θ_t(x, X)(Θ_t(X, X) + ρ)⁻¹Y, from zero, with Y the
    training targets (labels as one-hot rows). Read at the end it is the after-kernel's
    regression: how much of the network's success its features carry, to be compared
    with `accuracy_test` of the network and with the value at the first save time. With
    `outputs="trace"` one [N, N] system, the trace kernel's, serves all outputs.

    * `kernel_regression_accuracy`: the share of test examples classified correctly,
      where the targets are classes;
    * `kernel_regression_error`: rms(f − y)/rms(y) over the test set.

    NaN where Θ_t + ρ is not positive definite to working precision.

    Attributes:
        ridge: ρ in units of the mean eigenvalue tr Θ_t/n.
        outputs: `"full"` for the kernel over examples and outputs, `"trace"` for the
            trace kernel, its sum over outputs; variables of the latter end in `_trace`.

    Source: Fort et al. (2020), the linearized training at a later time; Long (2021),
    the after kernel.
    Verified by:
        tests/measures/test_regression.py::test_predictions_are_those_of_kernel_ridge
    """

    ridge: float | int = eqx.field(static=True, default=1e-3)
    outputs: MeasuredOutputs = eqx.field(static=True, default="full")

    def __check_init__(self):
        check_outputs(self.outputs)
        if isinstance(self.ridge, bool) or not self.ridge > 0:
            raise ValueError(
                "KernelRegression: `ridge` must be a positive multiple of the mean "
                f"eigenvalue, got {self.ridge!r}."
            )

    @property
    def needs(self) -> frozenset[str]:
        """The kernels of the training set, and of the test set with it."""
        names = ("kernel", "kernel_test")
        return frozenset(named(name, self.outputs) for name in names)

    def prepare(self, first: Snapshot) -> Inexact[Array, "N K"]:
        """The training targets as rows.

        Args:
            first: The moment t = 0.

        Returns:
            One row an example.
        """
        return target_rows(first.problem)

    def __call__(self, now: Snapshot, prepared: Array) -> dict[str, Array]:
        """How well the kernel now would do.

        Args:
            now: The moment.
            prepared: The training targets as rows.

        Returns:
            The arrays of `variables`.
        """
        problem = now.problem
        name = named("kernel_test", self.outputs)
        f = self._predict(
            as_matrix(kernel_now(now, self.outputs)),
            given(getattr(now, name), name),
            prepared,
        )
        # The largest of several outputs that are no numbers would be the first.
        valid = jnp.all(jnp.isfinite(f))
        y = _test_rows(problem)
        miss = jnp.sqrt(jnp.mean((f - y) ** 2) / jnp.mean(y**2))
        read = {named("kernel_regression_error", self.outputs): miss}
        accuracy = problem.accuracy(f, given(problem.y_test, "y_test"))
        if accuracy is not None:
            accuracy = jnp.where(valid, accuracy, jnp.nan)
            read[named("kernel_regression_accuracy", self.outputs)] = accuracy
        return read

    def _predict(
        self,
        kernel: Inexact[Array, "n n"],
        cross: Inexact[Array, "Nt ..."],
        y: Inexact[Array, "N K"],
    ) -> Inexact[Array, "Nt K"]:
        size = len(kernel)
        columns = y.reshape(size, -1)
        ridge = self.ridge * jnp.trace(kernel) / size
        factor = cho_factor(kernel + ridge * jnp.eye(size, dtype=kernel.dtype))
        weights = cho_solve(factor, columns)
        rows = cross.reshape(-1, size)
        f = jnp.matmul(rows, weights, precision=lax.Precision.HIGHEST)
        return f.reshape(-1, y.shape[1])

    def variables(self, problem: Problem) -> dict[str, Variable]:
        """The error, and the accuracy where the targets are classes.

        Args:
            problem: The problem.

        Returns:
            The variables, a number at every save time.

        Raises:
            ValueError: If there is no test set.
        """
        if problem.x_test is None:
            raise ValueError(
                "KernelRegression predicts a test set and the problem has none: give "
                "x_test and y_test to Problem, or leave it out."
            )
        y = target_rows(problem)
        words = f"ridge regression with the {in_words(self.outputs)}, test set"
        found = {
            named("kernel_regression_error", self.outputs): Variable(
                (), f"relative error of {words}"
            )
        }
        accuracy = eqx.filter_eval_shape(problem.accuracy, y, problem.y)
        if accuracy is not None:
            name = named("kernel_regression_accuracy", self.outputs)
            found[name] = Variable((), f"accuracy of {words}")
        return found

    def flops(self, problem: Problem) -> float:
        """A Cholesky decomposition, and the products of its solve.

        Args:
            problem: The problem.

        Returns:
            Floating-point operations.
        """
        size = float(kernel_size(problem, self.outputs))
        columns = 1 if self.outputs == "full" else problem.n_outputs
        n_test = 0 if problem.x_test is None else len(problem.x_test)
        rows = n_test * size / problem.n_examples
        return size**3 / 3 + 2 * columns * size * (2 * size + rows)


def _test_rows(problem: Problem) -> Inexact[Array, "Nt K"]:
    return target_rows(problem, given(problem.y_test, "y_test"))
