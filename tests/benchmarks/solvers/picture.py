"""Work against precision as a picture, from saved measurements."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from ntkflow.plots._style import log_scale

from .growth import RTOL
from .table import compared_error, runs_of

PANELS = {
    "tanh-64": "100 digits, width 64",
    "tanh-512-lazy": "100 digits, width 512, lazy",
    "cross-entropy": "200 digits, cross-entropy",
}
"""Cases drawn, with their titles; a last panel is of the growth with λ_max·T."""

# The palette of Okabe & Ito (2008), as for flows; explicit methods in its grays.
STYLES: dict[str, dict[str, Any]] = {
    "Tsit5": {"color": "#7f7f7f", "marker": "o"},
    "Dopri5": {"color": "#7f7f7f", "marker": "s", "linestyle": "dashed"},
    "Dopri8": {"color": "#7f7f7f", "marker": "D", "linestyle": "dotted"},
    "Chebyshev": {"color": "#0072b2", "marker": "o"},
    "Rock4": {"color": "#56b4e9", "marker": "^"},
    "KernelImplicit": {"color": "#d55e00", "marker": "s"},
    "KernelExponential": {"color": "#009e73", "marker": "D"},
    "auto": {"color": "#000000", "marker": "x", "linestyle": "dotted"},
}


_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def _power(value: float) -> str:
    digit, exponent = f"{value:.0e}".split("e+")
    power = "10" + str(int(exponent)).translate(_SUPERSCRIPT)
    return power if digit == "1" else f"{digit}·{power}"


def _log_axes(ax: Axes, x: Sequence[float], y: Sequence[float]) -> None:
    """Logarithmic axes over whole decades."""
    ax.set_xscale("log")
    log_scale(ax, np.asarray(y))
    ax.set_xlim(_decades(x))
    ax.set_ylim(_decades(y))


def _decades(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.log10(min(values)), np.log10(max(values))
    # A hair more, so that what lies at the edge is seen.
    return 10 ** (np.floor(low) - 0.05), 10 ** (np.ceil(high) + 0.05)


def draw_case(ax: Axes, kept: dict[str, Any], name: str) -> None:
    """One case: a line for each solver, a point for each tolerance.

    Args:
        ax: Axes to draw on.
        kept: Measurements.
        name: Name of the case.
    """
    work: list[float] = []
    drawn: list[float] = []
    for solver, rows in runs_of(kept, name).items():
        points = [
            (row["equivalents"], compared_error(row))
            for row in sorted(rows, key=lambda row: row["rtol"])
            if row.get("reason") == "completed"
        ]
        if points:
            x, y = zip(*points, strict=True)
            ax.plot(x, y, label=solver, ms=5, **STYLES[solver])
            work += x
            drawn += y
    _log_axes(ax, work, drawn)
    stiffness = _power(kept["cases"][name]["stiffness"])
    ax.set_title(f"{PANELS[name]}, λT = {stiffness}", fontsize="medium")
    ax.set_xlabel("work, in gradients")
    ax.set_ylabel("largest error of the outputs")


def draw_growth(ax: Axes, rows: list[dict[str, Any]]) -> None:
    """CPU seconds over λ_max·T: a line for each solver.

    Args:
        ax: Axes to draw on.
        rows: Runs at several values of it.
    """
    reached: list[float] = []
    drawn: list[float] = []
    for solver in dict.fromkeys(row["solver"] for row in rows):
        own = [row for row in rows if row["solver"] == solver]
        points = sorted(
            (row["stiffness"], row["cpu"])
            for row in own
            if row["reason"] == "completed"
        )
        x, y = zip(*points, strict=True)
        ax.plot(x, y, label=solver, ms=5, **STYLES[solver])
        reached += x
        drawn += y
    _log_axes(ax, reached, drawn)
    ax.set_title(f"100 digits, width 64, rtol = {RTOL:g}", fontsize="medium")
    ax.set_xlabel("λT")
    ax.set_ylabel("CPU seconds")


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
    count = len(names) + bool(kept["growth"])
    columns = min(2, count)
    lines = -(-count // columns)
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(4.2 * columns, 3.2 * lines + 0.5),
        squeeze=False,
        layout="constrained",
    )
    for ax, name in zip(axes.flat, names, strict=False):
        draw_case(ax, kept, name)
    if kept["growth"]:
        draw_growth(axes.flat[len(names)], kept["growth"])
    for ax in axes.flat[count:]:
        ax.set_axis_off()
    for ax in axes.flat[:count]:
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    found = {}
    for ax in axes.flat:
        found |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    ordered = [solver for solver in STYLES if solver in found]
    figure.legend(
        [found[solver] for solver in ordered],
        ordered,
        loc="outside lower center",
        ncols=3,
        frameon=False,
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)
