"""The residual, mode by mode, against what the constant kernel predicts."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ._look import Look, explain
from ._read import Run, dataset_of, median, read
from ._style import draw, finish, label_of, log_scale, make_axes

_FLOOR = 1e-5
"""What is left below this part of the most at the start is the solver's error."""


def modes(
    run: Run,
    k: int = 5,
    ax: Axes | None = None,
    *,
    label: str | None = None,
    color: Any = None,
    **line: Any,
) -> Axes:
    """The residual's size along eigenvectors of the initial kernel; dashed: predicted.

    Drawn are the modes in which there is most to learn, those with the largest
    components at the first save time. The prediction is the exponential decay of the
    constant kernel; it exists for the squared error without decay.

    Args:
        run: A run or its dataset.
        k: How many modes, at most.
        ax: Axes to draw on; a new figure if None.
        label: Name of the run in the legend.
        color: One color for all of the run.
        **line: Properties of matplotlib's lines.

    Returns:
        The axes.

    Verified by: tests/plots/test_modes.py::test_largest_modes_are_drawn
    """
    dataset, look = dataset_of(run), Look(label, color, line)
    values = np.abs(read(dataset, "mode_residual_initial"))
    predicted = None
    if "mode_residual_predicted" in dataset:
        predicted = np.abs(read(dataset, "mode_residual_predicted"))
    ax = make_axes(ax)
    shown = ax.get_ylim() if ax.lines and ax.get_yscale() == "log" else ()
    start = median(values)[0]
    chosen = np.sort(np.argsort(-start, kind="stable")[:k])
    for i, shade in zip(chosen, look.family(len(chosen)), strict=True):
        draw(ax, dataset, values[:, :, i], shade, look, label=f"mode {i + 1}", lw=2)
        if predicted is not None:
            own = Look(color=color)
            draw(ax, dataset, predicted[:, :, i], shade, own, lw=1.2, ls="dashed")
    if predicted is not None:
        explain(ax, "constant kernel", color="gray", lw=1.2, ls="dashed")
    drawn = values[:, :, chosen]
    log_scale(ax, drawn)
    if ax.get_yscale() == "log" and (drawn > 0).any():
        # Not by the prediction, which falls to nothing.
        most = np.nanmax(drawn)
        ends = [max(_FLOOR * most, drawn[drawn > 0].min() / 2), 2 * most, *shown]
        ax.set_ylim(min(ends), max(ends))
    ylabel = f"size of the {label_of(dataset, 'mode_residual_initial')}"
    return finish(ax, dataset, "What is left to learn, mode by mode", ylabel)
