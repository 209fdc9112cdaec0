"""Kernels of infinitely wide networks, layer by layer.

A network is a `Sequential` of layers and activations; called on examples it gives their
NNGP kernel and their NTK. `from_module` reads one off an equinox module, `to_module`
makes a finite network of one, and `monte_carlo` averages the kernels of any such
networks. `UntiedDepth` and `TiedDepth` are limits in depth. One layer is one file: see
`AbstractLayer` and `AbstractActivation` to add another.
"""

from ntkflow.infinite._activation import AbstractActivation as AbstractActivation
from ntkflow.infinite._aggregate import Aggregate as Aggregate
from ntkflow.infinite._attention import Attention as Attention
from ntkflow.infinite._compute import Kernels as Kernels
from ntkflow.infinite._concatenate import Concatenate as Concatenate
from ntkflow.infinite._conv import Conv as Conv
from ntkflow.infinite._conv_local import ConvLocal as ConvLocal
from ntkflow.infinite._conv_transpose import ConvTranspose as ConvTranspose
from ntkflow.infinite._dense import Dense as Dense
from ntkflow.infinite._dropout import Dropout as Dropout
from ntkflow.infinite._elementwise import (
    Elementwise as Elementwise,
    Elu as Elu,
    Sigmoid as Sigmoid,
    Silu as Silu,
    Softplus as Softplus,
    Tanh as Tanh,
    quadrature_error as quadrature_error,
)
from ntkflow.infinite._embedding import Embedding as Embedding, one_hot as one_hot
from ntkflow.infinite._erf import Erf as Erf, SigmoidLike as SigmoidLike
from ntkflow.infinite._exponential import (
    Exponential as Exponential,
    NormalizedExponential as NormalizedExponential,
)
from ntkflow.infinite._flatten import Flatten as Flatten
from ntkflow.infinite._from_module import from_module as from_module
from ntkflow.infinite._gaussian import Gabor as Gabor, Gaussian as Gaussian
from ntkflow.infinite._gelu import Gelu as Gelu
from ntkflow.infinite._identity import Identity as Identity
from ntkflow.infinite._index import Index as Index
from ntkflow.infinite._instance_norm import InstanceNorm as InstanceNorm
from ntkflow.infinite._layer import AbstractLayer as AbstractLayer
from ntkflow.infinite._layer_norm import LayerNorm as LayerNorm
from ntkflow.infinite._moments import Moments as Moments
from ntkflow.infinite._monte_carlo import (
    Averages as Averages,
    monte_carlo as monte_carlo,
)
from ntkflow.infinite._parallel import Product as Product, Sum as Sum
from ntkflow.infinite._polynomial import (
    Hermite as Hermite,
    Monomial as Monomial,
    Polynomial as Polynomial,
)
from ntkflow.infinite._pooling import (
    AvgPool as AvgPool,
    GlobalAvgPool as GlobalAvgPool,
    GlobalSumPool as GlobalSumPool,
    SumPool as SumPool,
)
from ntkflow.infinite._positional import PositionalEmbedding as PositionalEmbedding
from ntkflow.infinite._rectified import (
    RectifiedMonomial as RectifiedMonomial,
    Step as Step,
)
from ntkflow.infinite._relu import Abs as Abs, LeakyRelu as LeakyRelu, Relu as Relu
from ntkflow.infinite._residual import Residual as Residual
from ntkflow.infinite._resize import ImageResize as ImageResize
from ntkflow.infinite._sequential import Sequential as Sequential
from ntkflow.infinite._sign import Sign as Sign
from ntkflow.infinite._tied_depth import TiedDepth as TiedDepth
from ntkflow.infinite._to_module import to_module as to_module
from ntkflow.infinite._trigonometric import Cos as Cos, Rbf as Rbf, Sin as Sin
from ntkflow.infinite._untied_depth import UntiedDepth as UntiedDepth
from ntkflow.infinite._wrappers import (
    Antisymmetric as Antisymmetric,
    Scaled as Scaled,
)
