"""Pictures that compare the flows: loss, accuracy, distance from the network."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from ._gap import compared_flows, network_of, output_gap, scale_in_words
from ._read import (
    Run,
    Series,
    dataset_of,
    examples_in,
    flows_of,
    has,
    read,
    require_any,
    times_of,
)
from ._style import draw, finish, flow_style, from_zero, log_scale, make_axes

_SPLITS = {"train": (3.0, "training set"), "test": (1.0, "test set")}
"""Width of the line and label of each set."""

_LEAST_SHARE = 0.1
"""Where a band of error ends below, as a share of the value."""

_LINES = 2.0
"""Where matplotlib draws lines among other things."""


def loss(run: Run, ax: Axes | None = None) -> Axes:
    """The loss of every flow, as a mean over examples; thin on the test set.

    A shaded band is the estimated error of integrating the training loss, where it is
    wide enough to be seen.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.

    Returns:
        The axes.

    Verified by: tests/plots/test_flows.py::test_loss_draws_the_mean_over_examples
    """
    dataset = dataset_of(run)
    require_any(dataset, ["loss_train"])
    ax = make_axes(ax)
    drawn = _draw_flows(ax, dataset, "loss", per_example=True)
    if all((values[np.isfinite(values)] >= 0).all() for values in drawn):
        log_scale(ax, *drawn)
    return _finish_flows(ax, dataset, "Loss", "loss per example")


def accuracy(run: Run, ax: Axes | None = None) -> Axes:
    """The accuracy of every flow; thin on the test set.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.

    Returns:
        The axes.
    """
    dataset = dataset_of(run)
    require_any(dataset, ["accuracy_train", "accuracy_test"])
    ax = make_axes(ax)
    _draw_flows(ax, dataset, "accuracy", per_example=False)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    return _finish_flows(ax, dataset, "Accuracy", "examples classified correctly")


def residual_gap(run: Run, ax: Axes | None = None) -> Axes:
    """How far every flow's training outputs are from the network's.

    The distance is ‖r_flow − r_gradient‖/‖r₀‖ over examples and outputs, with r₀ the
    residual at the first save time (for other losses than the squared error, the
    largest change of the network's outputs in its place). With the constant kernel, or
    linearized, it is the error of the constant-kernel picture; with the evolving kernel
    it is the error of the solver.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.

    Returns:
        The axes.

    Raises:
        ValueError: If there is no gradient flow, or nothing to compare with it.

    Verified by: tests/plots/test_gap.py::test_gap_matches_the_loop
    """
    dataset = dataset_of(run)
    read(dataset, "f_train", network_of(dataset))
    names = compared_flows(dataset)
    if not names:
        raise ValueError(
            "The dataset has no flow to compare with the network: add "
            'nf.flows.Residual("frozen") or nf.flows.Linearized() to the flows.'
        )
    ax = make_axes(ax)
    drawn = []
    for name in names:
        style = flow_style(name, dataset)
        drawn.append(output_gap(dataset, name))
        line = {"label": style.label, "ls": style.dashes, "lw": 2.5}
        draw(ax, dataset, drawn[-1], style.color, **line)
    log_scale(ax, *drawn)
    ylabel = f"distance of outputs, relative to {scale_in_words(dataset)}"
    finish(ax, dataset, "Distance from the network", ylabel)
    ax.legend(frameon=False, fontsize="small")
    return ax


def linearization_gap(run: Run, ax: Axes | None = None) -> Axes:
    """The gap rms(f − f_lin)/rms(y) to the linearized network; thin on the test set.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.

    Returns:
        The axes.
    """
    dataset = dataset_of(run)
    names = require_any(dataset, ["linearization_gap", "linearization_gap_test"])
    ax = make_axes(ax)
    color = flow_style("linearized").color
    for name in names:
        width, label = _SPLITS["test" if name.endswith("_test") else "train"]
        draw(ax, dataset, read(dataset, name), color, lw=width, label=label)
    ylabel = "rms difference, relative to the rms target"
    from_zero(ax)
    return finish(ax, dataset, "Gap to the linearized network", ylabel)


def _draw_flows(
    ax: Axes, dataset: xr.Dataset, quantity: str, *, per_example: bool
) -> list[Series]:
    drawn = []
    for flow in flows_of(dataset):
        style = flow_style(flow, dataset)
        # What is dashed goes over what is solid, in whatever order flows were asked.
        above = 0.0 if style.dashes == "solid" else 0.1
        for split, (width, _) in _SPLITS.items():
            name = f"{quantity}_{split}"
            if not has(dataset, name, flow):
                continue
            values = read(dataset, name, flow)
            if per_example:
                values = values / examples_in(dataset, split)
            line = {"lw": width, "ls": style.dashes, "zorder": _LINES + above}
            draw(ax, dataset, values, style.color, **line)
            drawn.append(values)
            error = f"{name}_error"
            if has(dataset, error, flow) and len(values) == 1:
                wrong = read(dataset, error, flow)
                if per_example:
                    wrong = wrong / examples_in(dataset, split)
                _draw_error(ax, dataset, values[0], wrong[0], style.color)
    return drawn


def _draw_error(
    ax: Axes, dataset: xr.Dataset, values: np.ndarray, wrong: np.ndarray, color: Any
) -> None:
    """A band of the estimated error; an axis may be logarithmic, so above zero."""
    low = np.maximum(values - wrong, _LEAST_SHARE * values)
    ax.fill_between(
        times_of(dataset), low, values + wrong, color=color, alpha=0.2, linewidth=0
    )


def _finish_flows(ax: Axes, dataset: xr.Dataset, title: str, ylabel: str) -> Axes:
    # One entry a flow and one a data set, not one a line.
    handles = [
        Line2D([], [], color=s.color, ls=s.dashes, lw=2, label=s.label)
        for s in (flow_style(flow, dataset) for flow in flows_of(dataset))
    ]
    quantity = title.lower()
    handles += [
        Line2D([], [], color="gray", lw=width, label=label)
        for split, (width, label) in _SPLITS.items()
        if f"{quantity}_{split}" in dataset
    ]
    finish(ax, dataset, title, ylabel)
    ax.legend(handles=handles, frameon=False, fontsize="small")
    return ax
