"""Kernels compiled cheaply, where formulas are compared.

In `test_accuracy` they are compiled as users compile them.
"""

from typing import Any

import equinox as eqx
import jax

import ntkflow as nf

from ..compilation import QUICK


def ntk(model: Any, x: Any, x2: Any = None, **options: Any) -> Any:
    """What `nf.ntk` returns; traced anew each time, by whatever is patched then."""
    params, static = eqx.partition(model, eqx.is_array)
    apply = options.pop("apply", lambda m, xi: m(xi))

    leaves: list[str] = []

    def build(params: Any, x: Any, x2: Any) -> Any:
        def fresh(m: Any, xi: Any) -> Any:
            return apply(m, xi)

        found = nf.ntk(eqx.combine(params, static), x, x2, apply=fresh, **options)
        if not isinstance(found, dict):
            return found
        leaves.extend(found)  # which `jit` would sort
        return list(found.values())

    found = jax.jit(build, compiler_options=QUICK)(params, x, x2)
    return dict(zip(leaves, found, strict=True)) if leaves else found
