"""Networks, and which of their leaves are trained.

Every network is an equinox module called on ONE example. The three parameterizations
are one layer, `Dense`, whose scales sit in the initial values or in the forward pass
(see `MLP`). What is continuous in depth (`NeuralODE`, `CNF`, `LatentODE`) holds a
`Depth`, which says how it is solved. `Scaled` and `Antisymmetric` wrap any model,
`BatchStatistics` one whose BatchNorm layers are to normalize by a whole batch, and
`Applied` one of which something else than `model(x)` is trained.
Modules from elsewhere work as well as these: a model is any callable equinox module.
"""

from ._activations import (
    ACTIVATIONS as ACTIVATIONS,
    default_w_std as default_w_std,
    resolve_activation as resolve_activation,
)
from ._adjoints import in_both_modes as in_both_modes
from ._applied import Applied as Applied
from ._basis import (
    BasisField as BasisField,
    Legendre as Legendre,
    PiecewiseConstant as PiecewiseConstant,
)
from ._batch_statistics import BatchStatistics as BatchStatistics
from ._cnf import CNF as CNF
from ._cnn import CNN as CNN
from ._conv import Conv as Conv
from ._dense import Dense as Dense
from ._depth import LOOSE as LOOSE, Depth as Depth
from ._event import warn_if_not_located as warn_if_not_located
from ._fields import ConvField as ConvField, MLPField as MLPField
from ._frozen import (
    Frozen as Frozen,
    named_leaves as named_leaves,
    partition as partition,
)
from ._latent_ode import LatentODE as LatentODE, RNNEncoder as RNNEncoder
from ._linear import DeepLinear as DeepLinear, DiagonalLinear as DiagonalLinear
from ._mlp import MLP as MLP
from ._neural_ode import NeuralODE as NeuralODE
from ._replay import (
    Steps as Steps,
    find_steps as find_steps,
    is_replayable as is_replayable,
    replayed as replayed,
)
from ._residual import ResidualMLP as ResidualMLP
from ._time_scale import time_scale as time_scale
from ._tolerances import (
    events_of as events_of,
    loosest as loosest,
    tightened as tightened,
)
from ._wrappers import Antisymmetric as Antisymmetric, Scaled as Scaled
