"""How a caller wants a run drawn: a name in the legend, one color, and its lines."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cbook import normalize_kwargs
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.lines import Line2D

_PALEST = 0.65
"""How far the last color of a family is mixed with white."""


@dataclass(frozen=True)
class Look:
    """What the caller of a figure asked for.

    Attributes:
        label: Name of the run in the legend; None if it has none.
        color: The one color of the run; None for the figure's own colors.
        line: Properties of matplotlib's lines, which replace the figure's own.
    """

    label: str | None = None
    color: Any = None
    line: Mapping[str, Any] = field(default_factory=dict)

    def named(self, own: str | None) -> str | None:
        """The label of a line in the legend.

        Args:
            own: What the line shows; empty if the figure shows nothing else, None if
                the line has no entry.

        Returns:
            The label behind the run's name, or None.
        """
        if own is None or self.label is None:
            return own or None
        return f"{self.label}: {own}" if own else self.label

    def colored(self, own: Any) -> Any:
        """The color of a line.

        Args:
            own: The figure's own color.

        Returns:
            A color.
        """
        return own if self.color is None else self.color

    def family(self, count: int) -> list[Any]:
        """Colors of an ordered family of lines.

        Args:
            count: How many.

        Returns:
            Colors from dark to light; shades of the run's color if it has one.

        Verified by: tests/plots/test_look.py::test_a_family_takes_shades_of_the_color
        """
        if self.color is None:
            return sequence_colors(count)
        rgb = np.array(to_rgb(self.color))
        whiteness = np.linspace(0, _PALEST, count)[:, None]
        return [to_hex(shade) for shade in rgb + whiteness * (1 - rgb)]

    def properties(self, **own: Any) -> dict[str, Any]:
        """Properties of a line, each under its full name.

        Args:
            **own: The figure's own.

        Returns:
            Those, with what the caller asked for in their place.
        """
        return {**_full_names(own), **_full_names(self.line)}


def _full_names(line: Mapping[str, Any]) -> dict[str, Any]:
    # `lw` and `linewidth` together are refused by matplotlib.
    return normalize_kwargs(dict(line), Line2D)


def sequence_colors(count: int) -> list[Any]:
    """Colors of an ordered family of lines, dark to light.

    Args:
        count: How many.

    Returns:
        Colors of viridis without its pale end.
    """
    return list(mpl.colormaps["viridis"](np.linspace(0, 0.85, count)))


def explain(ax: Axes, label: str, **line: Any) -> None:
    """Adds an entry to the legend that no single line of the axes stands for.

    Args:
        ax: The axes.
        label: The entry.
        **line: How its line looks.
    """
    if label not in ax.get_legend_handles_labels()[1]:
        # An empty collection is in the legend and nowhere else.
        ax.add_collection(LineCollection([], label=label, **line), autolim=False)


def data_lines(ax: Axes) -> list[Line2D]:
    """The lines of the axes that are drawn in its data's units.

    Args:
        ax: The axes.

    Returns:
        Lines; not those of `axhline` and the like.
    """
    return [line for line in ax.lines if line.get_transform() == ax.transData]


def draw_legend(ax: Axes, **place: Any) -> int:
    """The legend of all that is drawn, each entry once: lines before bands.

    Args:
        ax: The axes.
        **place: Where it stands, as matplotlib takes it.

    Returns:
        The number of entries.
    """
    entries: dict[Any, tuple[Any, str]] = {}
    for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
        entries.setdefault((label, *_appearance(handle)), (handle, label))
    if entries:
        ordered = sorted(entries.values(), key=lambda entry: _is_band(entry[0]))
        handles, labels = zip(*ordered, strict=True)
        ax.legend(handles, labels, frameon=False, fontsize="small", **place)
    return len(entries)


def _is_band(handle: Any) -> bool:
    return not isinstance(handle, Line2D | LineCollection)


def _appearance(handle: Any) -> tuple[Any, ...]:
    """What tells two entries of one label apart."""
    if not isinstance(handle, Line2D):
        return ()
    color = to_hex(handle.get_color())
    return color, handle.get_linestyle(), handle.get_marker()
