"""Pictures of what must not change: how far the numbers can be trusted."""

from typing import Any

from matplotlib.axes import Axes

from ._look import Look
from ._read import Run, dataset_of, read
from ._style import (
    draw,
    draw_one,
    finish,
    label_of,
    log_scale,
    make_axes,
)


def energy_defect(
    run: Run,
    ax: Axes | None = None,
    *,
    label: str | None = None,
    color: Any = None,
    **line: Any,
) -> Axes:
    """The relative defect of the energy identity: an error of the solver.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.
        label: Name of the run in the legend.
        color: One color for all of the run.
        **line: Properties of matplotlib's lines.

    Returns:
        The axes.
    """
    look = Look(label, color, line)
    title = "Defect of the energy identity"
    return draw_one(run, "energy_defect", title, ax, look, log=True)


def conserved(
    run: Run,
    ax: Axes | None = None,
    *,
    label: str | None = None,
    color: Any = None,
    **line: Any,
) -> Axes:
    """The relative change of every quantity that gradient flow conserves.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.
        label: Name of the run in the legend.
        color: One color for all of the run.
        **line: Properties of matplotlib's lines.

    Returns:
        The axes.
    """
    dataset, look = dataset_of(run), Look(label, color, line)
    values = read(dataset, "conserved_drift")
    names = [str(name) for name in dataset["law"].values]
    ax = make_axes(ax)
    for i, shade in enumerate(look.family(len(names))):
        draw(ax, dataset, values[:, :, i], shade, look, label=names[i], lw=1.5)
    log_scale(ax, values)
    ylabel = label_of(dataset, "conserved_drift")
    return finish(ax, dataset, "Change of conserved quantities", ylabel)
