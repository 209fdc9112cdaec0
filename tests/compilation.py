"""Cheaper compilation, for tests whose claims do not depend on how one compiles.

Formulas and solvers keep their tolerances however they are compiled. What is claimed of
bits, memory, operations or accuracy at the edge of a precision is compiled as users do.
"""

from typing import Any, Final

import jax


def known(**options: Any) -> dict[str, Any]:
    """Those of the options that the installed XLA has."""
    empty, found = jax.jit(lambda: None).lower(), {}
    for name, value in options.items():
        try:
            empty.compile(compiler_options={name: value})
        except jax.errors.JaxRuntimeError as error:
            if "No such compile option" not in str(error):
                raise
        else:
            found[name] = value
    return found


QUICK: Final[dict[str, Any]] = known(
    xla_backend_optimization_level=0,
    xla_cpu_use_fusion_emitters=False,
    xla_llvm_disable_expensive_passes=True,
)
"""Options of `jax.jit`: a fifth of the time of compiling."""

FUSED: Final[dict[str, Any]] = known(xla_cpu_use_fusion_emitters=True)
"""Options of `jax.jit`: as users compile, where tests leave fusion kernels out.

For claims that two programs round alike.
"""
