"""Pictures of what must not change: how far the numbers can be trusted."""

from matplotlib.axes import Axes

from ._read import Run, dataset_of, read
from ._style import (
    draw,
    draw_one,
    finish,
    label_of,
    log_scale,
    make_axes,
    sequence_colors,
)


def energy_defect(run: Run, ax: Axes | None = None) -> Axes:
    """The relative defect of the energy identity: an error of the solver.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.

    Returns:
        The axes.
    """
    return draw_one(run, "energy_defect", "Defect of the energy identity", ax, log=True)


def conserved(run: Run, ax: Axes | None = None) -> Axes:
    """The relative change of every quantity that gradient flow conserves.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.

    Returns:
        The axes.
    """
    dataset = dataset_of(run)
    values = read(dataset, "conserved_drift")
    names = [str(name) for name in dataset["law"].values]
    ax = make_axes(ax)
    for i, color in enumerate(sequence_colors(len(names))):
        draw(ax, dataset, values[:, :, i], color, lw=1.5, label=names[i])
    log_scale(ax, values)
    ylabel = label_of(dataset, "conserved_drift")
    return finish(ax, dataset, "Change of conserved quantities", ylabel)
