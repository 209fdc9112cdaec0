"""How everything is drawn: a color for each flow, bands over seeds, axes of time."""

import math
import textwrap
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex, to_rgb
from matplotlib.ticker import FuncFormatter

from ._look import Look, data_lines, draw_legend
from ._read import (
    Run,
    Series,
    dataset_of,
    flow_kind,
    flows_of_kind,
    median,
    quantiles,
    read,
    times_of,
)

_DECADES = 2
"""Times that span more than this are drawn on a logarithmic axis."""

_PLAIN = (1e-4, 1e5)
"""Axes within these are labeled without powers."""

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_HEADROOM = 1.05
_BAND = (0.1, 0.9)
_LABEL_WIDTH = 34


class FlowStyle(NamedTuple):
    """How a flow is named and drawn, in every picture alike.

    Attributes:
        label: Its name in legends.
        color: A color of the palette of Okabe & Ito (2008), made for color-blind eyes.
        dashes: Of its line. Of two flows that theory says coincide, the second is
            dashed over the first, so that both are seen.
    """

    label: str
    color: str
    dashes: Any = "solid"


_OVER = (0, (2, 3))
_ALONE = (0, (1, 1))
_FLOWS = {
    "gradient": FlowStyle("network", "#0072b2"),
    "residual_evolving": FlowStyle("residual, evolving kernel", "#e69f00", _OVER),
    "residual_frozen": FlowStyle("residual, constant kernel", "#009e73"),
    "linearized": FlowStyle("linearized network", "#cc79a7", _OVER),
    "momentum": FlowStyle("network with momentum", "#d55e00"),
    "descent": FlowStyle("gradient descent", "#56b4e9", _OVER),
    "modified": FlowStyle("modified flow of descent", "#000000", _OVER),
}
_DASHES = {
    "gradient": "solid",
    "residual_evolving": _OVER,
    "residual_frozen": "dashed",
    "linearized": "dashdot",
    "momentum": (0, (6, 1)),
    "descent": (0, (4, 1, 1, 1, 1, 1)),
    "modified": (0, (1, 3)),
}
"""What tells flows apart where all of them have one color."""

_OTHER_COLOR = "#7f7f7f"
_DARKEST = 0.7
"""How far the last of several flows of a kind is darkened towards black."""


def flow_style(
    flow: str, dataset: xr.Dataset | None = None, color: Any = None
) -> FlowStyle:
    """Label, color and dashes of a flow.

    Args:
        flow: Its name.
        dataset: The dataset that tells its kind; without one the name does.
        color: A color that all flows have; they then differ in their dashes.

    Returns:
        The style of its kind, with the name where that is another, darker from one flow
        of the kind to the next; gray under its own name for a flow without a style.

    Verified by: tests/plots/test_flows.py::test_two_flows_of_a_kind_are_told_apart
    """
    kind = flow if dataset is None else flow_kind(dataset, flow)
    style = _FLOWS.get(kind, FlowStyle(flow, _OTHER_COLOR))
    if color is not None:
        style = FlowStyle(style.label, color, _DASHES.get(kind, _ALONE))
    alike = [flow] if dataset is None else flows_of_kind(dataset, kind)
    if flow not in alike or (kind == flow and len(alike) == 1):
        return style
    # The flow named after its kind keeps the color of the kind, the others follow.
    alike = sorted(alike, key=lambda name: name != kind)
    label = style.label if kind == flow else f"{style.label} ({flow})"
    light = 1 - _DARKEST * alike.index(flow) / max(len(alike) - 1, 1)
    red, green, blue = to_rgb(style.color)
    color = to_hex((light * red, light * green, light * blue))
    return FlowStyle(label, color, style.dashes)


def measured_color(dataset: xr.Dataset) -> str:
    """The color of the flow that the measures read.

    Args:
        dataset: The dataset.

    Returns:
        A color.
    """
    measured = str(dataset.attrs.get("measured_on", "gradient"))
    return flow_style(measured, dataset).color


def make_axes(ax: Axes | None) -> Axes:
    """The axes to draw on.

    Args:
        ax: Axes, or None for a new figure of pyplot.

    Returns:
        The axes.
    """
    if ax is not None:
        return ax
    return plt.subplots(layout="constrained")[1]


