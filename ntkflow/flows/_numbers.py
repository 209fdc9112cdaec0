"""Numbers of flows as arrays: values that a compiled program is given, not made for."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ._base import AbstractFlow
from ._kinds import is_built_in


def with_arrays(flows: Sequence[AbstractFlow], dtype: np.dtype) -> list[AbstractFlow]:
    """The same flows, their learning rates and dampings arrays.

    `equinox.filter_jit` compiles Python numbers into a program, so that another
    learning rate would be another program. Flows of one's own are left as they are,
    since they may decide by the value of a number.

    Args:
        flows: The flows.
        dtype: The dtype of the parameters.

    Returns:
        As many flows.

    Verified by:
        tests/simulate/test_compiled_once.py::test_other_numbers_compile_nothing
    """

    def as_array(leaf: Any) -> Any:
        real = isinstance(leaf, float | int) and not isinstance(leaf, bool)
        return jnp.asarray(leaf, dtype) if real or eqx.is_inexact_array(leaf) else leaf

    return [
        jax.tree.map(as_array, flow) if is_built_in(flow) else flow for flow in flows
    ]
