"""Pictures, answers in words and the report, from saved results alone.

Every picture is a function of a run, or of its dataset, that returns the axes it drew
on. Of an ensemble it shows the median over seeds and a band from 10 to 90 %. All of
them take `label=`, `color=` and the properties of matplotlib's lines, and draw a second
run into the axes of the first; `compare` draws several runs at once.
"""

from ._answers import answers as answers
from ._checks import conserved as conserved, energy_defect as energy_defect
from ._compare import compare as compare
from ._flows import (
    accuracy as accuracy,
    linearization_gap as linearization_gap,
    loss as loss,
    residual_gap as residual_gap,
)
from ._kernel import (
    alignment as alignment,
    effective_rank as effective_rank,
    kernel_drift as kernel_drift,
    kernel_regression as kernel_regression,
    kernel_step as kernel_step,
    kernel_velocity as kernel_velocity,
    sharpness as sharpness,
    spectrum as spectrum,
)
from ._modes import modes as modes
from ._overview import overview as overview
from ._parameters import parameter_distance as parameter_distance
from ._report import report as report
