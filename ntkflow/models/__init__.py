"""Networks, and which of their leaves are trained.

Every network is an equinox module called on ONE example. The three parameterizations
are one layer, `Dense`, whose scales sit in the initial values or in the forward pass
(see `MLP`). `Scaled` and `Antisymmetric` wrap any model. Modules from elsewhere work as
well as these: a model is any callable equinox module.
"""

from ._activations import (
    ACTIVATIONS as ACTIVATIONS,
    default_w_std as default_w_std,
    resolve_activation as resolve_activation,
)
from ._cnn import CNN as CNN
from ._conv import Conv as Conv
from ._dense import Dense as Dense
from ._frozen import (
    Frozen as Frozen,
    named_leaves as named_leaves,
    partition as partition,
)
from ._linear import DeepLinear as DeepLinear, DiagonalLinear as DiagonalLinear
from ._mlp import MLP as MLP
from ._residual import ResidualMLP as ResidualMLP
from ._time_scale import time_scale as time_scale
from ._wrappers import Antisymmetric as Antisymmetric, Scaled as Scaled
