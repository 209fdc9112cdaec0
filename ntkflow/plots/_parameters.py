"""How far the parameters moved, array by array."""

import numpy as np
from matplotlib.axes import Axes

from ._numbers import last
from ._read import Run, dataset_of, has, median, read
from ._style import draw, finish, from_zero, make_axes, measured_color, sequence_colors

_NAMED = 6
"""More arrays than this are drawn in gray without a name."""


def parameter_distance(run: Run, ax: Axes | None = None) -> Axes:
    """The distance ‖θ − θ₀‖ of every parameter array, and of all of them together.

    The arrays that moved farthest are named.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.

    Returns:
        The axes.
    """
    dataset = dataset_of(run)
    values = read(dataset, "parameter_distance_layer")
    names = [str(name) for name in dataset["layer"].values]
    ax = make_axes(ax)
    ends = np.stack([median(last(values[:, :, i])) for i in range(len(names))])
    named = [int(i) for i in np.argsort(-ends, kind="stable")[:_NAMED]]
    if has(dataset, "parameter_distance"):
        total = read(dataset, "parameter_distance")
        color = measured_color(dataset)
        draw(ax, dataset, total, color, lw=3.2, label="all parameters")
    for i in set(range(len(names))) - set(named):
        draw(ax, dataset, values[:, :, i], "gray", lw=0.8)
    for i, color in zip(named, sequence_colors(len(named)), strict=True):
        draw(ax, dataset, values[:, :, i], color, lw=1.5, label=names[i])
    from_zero(ax)
    ylabel = "distance from the initial parameters"
    return finish(ax, dataset, "How far the parameters moved", ylabel)
