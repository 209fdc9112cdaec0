"""Array aliases, and the legend of dimensions used in every annotation.

| letter     | meaning                                                      |
|------------|--------------------------------------------------------------|
| `N N1 N2`  | examples                                                     |
| `Nt`       | test examples                                                |
| `K`        | outputs of the network                                       |
| `P`        | trained parameters                                           |
| `T`        | save times                                                   |
| `M`        | modes (eigenvectors of a kernel), largest eigenvalue first   |
| `...`      | the axes of one input, whatever the network takes            |

Time is continuous training time: one gradient-descent step of learning rate η is
t += η. The residual is r = f − y, the kernel Θ = J Jᵀ with J = ∂f/∂θ, the loss
L = Σᵢ ℓ(fᵢ, yᵢ), a sum.
"""

from typing import Any, TypeAlias

from jaxtyping import Array, Bool, Float, Inexact, Int, Shaped

Params: TypeAlias = Any
"""The trained leaves of an equinox module, `None` where a leaf is not trained."""

Inputs: TypeAlias = Shaped[Array, "N ..."]
Outputs: TypeAlias = Inexact[Array, "N K"]
Targets: TypeAlias = Shaped[Array, "N ..."]
FullKernel: TypeAlias = Float[Array, "N1 K N2 K"]
DiagonalKernel: TypeAlias = Float[Array, "N1 N2 K"]
TraceKernel: TypeAlias = Float[Array, "N1 N2"]
Scalar: TypeAlias = Float[Array, ""]  # pyright: ignore
Number: TypeAlias = float | int | Scalar
"""A setting: a Python number, or an array of no axes where programs are to share it."""
Numbers: TypeAlias = Float[Array, " S"]
"""A setting with one value a member of an ensemble."""
IntScalar: TypeAlias = Int[Array, ""]  # pyright: ignore
BoolScalar: TypeAlias = Bool[Array, ""]  # pyright: ignore
