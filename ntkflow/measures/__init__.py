"""What is read off a state: pure functions of one saved moment.

Every measure is a small final class that names the shared quantities it needs, prepares
what is fixed at t = 0, and reads one `Snapshot`; `simulate` computes the shared
quantities once a save time.
"""

from ._alignment import Alignment as Alignment
from ._base import (
    SHARED as SHARED,
    AbstractMeasure as AbstractMeasure,
    Snapshot as Snapshot,
    Variable as Variable,
)
from ._conservation import Conservation as Conservation
from ._cost import (
    CostEstimate as CostEstimate,
    check_affordable as check_affordable,
    estimate as estimate,
)
from ._curvature import (
    Curvature as Curvature,
    leading_curvature as leading_curvature,
)
from ._defaults import (
    collect_variables as collect_variables,
    default_measures as default_measures,
)
from ._eigen import leading_eigenpairs as leading_eigenpairs
from ._energy import EnergyDefect as EnergyDefect
from ._kernel import layouts as layouts
from ._lambda_min import LambdaMin as LambdaMin, loss_bound as loss_bound
from ._laws import (
    ConservationLaw as ConservationLaw,
    conservation_laws as conservation_laws,
)
from ._linearization import LinearizationGap as LinearizationGap
from ._modes import Modes as Modes, leading_modes as leading_modes
from ._movement import (
    KernelDistance as KernelDistance,
    KernelDrift as KernelDrift,
    KernelVelocity as KernelVelocity,
)
from ._parameters import ParameterDistance as ParameterDistance
from ._regression import KernelRegression as KernelRegression
from ._sharpness import Sharpness as Sharpness
from ._spectrum import EffectiveRank as EffectiveRank, Spectrum as Spectrum
from ._step import KernelStep as KernelStep
