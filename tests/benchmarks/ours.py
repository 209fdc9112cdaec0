"""One case by ntkflow, or by a plain contraction of `vmap(jacrev)`.

    python -m tests.benchmarks.ours CASE METHOD

METHOD is a method of `ntkflow.ntk`, or "plain". Prints one line of JSON.
"""

import sys
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

import ntkflow as nf

from .cases import CASES
from .measure import measure, report


def plain(model: Any, x: Array, outputs: str) -> Array:
    """J Jᵀ with the Jacobian that anyone would write down."""
    params, static = eqx.partition(model, eqx.is_inexact_array)

    def function(p: Any, xi: Array) -> Array:
        return eqx.combine(p, static)(xi)

    jacobian = jax.vmap(jax.jacrev(function), (None, 0))(params, x)
    formula = {"full": "ikp,jlp->ikjl", "trace": "ikp,jkp->ij"}[outputs]
    total = jnp.zeros(())
    for leaf in jax.tree.leaves(jacobian):
        flat = leaf.reshape(*leaf.shape[:2], -1)
        total += jnp.einsum(formula, flat, flat, precision="highest")
    return total


def matmul_peak(size: int = 2048) -> Callable[[], Any]:
    """A float32 matrix product, ready to be timed."""
    a = jax.random.normal(jax.random.key(0), (size, size), jnp.float32)
    product = jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
    return lambda: jax.block_until_ready(product(a))


def main(name: str, method: str) -> None:
    """Times one case.

    Args:
        name: Name of the case.
        method: The method, or "plain".
    """
    case = CASES[name]
    model = case.build(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), case.shape, jnp.float32)
    params, static = eqx.partition(model, eqx.is_array)

    def kernel(p: Any, x: Array) -> Any:
        whole = eqx.combine(p, static)
        if method == "plain":
            return plain(whole, x, case.outputs)
        return nf.ntk(whole, x, outputs=case.outputs, method=method)

    def build() -> Callable[[], Any]:
        compiled = jax.jit(kernel).lower(params, x).compile()
        return lambda: jax.block_until_ready(compiled(params, x))

    measured = measure(build)
    peak = measure(matmul_peak, seconds=1.0)
    measured["peak_wall"] = 2 * 2048**3 / peak["wall"]
    measured["peak_cpu"] = 2 * 2048**3 / peak["cpu"]
    measured["flops"] = nf.kernels.plan(model, x, outputs=case.outputs).flops
    report(measured)


if __name__ == "__main__":
    main(*sys.argv[1:])
