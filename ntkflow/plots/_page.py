"""Pieces of a page of HTML that is also XML: everything closed, everything escaped."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

CSS = """
:root { color-scheme: light dark; --page: #fdfdfc; --ink: #1c1c1c; --soft: #5b5b5b;
  --line: #d9d9d6; --card: #f4f4f1; }
@media (prefers-color-scheme: dark) { :root { --page: #15171a; --ink: #e8e8e8;
  --soft: #a6a8ab; --line: #383b40; --card: #1d2024; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 76rem;
  background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .4rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; padding-bottom: .3rem;
  border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.3rem 0 .2rem; }
p, ul { max-width: 52rem; margin: .3rem 0; }
ul { padding-left: 1.2rem; }
.headline { font-size: 1.2rem; line-height: 1.45; max-width: 52rem; }
.soft, figcaption { color: var(--soft); font-size: .9rem; }
.figures { display: grid; gap: 1.4rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); }
figure { margin: 0; padding: .8rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .5rem; }
figure svg { display: block; width: 100%; height: auto; }
figure svg * { stroke-linejoin: round; stroke-linecap: butt; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; margin: .6rem 0; }
th, td { text-align: left; vertical-align: top; padding: .3rem .9rem .3rem 0;
  border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; }
"""

_LONG = 8
"""Values of more lines than this are folded."""


def page(title: str, style: str, body: Iterable[str]) -> str:
    """A whole page that may load nothing.

    Args:
        title: The title, as text.
        style: CSS after this room's own.
        body: Elements.

    Returns:
        The page.
    """
    # The policy forbids the browser any request, whatever the page might hold.
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return "\n".join([
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8"/>',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"/>',
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
        f"<title>{escape(title)}</title>",
        f"<style>{CSS}{style}</style>",
        "</head>",
        "<body>",
        *body,
        "</body>",
        "</html>",
        "",
    ])


def element(tag: str, text: str, css: str = "") -> str:
    """An element that holds text.

    Args:
        tag: Its name.
        text: Its text.
        css: Its class, if any.

    Returns:
        The element.
    """
    opening = f'{tag} class="{css}"' if css else tag
    return f"<{opening}>{escape(text)}</{tag}>"


def figure(svg: str, caption: str) -> str:
    """A picture with its caption.

    Args:
        svg: An `svg` element.
        caption: The caption, as text.

    Returns:
        The element.
    """
    return f"<figure>{svg}{element('figcaption', caption)}</figure>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column names its rows, the others being numbers.

    Args:
        head: The names of the columns.
        rows: Their entries.

    Returns:
        The element.
    """
    lines = [_row("th", head), *(_row("td", row) for row in rows)]
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>'


def settings(entries: Mapping[str, Any]) -> str:
    """A table of names and what they are set to.

    Args:
        entries: Values by name; written as they are printed.

    Returns:
        The element.
    """
    lines = [
        f"<tr>{element('td', name)}<td>{_value(str(value))}</td></tr>"
        for name, value in entries.items()
    ]
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>'


def _value(text: str) -> str:
    if text.count("\n") < _LONG:
        return element("pre", text)
    summary = element("summary", f"{text.splitlines()[0]} …")
    return f"<details>{summary}{element('pre', text)}</details>"


def _row(tag: str, entries: Sequence[str]) -> str:
    cells = [element(tag, entries[0])]
    cells += [element(tag, entry, "number") for entry in entries[1:]]
    return f"<tr>{''.join(cells)}</tr>"
