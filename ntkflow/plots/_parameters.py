"""How far the parameters moved, array by array."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ._look import Look
from ._numbers import last
from ._read import Run, dataset_of, has, median, read
from ._style import draw, finish, from_zero, make_axes, measured_color

_NAMED = 6
"""More arrays than this are drawn in gray without a name."""


def parameter_distance(
    run: Run,
    ax: Axes | None = None,
    *,
    label: str | None = None,
    color: Any = None,
    **line: Any,
) -> Axes:
    """The distance ‖θ − θ₀‖ of every parameter array, and of all of them together.

    The arrays that moved farthest are named.

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
    values = read(dataset, "parameter_distance_layer")
    names = [str(name) for name in dataset["layer"].values]
    ax = make_axes(ax)
    ends = np.stack([median(last(values[:, :, i])) for i in range(len(names))])
    named = [int(i) for i in np.argsort(-ends, kind="stable")[:_NAMED]]
    if has(dataset, "parameter_distance"):
        total = read(dataset, "parameter_distance")
        chief = look.colored(measured_color(dataset))
        draw(ax, dataset, total, chief, look, label="all parameters", lw=3.2)
    for i in set(range(len(names))) - set(named):
        draw(ax, dataset, values[:, :, i], "gray", look, lw=0.8)
    for i, shade in zip(named, look.family(len(named)), strict=True):
        draw(ax, dataset, values[:, :, i], shade, look, label=names[i], lw=1.5)
    from_zero(ax)
    ylabel = "distance from the initial parameters"
    return finish(ax, dataset, "How far the parameters moved", ylabel)
