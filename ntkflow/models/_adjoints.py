"""Solves that can be differentiated in every mode, as flows of training need them."""

from typing import Any

import diffrax
import equinox as eqx
import jax.tree_util as jtu
from jaxtyping import PyTree

from ._depth import Depth


def in_both_modes(model: PyTree) -> PyTree:
    """The same model whose solves have forward, reverse and second derivatives.

    A `Depth` with diffrax's checkpointed adjoint, which has reverse mode alone, is
    given the direct one: the same discrete solve, and so the same derivatives. Its
    gradient takes about as long, and remembers more.

    Args:
        model: Any module.

    Returns:
        The model; adjoints that stand for another derivative, and solves without a
        bound on their steps, stay as they are.

    Verified by:
        tests/simulate/test_neural_ode.py::test_training_is_that_of_the_closed_form
    """

    def changed(node: Any) -> Any:
        if (
            not isinstance(node, Depth)
            or node.max_steps is None
            or not isinstance(node.adjoint, diffrax.RecursiveCheckpointAdjoint)
        ):
            return node
        return eqx.tree_at(lambda d: d.adjoint, node, diffrax.DirectAdjoint())

    return jtu.tree_map(changed, model, is_leaf=lambda node: isinstance(node, Depth))
