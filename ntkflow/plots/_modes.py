"""The residual, mode by mode, against what the constant kernel predicts."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ._read import Run, dataset_of, median, read
from ._style import draw, finish, label_of, log_scale, make_axes, sequence_colors

_FLOOR = 1e-5
"""What is left below this part of the most at the start is the solver's error."""


def modes(run: Run, k: int = 5, ax: Axes | None = None) -> Axes:
    """The residual's size along eigenvectors of the initial kernel; dashed: predicted.

    Drawn are the modes in which there is most to learn, those with the largest
    components at the first save time. The prediction is the exponential decay of the
    constant kernel; it exists for the squared error without decay.

    Args:
        run: A run or its dataset.
        k: How many modes, at most.
        ax: Axes to draw on; a new figure if None.

    Returns:
        The axes.

    Verified by: tests/plots/test_modes.py::test_largest_modes_are_drawn
    """
    dataset = dataset_of(run)
    values = np.abs(read(dataset, "mode_residual_initial"))
    predicted = None
    if "mode_residual_predicted" in dataset:
        predicted = np.abs(read(dataset, "mode_residual_predicted"))
    ax = make_axes(ax)
    start = median(values)[0]
    chosen = np.sort(np.argsort(-start, kind="stable")[:k])
    handles = []
    for i, color in zip(chosen, sequence_colors(len(chosen)), strict=True):
        label = f"mode {i + 1}"
        draw(ax, dataset, values[:, :, i], color, lw=2, label=label)
        handles.append(Line2D([], [], color=color, lw=2, label=label))
        if predicted is not None:
            draw(ax, dataset, predicted[:, :, i], color, lw=1.2, ls="dashed")
    if predicted is not None:
        label = "constant kernel"
        handles.append(Line2D([], [], color="gray", lw=1.2, ls="dashed", label=label))
    drawn = values[:, :, chosen]
    log_scale(ax, drawn)
    if ax.get_yscale() == "log":
        # Not by the prediction, which falls to nothing.
        most = np.nanmax(drawn)
        ax.set_ylim(max(_FLOOR * most, drawn[drawn > 0].min() / 2), 2 * most)
    ylabel = f"size of the {label_of(dataset, 'mode_residual_initial')}"
    finish(ax, dataset, "What is left to learn, mode by mode", ylabel)
    ax.legend(handles=handles, frameon=False, fontsize="small")
    return ax
