"""The residual, mode by mode, against what the constant kernel predicts."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ._read import Run, dataset_of, median, read
from ._style import draw, finish, label_of, make_axes, sequence_colors


def modes(run: Run, k: int = 5, ax: Axes | None = None) -> Axes:
    """The residual along eigenvectors of the initial kernel; dashed: predicted.

    Drawn are the modes with the largest components at the first save time. The
    prediction is the exponential decay of the constant kernel; it exists for the
    squared error without decay.

    Args:
        run: A run or its dataset.
        k: How many modes, at most.
        ax: Axes to draw on; a new figure if None.

    Returns:
        The axes.

    Verified by: tests/plots/test_modes.py::test_largest_modes_are_drawn
    """
    dataset = dataset_of(run)
    values = read(dataset, "mode_residual_initial")
    predicted = None
    if "mode_residual_predicted" in dataset:
        predicted = read(dataset, "mode_residual_predicted")
    ax = make_axes(ax)
    start = np.abs(median(values)[0])
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
    ylabel = label_of(dataset, "mode_residual_initial")
    finish(ax, dataset, "What is left to learn, mode by mode", ylabel)
    ax.legend(handles=handles, frameon=False, fontsize="small")
    return ax
