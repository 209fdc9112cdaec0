"""Several runs in one figure, a color for each."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from ._answers_picture import constant_flow
from ._answers_training import measured_flow
from ._gap import network_of
from ._look import sequence_colors
from ._panels import PANELS
from ._read import Run, dataset_of, preferred, times_of

_PANELS = 6
_HIDDEN = "_"
"""Labels that begin so are left out of legends: the figure's own names the runs."""


def compare(
    runs: Sequence[Run] | xr.Dataset,
    labels: Sequence[Any] | None = None,
    fig: Figure | None = None,
    **line: Any,
) -> Figure:
    """Runs side by side: loss, motion of the kernel, what a constant kernel misses.

    Every panel shows one quantity, with one color a run: loss and accuracy of the
    measured flow, the drift, speed and alignment of the kernel, the error of the
    constant-kernel picture, and others where these are missing. A run that lacks a
    quantity is left out of its panel. Dots are as in `kernel_drift`.

    Args:
        runs: Runs or their datasets, of whatever flows, measures and save times; or a
            dataset of `nf.concat`.
        labels: One a run, for the legend; by default the labels of the dimension of
            `nf.concat`, else "run 1", "run 2", ….
        fig: An empty figure to draw on; a new one of pyplot if None.
        **line: Properties of matplotlib's lines.

    Returns:
        The figure.

    Raises:
        ValueError: If there are no runs, not one label a run, or nothing to draw.

    Verified by: tests/plots/test_compare.py::test_every_run_has_its_line_in_every_panel
    """
    if isinstance(runs, xr.Dataset):
        runs, found = _members(runs)
        labels = found if labels is None else labels
    datasets = [dataset_of(run) for run in runs]
    if not datasets:
        raise ValueError("compare needs at least one run, got none.")
    if labels is None:
        labels = [f"run {i + 1}" for i in range(len(datasets))]
    if len(labels) != len(datasets):
        raise ValueError(
            f"labels needs one for each of the {len(datasets)} runs, got {len(labels)}."
        )
    for dataset in datasets:
        times_of(dataset)
    panels = _panels(datasets)
    if not panels:
        raise ValueError(
            "The runs hold nothing that compare draws: simulate with at least one flow "
            "that has outputs, or with a measure."
        )
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    rows = -(-len(panels) // columns)
    if fig is None:
        layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08)
        fig = plt.figure(figsize=(4.2 * columns, 3.4 * rows + 0.4), layout=layout)
    colors = sequence_colors(len(datasets))
    for i, (draw, shown) in enumerate(panels):
        ax = fig.add_subplot(rows, columns, i + 1)
        for dataset, color in zip(shown, colors, strict=True):
            if dataset is not None:
                draw(dataset, ax=ax, label=_HIDDEN, color=color, **line)
    handles = [
        Line2D([], [], color=color, lw=2, label=str(label))
        for color, label in zip(colors, labels, strict=True)
    ]
    fig.legend(handles=handles, loc="outside upper center", ncols=5, frameon=False)
    return fig


def _members(together: xr.Dataset) -> tuple[list[xr.Dataset], list[str]]:
    """The runs of a dataset of `concat`, and their labels."""
    along = str(together.attrs.get("concatenated_along"))
    if along not in together.dims:
        raise ValueError(
            "compare takes several runs, [run1, run2], or the dataset that "
            "nf.concat(runs, dim) makes of them; got the dataset of one run."
        )
    names = [_label(along, value.item()) for value in together[along]]
    return [together.isel({along: i}) for i in range(len(names))], names


def _label(along: str, value: Any) -> str:
    return f"{along} = {value:g}" if isinstance(value, float) else f"{along} = {value}"


def _panels(
    datasets: Sequence[xr.Dataset],
) -> list[tuple[Callable[..., Any], list[xr.Dataset | None]]]:
    """Functions that draw, with what they draw of each run, None for nothing."""
    found = []
    for name, reduce in _QUANTITIES.items():
        (panel,) = (panel for panel in PANELS if panel.name == name)
        shown = [reduce(dataset) for dataset in datasets]
        shown = [d if panel.is_possible(d) else None for d in shown]
        if any(dataset is not None for dataset in shown):
            found.append((panel.draw, shown))
    return found[:_PANELS]


def _of_measured(dataset: xr.Dataset) -> xr.Dataset:
    flow = measured_flow(dataset)
    return dataset if flow is None else dataset.sel(flow=[flow])


def _against_constant(dataset: xr.Dataset) -> xr.Dataset:
    flow, network = constant_flow(dataset), network_of(dataset)
    if flow is None:
        return dataset.drop_vars("f_train", errors="ignore")
    return dataset.sel(flow=[network, flow])


def _only(name: str, *others: str) -> Callable[[xr.Dataset], xr.Dataset]:
    """Leaves one variable of a kernel, without those drawn beside it."""

    def reduce(dataset: xr.Dataset) -> xr.Dataset:
        kept = preferred(dataset, name)
        beside = [name, f"{name}_trace", *others, *(f"{o}_trace" for o in others)]
        drop = [variable for variable in beside if variable != kept]
        return dataset.drop_vars(drop, errors="ignore")

    return reduce


_QUANTITIES: dict[str, Callable[[xr.Dataset], xr.Dataset]] = {
    "loss": _of_measured,
    "kernel_drift": _only("kernel_drift", "kernel_distance"),
    "alignment": _only("alignment_centered", "alignment"),
    "residual_gap": _against_constant,
    "accuracy": _of_measured,
    "kernel_velocity": _only("kernel_velocity"),
    "effective_rank": _only("effective_rank"),
    "sharpness": _only("sharpness"),
    "linearization_gap": _only("linearization_gap"),
    "energy_defect": _only("energy_defect"),
}
"""Figures that show one number a run, in order, and what each is given to draw."""
