"""A matplotlib figure as SVG inside a page that may be light or dark.

Every color of the figure becomes a CSS variable. On a light page it has its own value;
on a dark one a twin of the same hue that is light enough to be read.
"""

import io
import re
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

_STYLE: Any = {
    "svg.fonttype": "path",  # looks the same whatever fonts the reader has
    "svg.hashsalt": "ntkflow",  # equal figures give equal files
}
_INK = "#000000"
_READABLE = 0.3
"""Relative luminance of the dark page's twins: contrast above 6 on a black page."""

_COLOR = re.compile(r"#[0-9a-fA-F]{6}\b")
_PATH = re.compile(r'\bd="[^"]*"')
_NUMBER = re.compile(r"-?\d+\.\d{3,}")


def to_svg(fig: Figure, prefix: str, label: str) -> str:
    """A figure as an `svg` element that needs nothing outside itself.

    Args:
        fig: The figure.
        prefix: Begins every id in it, since a page may hold many figures.
        label: What the picture shows, for those who do not see it.

    Returns:
        The element; its colors are CSS variables, see `color_rules`.
    """
    stream = io.StringIO()
    with mpl.rc_context(_STYLE):
        # No metadata: it would hold addresses and the date.
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        fig.savefig(stream, format="svg", transparent=True, metadata=nothing)
    text = stream.getvalue()
    start = text.index(">", text.index("<svg")) + 1
    # In a page, names need no namespace, and the page's own style comes first.
    text = text[start:].replace("xlink:href", "href")
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-").replace('="#', f'="#{prefix}-')
    text = _PATH.sub(lambda path: _NUMBER.sub(_shorten, path[0]), text)
    width, height = 72 * fig.get_size_inches()
    opening = (
        f'<svg role="img" aria-label="{escape(label, quote=True)}" '
        f'viewBox="0 0 {width:g} {height:g}" style="fill: {_INK}">'
    )
    return _COLOR.sub(lambda match: f"var(--{_name(match[0])})", opening + text).strip()


def color_rules(svgs: list[str], *, dark: bool) -> str:
    """The CSS declarations of every color that some pictures use.

    Args:
        svgs: Pictures from `to_svg`.
        dark: Whether for a dark page.

    Returns:
        Declarations of custom properties.
    """
    names = sorted({n for svg in svgs for n in re.findall(r"var\(--(c\w{6})\)", svg)})
    colors = [f"#{name[1:]}" for name in names]
    values = [dark_twin(color) if dark else color for color in colors]
    return " ".join(f"--{n}: {v};" for n, v in zip(names, values, strict=True))


def dark_twin(color: str) -> str:
    """The same hue, mixed with white until it can be read on a dark page.

    Args:
        color: As `#rrggbb`.

    Returns:
        A color of the same form.

    Verified by: tests/plots/test_svg.py::test_dark_twins_are_light_enough
    """
    if color.lower() == _INK:
        return "#e8e8e8"
    rgb = np.array(to_rgb(color))
    for whiteness in np.linspace(0, 1, 21):
        mixed = rgb + whiteness * (1 - rgb)
        if luminance(mixed) >= _READABLE:
            return to_hex(mixed)
    return "#ffffff"


def luminance(rgb: np.ndarray) -> float:
    """The relative luminance of a color, as WCAG 2 defines it.

    Args:
        rgb: Red, green and blue between 0 and 1.

    Returns:
        Between 0, black, and 1, white.
    """
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ np.array([0.2126, 0.7152, 0.0722]))


def _shorten(match: re.Match[str]) -> str:
    return f"{float(match[0]):.2f}"


def _name(color: str) -> str:
    return f"c{color[1:].lower()}"
