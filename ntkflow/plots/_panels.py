"""The pictures of a run in the order in which they are read, with their captions."""

from collections.abc import Callable
from dataclasses import dataclass

import xarray as xr
from matplotlib.axes import Axes

from . import _checks, _flows, _kernel, _modes, _parameters
from ._answers_training import measured_kind
from ._gap import NETWORK, compared_flows
from ._read import has


@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes:
        name: The function of this room that draws it.
        draw: That function.
        needs: Variables of which one must be there.
        caption: How to read it, in one sentence.
    """

    name: str
    draw: Callable[..., Axes]
    needs: tuple[str, ...]
    caption: str

    def is_possible(self, dataset: xr.Dataset) -> bool:
        """Whether the dataset holds what is drawn.

        Args:
            dataset: The dataset.

        Returns:
            Whether there is something to see.
        """
        if self.name == "loss" and "example" not in dataset.sizes:
            return False
        if self.name == "residual_gap" and not compared_flows(dataset):
            return False
        if self.name == "kernel_velocity" and measured_kind(dataset) != NETWORK:
            # It is the speed under gradient flow, whatever flow moves the network.
            return False
        return any(has(dataset, name) for name in self.needs)


PANELS = (
    Panel(
        "loss",
        _flows.loss,
        ("loss_train",),
        "A flow describes training as long as its line stays on the network's; a "
        "dashed line over a solid one is a second way to compute the same.",
    ),
    Panel(
        "kernel_drift",
        _kernel.kernel_drift,
        (
            "kernel_drift",
            "kernel_distance",
            "kernel_drift_trace",
            "kernel_distance_trace",
        ),
        "A relative change of 0 is a kernel that stands still, of 1 a change as large "
        "as the kernel itself; the dashed line leaves out mere growth or shrinking; "
        "thin lines, if any, are the kernel over all outputs instead of their sum.",
    ),
    Panel(
        "kernel_velocity",
        _kernel.kernel_velocity,
        ("kernel_velocity", "kernel_velocity_trace"),
        "The speed is in initial kernel sizes per unit of training time, so a speed "
        "of 1 held for one unit of time moves the kernel by at most its own size.",
    ),
    Panel(
        "alignment",
        _kernel.alignment,
        (
            "alignment_centered",
            "alignment",
            "alignment_centered_trace",
            "alignment_trace",
        ),
        "A rising solid line is a kernel that turns towards the targets, at 1 it is "
        "theirs alone; dashed, a constant part of kernel and targets counts too; thin "
        "lines, if any, are the kernel over all outputs, which stays below 1 where it "
        "treats several outputs alike.",
    ),
    Panel(
        "spectrum",
        _kernel.spectrum,
        ("spectrum", "spectrum_trace"),
        "Each line is one eigenvalue: times the time scale (and, for a sum over "
        "outputs, divided by their number) the rate at which the kernel learns one "
        "direction; where lines are level the kernel keeps its rates.",
    ),
    Panel(
        "residual_gap",
        _flows.residual_gap,
        ("f_train",),
        "A value of 0.1 means outputs wrong by a tenth of what there was to learn; "
        "the evolving kernel's line shows the solver's error, the others what it "
        "costs to hold the kernel constant.",
    ),
    Panel(
        "accuracy",
        _flows.accuracy,
        ("accuracy_train", "accuracy_test"),
        "The share of examples whose largest output is that of their class, for the "
        "network and as every other flow would have it.",
    ),
    Panel(
        "modes",
        _modes.modes,
        ("mode_residual_initial",),
        "Each color is one eigenvector of the initial kernel, of those with most to "
        "learn at the start; a solid line away from its dashed one was not learned as "
        "the constant kernel predicts.",
    ),
    Panel(
        "effective_rank",
        _kernel.effective_rank,
        ("effective_rank", "effective_rank_trace"),
        "Roughly the number of directions in which the kernel learns; it falls when a "
        "few of them take over.",
    ),
    Panel(
        "kernel_step",
        _kernel.kernel_step,
        ("kernel_step_distance", "kernel_step_distance_trace"),
        "The kernel distance between each save time and the one before: where it is "
        "small the kernel has settled, up to its size.",
    ),
    Panel(
        "kernel_regression",
        _kernel.kernel_regression,
        ("kernel_regression_accuracy", "kernel_regression_accuracy_trace"),
        "The dashed line is what ridge regression with the kernel of each time would "
        "classify: where it meets the network's line the features carry its success.",
    ),
    Panel(
        "sharpness",
        _kernel.sharpness,
        ("sharpness",),
        "Gradient descent on a quadratic is stable as long as its learning rate times "
        "this is below 2.",
    ),
    Panel(
        "parameter_distance",
        _parameters.parameter_distance,
        ("parameter_distance_layer",),
        "The squared distances of the arrays add up to that of all parameters; gray "
        "lines, if any, are arrays that moved less than those named.",
    ),
    Panel(
        "linearization_gap",
        _flows.linearization_gap,
        ("linearization_gap", "linearization_gap_test"),
        "A value of 1 is a difference as large as the targets themselves; the thin "
        "line, if there is one, is the error on examples that were not trained on.",
    ),
    Panel(
        "energy_defect",
        _checks.energy_defect,
        ("energy_defect",),
        "Exact integration would give zero; what is seen is the solver's error, "
        "relative to the energy at the start (for gradient flow, the loss).",
    ),
    Panel(
        "conserved",
        _checks.conserved,
        ("conserved_drift",),
        "Exact integration would give zero for each of these laws.",
    ),
)
"""The first six make the overview, where they can be drawn."""


def possible_panels(dataset: xr.Dataset) -> list[Panel]:
    """The pictures that a dataset allows.

    Args:
        dataset: The dataset.

    Returns:
        Panels, in order; none if the run ended before its first save time.
    """
    return [panel for panel in PANELS if panel.is_possible(dataset)]
