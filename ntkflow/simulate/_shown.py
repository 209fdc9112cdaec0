"""A run as a table: for pandas, and for a notebook."""

from html import escape

import numpy as np
import pandas as pd
import xarray as xr

_SPLITS = ("train", "test")
_ROW = "<tr><th style='text-align: left'>{}</th>{}</tr>"
_CELL = "<td style='text-align: left'>{}</td>"


def to_frame(dataset: xr.Dataset) -> pd.DataFrame:
    """The numbers of a run, one row for each flow and save time.

    Args:
        dataset: The dataset of a run.

    Returns:
        Columns `flow`, `time` (and `seed` first, of an ensemble), the losses and
        accuracies with their errors, and the measures that are one number at a time,
        which are NaN in the rows of flows that they were not read off.
    """
    # Of flows without outputs, which have no place on the axis, it is empty.
    lead = [dim for dim in ("seed", "flow", "time") if dim in dataset.dims]
    if not dataset.sizes.get("flow"):
        lead = [dim for dim in lead if dim != "flow"]
    numbers = dataset[
        [
            name
            for name, variable in dataset.data_vars.items()
            if "time" in variable.dims and set(variable.dims) <= set(lead)
        ]
    ]
    numbers = numbers.drop_vars([name for name in numbers.coords if name not in lead])
    measured = dataset.attrs.get("measured_on")
    if "flow" in lead:
        if measured not in dataset["flow"].values:
            measured = dataset["flow"].values[0]
        own = numbers["flow"] == measured
        numbers = numbers.map(lambda v: v if "flow" in v.dims else v.where(own))
    return numbers.to_dataframe(dim_order=lead).reset_index()


def to_html(dataset: xr.Dataset, reason: str) -> str:
    """A run as a small table of HTML.

    Args:
        dataset: The dataset of a run.
        reason: Why it ended.

    Returns:
        One element; everything in it is escaped.
    """
    times, attrs = dataset["time"].values, dataset.attrs
    saved = str(len(times))
    if len(times):
        saved += f", from t = {times[0]:.3g} to {times[-1]:.3g}"
    sizes = [
        f"{int(attrs[name]):,} {word}"
        for name, word in (
            ("n_params", "parameters"),
            ("n_examples", "examples"),
            ("n_outputs", "outputs"),
        )
        if name in attrs
    ]
    if "seed" in dataset.dims:
        sizes.append(f"{dataset.sizes['seed']} seeds")
    rows = {
        "ended": reason,
        "save times": saved,
        "sizes": ", ".join(sizes),
        "measures": str(attrs.get("measures") or "none"),
    }
    facts = "".join(_row(name, [text]) for name, text in rows.items())
    return f"<div><b>Trajectory</b><table>{facts}</table>{_losses(dataset)}</div>"


def _losses(dataset: xr.Dataset) -> str:
    """The last losses and accuracies of every flow."""
    names = [f"{what}_{split}" for what in ("loss", "accuracy") for split in _SPLITS]
    names = [name for name in names if name in dataset]
    if not dataset.sizes["time"] or "flow" not in dataset.dims or not names:
        return ""
    head = "".join(_CELL.format(escape(f"last {n.replace('_', ' ')}")) for n in names)
    rows = [_ROW.format("flow", head)]
    for flow in dataset["flow"].values:
        lasts = [_last(dataset[name].sel(flow=flow)) for name in names]
        rows.append(_row(str(flow), lasts))
    return f"<table>{''.join(rows)}</table>"


def _last(curve: xr.DataArray) -> str:
    """The last finite number; of an ensemble the median of the members'."""
    values = np.atleast_2d(curve.transpose(..., "time").values)
    ends = [row[np.isfinite(row)][-1] for row in values if np.isfinite(row).any()]
    return f"{np.median(ends):.3g}" if ends else "–"


def _row(name: str, cells: list[str]) -> str:
    return _ROW.format(escape(name), "".join(_CELL.format(escape(c)) for c in cells))
