"""Work against precision as a picture, from saved measurements."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from ntkflow.plots._style import log_scale

from .table import compared_error, runs_of

PANELS = {
    "tanh-64": "100 digits, tanh, width 64",
    "tanh-64-n200": "200 digits, tanh, width 64",
    "tanh-512-lazy": "100 digits, tanh, width 512, lazy",
    "cross-entropy": "200 digits, cross-entropy",
}
"""Cases drawn, with their titles."""

# The palette of Okabe & Ito (2008), as for flows; explicit methods in its grays.
STYLES: dict[str, dict[str, Any]] = {
    "Tsit5": {"color": "#7f7f7f", "marker": "o"},
    "Dopri5": {"color": "#7f7f7f", "marker": "s", "linestyle": "dashed"},
    "Dopri8": {"color": "#7f7f7f", "marker": "D", "linestyle": "dotted"},
    "Chebyshev": {"color": "#0072b2", "marker": "o"},
    "KernelImplicit": {"color": "#d55e00", "marker": "s"},
    "KernelExponential": {"color": "#009e73", "marker": "D"},
    "auto": {"color": "#000000", "marker": "x", "linestyle": "dotted"},
}


def draw_case(ax: Axes, kept: dict[str, Any], name: str) -> None:
    """One case: a line for each solver, a point for each tolerance.

    Args:
        ax: Axes to draw on.
        kept: Measurements.
        name: Name of the case.
    """
    drawn = []
    for solver, rows in runs_of(kept, name).items():
        points = [
            (row["equivalents"], compared_error(row))
            for row in sorted(rows, key=lambda row: row["rtol"])
            if row.get("reason") == "completed"
        ]
        if points:
            x, y = zip(*points, strict=True)
            ax.plot(x, y, label=solver, ms=5, **STYLES[solver])
            drawn += [*y]
    ax.set_xscale("log")
    log_scale(ax, np.asarray(drawn))
    start, end = (
        norm * kept["cases"][name]["reference"]["end"]
        for norm in kept["cases"][name]["reference"]["lambdas"]
    )
    exponent = f"{max(start, end):.0e}".replace("e+0", "·10^").replace("^", "$^") + "$"
    ax.set_title(f"{PANELS[name]}, λT = {exponent}", fontsize="medium")
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)


def draw(kept: dict[str, Any], path: Path) -> None:
    """Draws the panels that are measured.

    Args:
        kept: Measurements.
        path: A PNG file.

    Raises:
        ValueError: If none is.
    """
    names = [name for name in PANELS if name in kept["cases"] and runs_of(kept, name)]
    if not names:
        raise ValueError(f"Nothing to draw: measure one of {', '.join(PANELS)} first.")
    mpl.use("Agg")
    columns = min(2, len(names))
    lines = -(-len(names) // columns)
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(4.2 * columns, 3.1 * lines + 0.5),
        squeeze=False,
        layout="constrained",
    )
    for ax, name in zip(axes.flat, names, strict=False):
        draw_case(ax, kept, name)
    for ax in axes.flat[len(names) :]:
        ax.set_axis_off()
    for ax in axes[-1]:
        ax.set_xlabel("work, in gradients")
    for ax in axes[:, 0]:
        ax.set_ylabel("largest error of the outputs")
    found = {}
    for ax in axes.flat:
        found |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    ordered = [solver for solver in STYLES if solver in found]
    figure.legend(
        [found[solver] for solver in ordered],
        ordered,
        loc="outside lower center",
        ncols=4,
        frameon=False,
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)
