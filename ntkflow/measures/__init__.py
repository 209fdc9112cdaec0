"""What is read off a state: pure functions of one saved moment.

Every measure is a small final class that names the shared quantities it needs, prepares
what is fixed at t = 0, and reads one `Snapshot`; `simulate` computes the shared
quantities once a save time.
"""

from ._alignment import Alignment as Alignment
from ._base import (
    SHARED as SHARED,
)
from ._base import (
    AbstractMeasure as AbstractMeasure,
)
from ._base import (
    Snapshot as Snapshot,
)
from ._base import (
    Variable as Variable,
)
from ._conservation import Conservation as Conservation
from ._cost import (
    CostEstimate as CostEstimate,
)
from ._cost import (
    check_affordable as check_affordable,
)
from ._cost import (
    estimate as estimate,
)
from ._defaults import (
    collect_variables as collect_variables,
)
from ._defaults import (
    default_measures as default_measures,
)
from ._energy import EnergyDefect as EnergyDefect
from ._lambda_min import LambdaMin as LambdaMin
from ._lambda_min import loss_bound as loss_bound
from ._laws import (
    ConservationLaw as ConservationLaw,
)
from ._laws import (
    conservation_laws as conservation_laws,
)
from ._linearization import LinearizationGap as LinearizationGap
from ._modes import Modes as Modes
from ._movement import (
    KernelDistance as KernelDistance,
)
from ._movement import (
    KernelDrift as KernelDrift,
)
from ._movement import (
    KernelVelocity as KernelVelocity,
)
from ._parameters import ParameterDistance as ParameterDistance
from ._spectrum import EffectiveRank as EffectiveRank
from ._spectrum import Spectrum as Spectrum