def draw(
    ax: Axes,
    dataset: xr.Dataset,
    values: Series,
    color: Any,
    look: Look,
    *,
    label: str | None = None,
    **line: Any,
) -> None:
    """Draws one variable over time; of an ensemble the median and a 10-90 % band.

    Args:
        ax: The axes.
        dataset: The dataset.
        values: The variable, a number at every seed and time.
        color: The color.
        look: What the caller asked for.
        label: What the line shows; empty if the figure shows nothing else, None if it
            has no entry in the legend.
        **line: Further properties of the line.

    Verified by: tests/plots/test_look.py::test_the_band_of_an_ensemble_is_explained
    """
    times = times_of(dataset)
    if len(times) == 1:
        line["marker"] = "o"
    shown = look.properties(color=color, **line)
    ax.plot(times, median(values), label=look.named(label), **shown)
    if len(values) > 1:
        low, high = quantiles(values, _BAND)
        told = f"10–90 % of {len(values)} seeds"
        if told in ax.get_legend_handles_labels()[1]:
            told = None
        color = shown["color"]
        ax.fill_between(
            times, low, high, color=color, alpha=0.2, linewidth=0, label=told
        )


def finish(ax: Axes, dataset: xr.Dataset, title: str, ylabel: str) -> Axes:
    """Labels the axes, the time axis logarithmic if the times span decades.

    All that is drawn counts, that of a run drawn before as well.

    Args:
        ax: The axes.
        dataset: The dataset.
        title: The title.
        ylabel: The label of the other axis.

    Returns:
        The axes.
    """
    drawn = [np.asarray(line.get_xdata(), float) for line in data_lines(ax)]
    times = np.unique(np.concatenate([times_of(dataset), *drawn]))
    positive = times[times > 0]
    if len(positive) > 1 and positive[-1] > 10**_DECADES * positive[0]:
        # A first save time of zero has no place there; lines begin at the next.
        ax.set_xscale("log", nonpositive="mask")
        ax.set_xlim(positive[0], positive[-1])
        _write_numbers_plainly(ax.xaxis)
    elif len(times) > 1:
        ax.set_xlim(times[0], times[-1])
    ax.set_xlabel(label_of(dataset, "time"))
    text, before = textwrap.fill(ylabel, _LABEL_WIDTH), ax.get_ylabel()
    ax.set_ylabel(text if before in {"", text} else f"{before}\n{text}")
    ax.set_title(title)
    draw_legend(ax)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def from_zero(ax: Axes) -> None:
    """Makes the vertical axis begin at zero and end a little above what is drawn.

    Args:
        ax: The axes.
    """
    top = float(ax.dataLim.ymax)
    ax.set_ylim(0, _HEADROOM * top if np.isfinite(top) and top > 0 else None)


def log_scale(ax: Axes, *families: Float[np.ndarray, "..."]) -> None:
    """Makes the vertical axis logarithmic, if anything drawn is positive.

    Args:
        ax: The axes.
        *families: The values drawn.
    """
    if any((values > 0).any() for values in families):
        ax.set_yscale("log", nonpositive="mask")
        _write_numbers_plainly(ax.yaxis)


def _write_numbers_plainly(axis: Axis) -> None:
    # 0.01 is read faster than a power, where a whole axis can be written so. Letters
    # are drawn much faster than a formula. Within one decade ticks between powers are
    # labeled too.
    def at(value: float, _: int | None) -> str:
        low, high = axis.get_view_interval()
        exponent = round(math.log10(value))
        plain = _PLAIN[0] <= low and high <= _PLAIN[1]
        if plain or not math.isclose(value, 10.0**exponent):
            return f"{value:g}"
        return f"10{str(exponent).translate(_SUPERSCRIPT)}"

    def between(value: float, _: int | None) -> str:
        low, high = axis.get_view_interval()
        return f"{value:g}" if high < 10 * low else ""

    axis.set_major_formatter(FuncFormatter(at))
    axis.set_minor_formatter(FuncFormatter(between))


def label_of(dataset: xr.Dataset, name: str) -> str:
    """A variable's name in words, and its units.

    Args:
        dataset: The dataset.
        name: The variable.

    Returns:
        The label, from the attributes.
    """
    attrs = dataset[name].attrs
    words, units = str(attrs.get("long_name", name)), str(attrs.get("units", "1"))
    return words if units == "1" else f"{words} ({units})"


def draw_one(
    run: Run, name: str, title: str, ax: Axes | None, look: Look, *, log: bool
) -> Axes:
    """A picture of one number over time, read off the measured flow.

    Args:
        run: A run or its dataset.
        name: The variable.
        title: The title.
        ax: Axes to draw on; a new figure if None.
        look: What the caller asked for.
        log: Whether its axis is logarithmic; if not, it begins at zero.

    Returns:
        The axes.
    """
    dataset = dataset_of(run)
    values = read(dataset, name)
    ax = make_axes(ax)
    color = look.colored(measured_color(dataset))
    draw(ax, dataset, values, color, look, label="", lw=2)
    if log:
        log_scale(ax, values)
    else:
        from_zero(ax)
    return finish(ax, dataset, title, label_of(dataset, name))
