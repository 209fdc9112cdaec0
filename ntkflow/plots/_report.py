"""The report of a run: one HTML file, answers first, that needs nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.style as mpl_style
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ..simulate import Trajectory
from ..storage import write_text
from ._answers import answers_by_question, headline
from ._gap import compared_flows, output_gap
from ._numbers import Curves, first, last, last_time, middle, peak
from ._page import element, figure, page, settings, table
from ._panels import possible_panels
from ._read import (
    MEASURES,
    Run,
    dataset_of,
    flows_of,
    has,
    quantiles,
    read,
    times_of,
)
from ._style import flow_style, label_of
from ._svg import color_rules, to_svg
from ._words import number

_SIZE = (6.2, 4.0)
_MARGINS = {"left": 0.17, "right": 0.98, "bottom": 0.135, "top": 0.9}
"""Wide enough for two lines of label; finding the least margins would take longer than
all the rest of the report."""

_ENVIRONMENT = ("version_", "git_", "python", "platform", "device")


def report(run: Run | str | Path, out: str | Path, *, title: str = "") -> None:
    """Writes the report of a run: answers, pictures, final numbers, all settings.

    The file holds its pictures and loads nothing, needs no JavaScript, and is readable
    on light and on dark screens. It is written at once or not at all.

    Args:
        run: A run, its dataset, or the directory a run was saved in.
        out: The HTML file.
        title: Its title; if empty, that of its experiment, or what was trained.

    Verified by: tests/plots/test_report.py::test_report_loads_nothing
    """
    if isinstance(run, str | Path):
        run = Trajectory.load(run)
    stats = dict(run.stats) if isinstance(run, Trajectory) else {}
    write_text(out, render(dataset_of(run), stats, title))


def render(dataset: xr.Dataset, stats: dict[str, Any], title: str = "") -> str:
    """The report as text.

    Args:
        dataset: The dataset of a run.
        stats: Its statistics.
        title: The title; if empty, that of the run's experiment, or what was trained.

    Returns:
        The page.
    """
    title = title or _title(dataset)
    pictures = list(_pictures(dataset))
    svgs = [svg for svg, _ in pictures]
    body = [element("h1", title)]
    if "trained_on" in dataset.attrs:
        body.append(element("p", str(dataset.attrs["trained_on"])))
    if headline(dataset):
        body.append(element("p", f"{headline(dataset)}.", "headline"))
    for question, said in answers_by_question(dataset).items():
        body.append(element("h3", question))
        body.append(f"<ul>{''.join(element('li', _unbroken(s)) for s in said)}</ul>")
    if pictures:
        figures = "".join(figure(svg, caption) for svg, caption in pictures)
        body += [element("h2", "Pictures"), f'<div class="figures">{figures}</div>']
    body += _numbers(dataset)
    body += _settings(dataset, stats)
    dark = color_rules(svgs, dark=True)
    style = (
        f":root {{ {color_rules(svgs, dark=False)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    )
    return page(title, style, body)


def _unbroken(sentence: str) -> str:
    # No line ends between a number and its sign.
    return sentence.replace(" %", "\N{NO-BREAK SPACE}%").replace(
        " = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"
    )


def _title(dataset: xr.Dataset) -> str:
    attrs = dataset.attrs
    if attrs.get("title"):
        return str(attrs["title"])
    sizes = ("n_examples", "n_outputs", "n_params")
    if not all(name in attrs for name in sizes):
        return "A training run"
    n_examples, n_outputs, n_params = (int(attrs[name]) for name in sizes)
    plural = "s" if n_outputs > 1 else ""
    return (
        f"Training {n_params:,} parameters on {n_examples:,} examples with {n_outputs} "
        f"output{plural}"
    )


def _pictures(dataset: xr.Dataset) -> Iterator[tuple[str, str]]:
    # Neither the reader's style nor pyplot's list of figures is touched.
    with mpl_style.context("default"):
        for panel in possible_panels(dataset):
            fig = Figure(figsize=_SIZE)
            fig.subplots_adjust(**_MARGINS)
            ax = panel.draw(dataset, ax=fig.add_subplot())
            yield to_svg(fig, panel.name, ax.get_title()), panel.caption


def _numbers(dataset: xr.Dataset) -> list[str]:
    if dataset.sizes.get("time", 0) == 0:
        return []
    body = []
    if flows_of(dataset):
        body += [element("h2", "Final numbers of every flow"), _flow_table(dataset)]
    scalars = _scalars(dataset)
    if scalars:
        rows = [
            (label_of(dataset, name), *_cells(read(dataset, name))) for name in scalars
        ]
        head = ("measure", "first", "largest", "last")
        body += [element("h2", "Measures"), table(head, rows)]
    if "seed" in dataset.dims:
        note = "Medians over the seeds, in brackets their 10 % and 90 % quantiles."
        body.append(element("p", note, "soft"))
    return body


def _scalars(dataset: xr.Dataset) -> list[str]:
    """Variables that are one number at a time, the known ones first and in order."""
    found = [
        str(name)
        for name, array in dataset.data_vars.items()
        if set(array.dims) - {"seed"} == {"time"} and has(dataset, str(name))
    ]
    order = [*MEASURES, *sorted(found)]
    return sorted(found, key=order.index)


def _flow_table(dataset: xr.Dataset) -> str:
    columns: dict[str, tuple[str, str]] = {}
    for split, dim in (("train", "example"), ("test", "example_test")):
        columns[f"{split} loss per example"] = (f"loss_{split}", dim)
        columns[f"{split} accuracy"] = (f"accuracy_{split}", "")
    columns = {name: c for name, c in columns.items() if has(dataset, c[0])}
    compared = compared_flows(dataset)
    head = ["flow", "at t", *columns]
    if compared:
        head.append("largest distance from the network")
    times = times_of(dataset)
    rows = []
    for flow in flows_of(dataset):
        row = [flow_style(flow, dataset).label]
        some = next((c for c, _ in columns.values() if has(dataset, c, flow)), None)
        when = [] if some is None else last_time(read(dataset, some, flow), times)
        row.append(_median_and_range(np.asarray(when)))
        for variable, dim in columns.values():
            values = last(read(dataset, variable, flow))
            row.append(_median_and_range(values / dataset.sizes.get(dim, 1)))
        if compared:
            gap = peak(output_gap(dataset, flow)) if flow in compared else []
            row.append(_median_and_range(np.asarray(gap)))
        rows.append(row)
    return table(head, rows)


def _cells(curves: Curves) -> list[str]:
    return [_median_and_range(f(curves)) for f in (first, peak, last)]


def _median_and_range(values: np.ndarray) -> str:
    if not np.isfinite(values).any():
        return "–"
    text = number(middle(values))
    low, high = (number(float(edge)) for edge in quantiles(values, (0.1, 0.9)))
    return text if low == high else f"{text} [{low}, {high}]"


def _settings(dataset: xr.Dataset, stats: dict[str, Any]) -> list[str]:
    attrs = {str(name): value for name, value in dataset.attrs.items()}
    machine = {n: v for n, v in attrs.items() if n.startswith(_ENVIRONMENT)}
    described = {n: v for n, v in attrs.items() if n == "description"}
    chosen = {n: v for n, v in attrs.items() if n not in machine | described}
    parts = {
        "Experiment": described,
        "Settings": chosen,
        "Versions and machine": machine,
        "Work done": stats,
    }
    body = []
    for heading, entries in parts.items():
        if entries:
            body += [element("h2", heading), settings(entries)]
    return body
