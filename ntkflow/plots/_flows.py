"""Pictures that compare the flows: loss, accuracy, distance from the network."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from ._gap import compared_flows, network_of, output_gap, scale_in_words
from ._look import Look, data_lines, explain
from ._read import (
    Run,
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


def loss(
    run: Run,
    ax: Axes | None = None,
    *,
    label: str | None = None,
    color: Any = None,
    **line: Any,
) -> Axes:
    """The loss of every flow, as a mean over examples; thin on the test set.

    A shaded band is the estimated error of integrating the training loss, where it is
    wide enough to be seen.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.
        label: Name of the run in the legend.
        color: One color for all of the run.
        **line: Properties of matplotlib's lines.

    Returns:
        The axes.

    Verified by: tests/plots/test_flows.py::test_loss_draws_the_mean_over_examples
    """
    dataset, look = dataset_of(run), Look(label, color, line)
    require_any(dataset, ["loss_train"])
    ax = make_axes(ax)
    _draw_flows(ax, dataset, "loss", look, per_example=True)
    # Those of a run drawn before as well.
    drawn = [np.asarray(line.get_ydata(), float) for line in data_lines(ax)]
    if all((values[np.isfinite(values)] >= 0).all() for values in drawn):
        log_scale(ax, *drawn)
    else:
        ax.set_yscale("linear")
    return _finish_flows(ax, dataset, "Loss", "loss per example")


def accuracy(
    run: Run,
    ax: Axes | None = None,
    *,
    label: str | None = None,
    color: Any = None,
    **line: Any,
) -> Axes:
    """The accuracy of every flow; thin on the test set.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.
        label: Name of the run in the legend.
        color: One color for all of the run.
        **line: Properties of matplotlib's lines.

    Returns:
        The axes.
    """
    dataset, look = dataset_of(run), Look(label, color, line)
    require_any(dataset, ["accuracy_train", "accuracy_test"])
    ax = make_axes(ax)
    _draw_flows(ax, dataset, "accuracy", look, per_example=False)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    return _finish_flows(ax, dataset, "Accuracy", "examples classified correctly")


def residual_gap(
    run: Run,
    ax: Axes | None = None,
    *,
    label: str | None = None,
    color: Any = None,
    **line: Any,
) -> Axes:
    """How far every flow's training outputs are from the network's.

    The distance is ‖r_flow − r_gradient‖/‖r₀‖ over examples and outputs, with r₀ the
    residual at the first save time (for other losses than the squared error, the
    largest change of the network's outputs in its place). With the constant kernel, or
    linearized, it is the error of the constant-kernel picture; with the evolving kernel
    it is the error of the solver.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.
        label: Name of the run in the legend.
        color: One color for all of the run.
        **line: Properties of matplotlib's lines.

    Returns:
        The axes.

    Raises:
        ValueError: If there is no gradient flow, or nothing to compare with it.

    Verified by: tests/plots/test_gap.py::test_gap_matches_the_loop
    """
    dataset, look = dataset_of(run), Look(label, color, line)
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
        style = flow_style(name, dataset, color)
        drawn.append(output_gap(dataset, name))
        own = {"label": style.label, "ls": style.dashes, "lw": 2.5}
        draw(ax, dataset, drawn[-1], style.color, look, **own)
    log_scale(ax, *drawn)
    ylabel = f"distance of outputs, relative to {scale_in_words(dataset)}"
    return finish(ax, dataset, "Distance from the network", ylabel)


def linearization_gap(
    run: Run,
    ax: Axes | None = None,
    *,
    label: str | None = None,
    color: Any = None,
    **line: Any,
) -> Axes:
    """The gap rms(f − f_lin)/rms(y) to the linearized network; thin on the test set.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.
        label: Name of the run in the legend.
        color: One color for all of the run.
        **line: Properties of matplotlib's lines.

    Returns:
        The axes.
    """
    dataset, look = dataset_of(run), Look(label, color, line)
    names = require_any(dataset, ["linearization_gap", "linearization_gap_test"])
    ax = make_axes(ax)
    chief = look.colored(flow_style("linearized").color)
    for name in names:
        width, own = _SPLITS["test" if name.endswith("_test") else "train"]
        draw(ax, dataset, read(dataset, name), chief, look, label=own, lw=width)
    ylabel = "rms difference, relative to the rms target"
    from_zero(ax)
    return finish(ax, dataset, "Gap to the linearized network", ylabel)


def _draw_flows(
    ax: Axes, dataset: xr.Dataset, quantity: str, look: Look, *, per_example: bool
) -> None:
    for flow in flows_of(dataset):
        style = flow_style(flow, dataset, look.color)
        label: str | None = style.label
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
            draw(ax, dataset, values, style.color, look, label=label, **line)
            label = None  # one entry a flow and one a data set, not one a line
            error = f"{name}_error"
            if has(dataset, error, flow) and len(values) == 1:
                wrong = read(dataset, error, flow)
                if per_example:
                    wrong = wrong / examples_in(dataset, split)
                _draw_error(ax, dataset, values[0], wrong[0], style.color)


def _draw_error(
    ax: Axes, dataset: xr.Dataset, values: np.ndarray, wrong: np.ndarray, color: Any
) -> None:
    """A band of the estimated error; an axis may be logarithmic, so above zero."""
    low = np.maximum(values - wrong, _LEAST_SHARE * values)
    ax.fill_between(
        times_of(dataset), low, values + wrong, color=color, alpha=0.2, linewidth=0
    )


def _finish_flows(ax: Axes, dataset: xr.Dataset, title: str, ylabel: str) -> Axes:
    for split, (width, label) in _SPLITS.items():
        if f"{title.lower()}_{split}" in dataset:
            explain(ax, label, color="gray", lw=width)
    return finish(ax, dataset, title, ylabel)
