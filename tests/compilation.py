"""Cheaper compilation, for tests whose claims do not depend on how one compiles.

Formulas and solvers keep their tolerances however they are compiled. What is claimed of
bits, memory, operations or accuracy at the edge of a precision is compiled as users do.
"""

from typing import Any, Final

QUICK: Final[dict[str, Any]] = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
    "xla_llvm_disable_expensive_passes": True,
}
"""Options of `jax.jit`: a fifth of the time of compiling."""

FUSED: Final[dict[str, Any]] = {"xla_cpu_use_fusion_emitters": True}
"""Options of `jax.jit`: as users compile, where tests leave fusion kernels out.

For claims that two programs round alike.
"""
