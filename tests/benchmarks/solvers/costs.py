"""What the units of work take: seconds of a gradient, of a kernel, of a decomposition.

    python -m tests.benchmarks.solvers.costs CASE [--seconds SECONDS]

prints one line of JSON for one case.
"""

import argparse
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float

import ntkflow as nf

from ..measure import measure, report
from .cases import CASES, Case

LARGEST = 3000
"""Larger matrices are not decomposed to be timed: their seconds grow as the cube."""

_BATCH = 0.1
"""Seconds of the least that is timed: clocks of processes are coarse."""


def cost_of(
    function: Callable[..., Any], *args: Any, seconds: float
) -> dict[str, float]:
    """The least CPU and wall seconds of a compiled computation, warm.

    Args:
        function: What to compute.
        *args: Its arguments.
        seconds: How long to repeat it.

    Returns:
        Seconds, by `"cpu"` and `"wall"`.
    """

    compiled = jax.jit(function).lower(*args).compile()

    def run(times: int) -> None:
        for _ in range(times):
            jax.block_until_ready(compiled(*args))

    run(1)
    began = time.perf_counter()
    run(1)
    batch = math.ceil(_BATCH / (time.perf_counter() - began))
    found = measure(lambda: lambda: run(batch), seconds)
    return {clock: found[clock] / batch for clock in ("cpu", "wall")}


def costs(case: Case, seconds: float) -> dict[str, Any]:
    """Times every unit of work at the initial parameters of a case.

    Args:
        case: The case.
        seconds: How long to repeat each.

    Returns:
        The size N·K and the number of parameters; CPU and wall seconds by unit, those
        of decompositions larger than `LARGEST` by the cube of the size, which
        `extrapolated` tells.
    """
    problem = case.build()
    params = problem.params
    size = problem.n_examples * problem.n_outputs
    timed = min(size, LARGEST)
    half = jr.normal(jr.key(0), (timed, timed), problem.dtype)
    matrix = half @ half.T / timed + jnp.eye(timed, dtype=problem.dtype)
    v = jtu.tree_map(jnp.ones_like, params)

    def outputs(p: Any) -> Float[Array, "N K"]:
        return problem.outputs(p, problem.x)

    def kernel(p: Any) -> Array:
        found = nf.ntk(problem.model_of(p), problem.x, outputs="full")
        assert isinstance(found, jax.Array)
        return found.reshape(size, size)

    def time_of(
        function: Callable[..., Any], *args: Any, times: float = 1.0
    ) -> dict[str, float]:
        found = cost_of(function, *args, seconds=seconds)
        return {clock: times * value for clock, value in found.items()}

    cube = (size / timed) ** 3
    return {
        "size": size,
        "n_params": problem.n_params,
        "gradient": time_of(lambda p: problem.gradient(p), params),
        "hvp": time_of(
            lambda p, v: jax.jvp(problem.gradient, (p,), (v,))[1], params, v
        ),
        "jvp": time_of(lambda p, v: jax.jvp(outputs, (p,), (v,))[1], params, v),
        "kernel": time_of(kernel, params),
        "cholesky": time_of(jnp.linalg.cholesky, matrix, times=cube),
        "eigh": time_of(jnp.linalg.eigh, matrix, times=cube),
        "extrapolated": timed < size,
    }


def main() -> None:
    """Prints the costs of one case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--seconds", type=float, default=1.0)
    given = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    report(costs(CASES[given.case], given.seconds))


if __name__ == "__main__":
    main()
