"""Whether the solver kept what gradient flow conserves."""

from typing import ClassVar, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ..problem import Problem
from ._base import AbstractMeasure, Snapshot, Variable
from ._laws import ConservationLaw, conservation_laws


@final
class Conservation(AbstractMeasure):
    """The relative change of every quantity that gradient flow conserves.

    It holds along gradient flow only: with another flow, such as the heavy ball, the
    change is not an error. `conservation_laws` lists the laws.

    Source: Du, Hu & Lee (2018), theorems 2.1 and 2.2.
    Verified by:
        tests/measures/test_conservation.py::test_laws_are_kept_to_the_order_of_the_integrator
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    def prepare(self, first: Snapshot) -> None:
        """Nothing: every snapshot holds θ₀.

        Args:
            first: The moment t = 0.
        """

    def __call__(self, now: Snapshot, prepared: None) -> dict[str, Array]:
        """The relative changes up to now.

        Args:
            now: The moment.
            prepared: Nothing.

        Returns:
            `conserved_drift`, one number a law.
        """
        laws = conservation_laws(now.problem)
        drifts = [law.drift(now.params, now.params0) for law in laws]
        return {"conserved_drift": jnp.stack(drifts)}

    def variables(self, problem: Problem) -> dict[str, Variable]:
        """`conserved_drift`.

        Args:
            problem: The problem.

        Returns:
            The variable; `law` runs over the laws' names.

        Raises:
            ValueError: If no law holds for the problem.
        """
        laws = conservation_laws(problem)
        if not laws:
            raise ValueError(
                f"No conservation law is known for {type(problem.model).__name__} as "
                "it is trained here. Laws hold, without decay and with all their "
                "weights trained, for DeepLinear, for MLP and CNN with a hidden layer "
                'and activation "identity", "relu", "leaky_relu" or "abs", and for '
                "DiagonalLinear, also inside Scaled and Antisymmetric. Leave out "
                "Conservation."
            )
        return {
            "conserved_drift": Variable(
                ("law",),
                "relative change of conserved quantities",
                coords={"law": [law.name for law in laws]},
            )
        }

    def flops(self, problem: Problem) -> float:
        """Products of weight matrices, or sums of squares.

        Args:
            problem: The problem.

        Returns:
            Floating-point operations, an upper estimate.
        """
        units = [_units(law, problem) for law in conservation_laws(problem)]
        return 4.0 * problem.n_params * sum(units)


def _units(law: ConservationLaw, problem: Problem) -> int:
    # Rows of a law in matrix form, 1 for a law that is a vector.
    shape = eqx.filter_eval_shape(law.terms, problem.params)[0].shape
    return shape[0] if len(shape) == 2 else 1
