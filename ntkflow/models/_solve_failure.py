"""A solve that fails is refused, and the example it failed for is named.

Under `vmap` one error is raised for a whole batch, so the example's number has to be
found where the batch is seen: in the batching rule of the check.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import diffrax
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Int

_MAX_STEPS, _OTHER = 1, 2


@dataclasses.dataclass(frozen=True)
class _Messages(Sequence):
    """What to say of every example of a batch, said only when it is needed.

    Attributes:
        size: Examples in the batch; None for an example by itself.
        max_steps: The bound of the solve.
    """

    size: int | None
    max_steps: int | None

    def __len__(self) -> int:
        return 2 * (self.size or 1)

    def __getitem__(self, index: Any) -> Any:
        example, cause = index // 2, index % 2 + 1
        who = "of this example"
        if self.size is not None:
            who = f"of example {example}, of {self.size} solved together,"
        if cause == _MAX_STEPS:
            return (
                f"The solve in depth {who} did not reach the end of depth within "
                f"max_steps={self.max_steps}. Raise `max_steps`, loosen the "
                "tolerances, or take an implicit solver such as diffrax.Kvaerno5() if "
                "the field is stiff."
            )
        return (
            f"The solve in depth {who} failed before the end of depth: the steps "
            "became too small, the state is not finite, or an implicit step was not "
            "solved. Look at the field there, or loosen the tolerances."
        )


def refuse_failure(
    solution: diffrax.Solution, max_steps: int | None
) -> diffrax.Solution:
    """A solve that did what was asked.

    Args:
        solution: The solve.
        max_steps: Its bound.

    Returns:
        The solution; its times and states are NaN if errors are turned off and it
        failed. When it failed, an error is raised as the states are computed, which
        under `vmap` names the example.

    Verified by: tests/models/test_depth.py::test_failed_example_of_a_batch_is_named
    """
    exhausted = solution.result == diffrax.RESULTS.max_steps_reached
    failed = jnp.logical_not(diffrax.is_okay(solution.result))
    code = jnp.where(exhausted, _MAX_STEPS, jnp.where(failed, _OTHER, 0))
    code = jax.lax.stop_gradient(code)
    good = checked(max_steps)(code) == 0
    saved = solution.ts, solution.ys
    saved = jtu.tree_map(lambda y: jnp.where(good, y, jnp.nan), saved)
    return eqx.tree_at(
        lambda s: (s.ts, s.ys), solution, saved, is_leaf=lambda leaf: leaf is None
    )


def checked(max_steps: int | None) -> Any:
    """A function of a solve's code that raises an error if it tells of a failure.

    Args:
        max_steps: The bound of the solve, for the error.

    Returns:
        The code 0, 1 for too many steps or 2 for another failure -> the same; under
        `vmap` the error has the number of the first example that failed.
    """

    @jax.custom_batching.custom_vmap
    def check(code: Int[Array, ""]) -> Int[Array, ""]:
        messages = _Messages(None, max_steps)
        return eqxi.branched_error_if(code, code > 0, code - 1, messages)

    @check.def_vmap
    def check_batch(size: int, batched: list[bool], codes: Int[Array, " N"]) -> Any:
        del batched
        first = jnp.argmax(codes > 0)
        index = 2 * first + codes[first] - 1
        messages = _Messages(size, max_steps)
        checked = eqxi.branched_error_if(codes, jnp.any(codes > 0), index, messages)
        return checked, True

    return check
