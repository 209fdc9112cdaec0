"""One page that answers what a run was made for."""

import textwrap
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ._answers import headline
from ._panels import possible_panels
from ._read import Run, dataset_of, times_of

_PANELS = 6


def overview(
    run: Run,
    fig: Figure | None = None,
    *,
    label: str | None = None,
    color: Any = None,
    **line: Any,
) -> Figure:
    """How far the kernel moved, when, in which directions, and what that did.

    Panels whose variables are missing are left out, and others take their place.

    Args:
        run: A run or its dataset.
        fig: An empty figure to draw on; a new one of pyplot if None.
        label: Name of the run in the legends.
        color: One color for all of the run.
        **line: Properties of matplotlib's lines.

    Returns:
        The figure.

    Raises:
        ValueError: If the dataset holds nothing that can be drawn.
    """
    dataset = dataset_of(run)
    times_of(dataset)
    panels = possible_panels(dataset)[:_PANELS]
    if not panels:
        raise ValueError(
            "The dataset holds nothing to draw: simulate with at least one flow that "
            "has outputs, or with a measure."
        )
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    rows = -(-len(panels) // columns)
    if fig is None:
        size = (4.2 * columns, 3.4 * rows + 0.4)
        layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08)
        fig = plt.figure(figsize=size, layout=layout)
    for i, panel in enumerate(panels):
        ax = fig.add_subplot(rows, columns, i + 1)
        panel.draw(dataset, ax=ax, label=label, color=color, **line)
    title = headline(dataset)
    if title:
        fig.suptitle(textwrap.fill(title, 45 * columns))
    return fig
