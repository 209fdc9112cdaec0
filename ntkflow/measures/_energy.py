"""Whether the solver kept the energy identity."""

from typing import ClassVar, final

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..problem import Problem
from ._base import AbstractMeasure, Snapshot, Variable
from ._kernel import given


@final
class EnergyDefect(AbstractMeasure):
    """The defect |E(t) − E(0) + q(t)|/|E(0)| of the energy identity.

    Along a flow the energy falls by exactly what is dissipated; for gradient flow
    L(t) − L(0) = −c∫‖∇L‖²dt. q is a state of the same solve, so the defect is the
    solver's error, whatever the model.

    Verified by: tests/measures/test_energy.py::test_defect_matches_its_formula
    """

    needs: ClassVar[frozenset[str]] = frozenset({"quadrature"})

    def prepare(self, first: Snapshot) -> Float[Array, ""]:
        """E(0).

        Args:
            first: The moment t = 0.

        Returns:
            A scalar.
        """
        return first.energy

    def __call__(self, now: Snapshot, prepared: Array) -> dict[str, Array]:
        """The defect now.

        Args:
            now: The moment.
            prepared: E(0).

        Returns:
            `energy_defect`.
        """
        dissipated = given(now.quadrature, "quadrature")
        defect = jnp.abs(now.energy - prepared + dissipated)
        return {"energy_defect": defect / jnp.abs(prepared)}

    def variables(self, problem: Problem) -> dict[str, Variable]:
        """`energy_defect`.

        Args:
            problem: The problem.

        Returns:
            The variable, a number at every save time.
        """
        return {"energy_defect": Variable((), "relative defect of the energy identity")}

    def flops(self, problem: Problem) -> float:
        """A few.

        Args:
            problem: The problem.

        Returns:
            Floating-point operations.
        """
        return 4.0
