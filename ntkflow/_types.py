"""Aliases of arrays and options, and the dimensions used in every annotation.

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

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

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

if TYPE_CHECKING:
    AttentionMechanism: TypeAlias = Literal["softmax", "identity", "relu", "abs"]
    AttentionScaling: TypeAlias = Literal["linear", "sqrt"]
    DecayTarget: TypeAlias = Literal["zero", "initial"]
    DropoutMask: TypeAlias = Literal["independent", "shared", "mean"]
    KernelMethod: TypeAlias = Literal[
        "auto", "contraction", "structured", "vector_products"
    ]
    MeasuredOutputs: TypeAlias = Literal["full", "trace"]
    OutputLayout: TypeAlias = Literal["full", "diagonal", "trace"]
    Padding: TypeAlias = Literal["SAME", "VALID", "CIRCULAR"]
    Parameterization: TypeAlias = Literal["ntk", "standard", "mean_field"]
    Pooling: TypeAlias = Literal["average", "flatten"]
    Reduction: TypeAlias = Literal["sum", "mean"]
    ResidualKernel: TypeAlias = Literal["evolving", "frozen"]
    ResizeMethod: TypeAlias = Literal[
        "nearest", "linear", "cubic", "lanczos3", "lanczos5"
    ]
    Scaling: TypeAlias = Literal["common", "each", "none"]
    SensitivityMode: TypeAlias = Literal["forward", "adjoint"]
    SolverName: TypeAlias = Literal["auto"]
    TableParameterization: TypeAlias = Literal["ntk", "standard"]
    TargetEncoding: TypeAlias = Literal["onehot", "centered", "labels", "regression"]
else:
    # A wrong name is refused by what takes it, which names the nearest right one. One
    # who has shapes checked at run time gets that error, too.
    AttentionMechanism = AttentionScaling = DecayTarget = DropoutMask = str
    KernelMethod = MeasuredOutputs = OutputLayout = Padding = Parameterization = str
    Pooling = Reduction = ResidualKernel = ResizeMethod = Scaling = str
    SensitivityMode = SolverName = TableParameterization = TargetEncoding = str
