"""Pictures of the kernel: how far it moved, how fast, and in which directions."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from ._answers_training import measured_flow
from ._look import Look, draw_legend
from ._numbers import half_time, middle
from ._read import (
    Run,
    dataset_of,
    has,
    median,
    preferred,
    read,
    require_any,
    times_of,
)
from ._style import (
    draw,
    draw_one,
    finish,
    flow_style,
    from_zero,
    label_of,
    log_scale,
    make_axes,
    measured_color,
)
from ._words import ordinal


def kernel_drift(
    run: Run,
    ax: Axes | None = None,
    *,
    label: str | None = None,
    color: Any = None,
    **line: Any,
) -> Axes:
    """How far the kernel moved: relative drift, and distance up to scale.

    Of several outputs the trace kernel, if it was read; the kernel over examples and
    outputs is then thin. A dot marks the first save time at which the drift had reached
    half of its last value.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.
        label: Name of the run in the legend.
        color: One color for all of the run.
        **line: Properties of matplotlib's lines.

    Returns:
        The axes.

    Verified by: tests/plots/test_kernel.py::test_half_of_the_drift_is_marked
    """
    dataset, look = dataset_of(run), Look(label, color, line)
    require_any(dataset, _both("kernel_drift", "kernel_distance"))
    ax = make_axes(ax)
    labels = {
        "kernel_drift": ("‖Θ − Θ₀‖/‖Θ₀‖", "solid"),
        "kernel_distance": ("1 − cos(Θ, Θ₀)", "dashed"),
    }
    _draw_both(ax, dataset, labels, look)
    from_zero(ax)
    name = preferred(dataset, "kernel_drift")
    if has(dataset, name):
        drift, times = read(dataset, name), times_of(dataset)
        half = middle(half_time(drift, times))
        if 0 < half < times[-1]:
            there = np.interp(half, times, median(drift))
            told = look.named(f"half of that by t = {half:.3g}")
            own = look.colored(measured_color(dataset))
            ax.plot([half], [there], "o", color=own, label=told)
    ylabel = "change relative to the initial kernel"
    return finish(ax, dataset, "How far the kernel moved", ylabel)


def _both(*names: str) -> list[str]:
    # Variables of the kernel over examples and outputs, then the trace kernel's.
    return [*names, *(f"{name}_trace" for name in names)]


def _draw_both(
    ax: Axes, dataset: xr.Dataset, labels: dict[str, tuple[str, str]], look: Look
) -> None:
    """Draws variables of the kernel that speaks, and thin those of the other."""
    color = look.colored(measured_color(dataset))
    first = [preferred(dataset, name) for name in labels]
    lines = dict(zip(first, labels.values(), strict=True))
    for name, (label, dashes) in lines.items():
        if name in dataset:
            values = read(dataset, name)
            draw(ax, dataset, values, color, look, label=label, ls=dashes, lw=2)
    for name, (label, dashes) in labels.items():
        if name not in lines and has(dataset, name):
            values = read(dataset, name)
            label = f"{label}, all outputs apart"
            draw(ax, dataset, values, color, look, label=label, ls=dashes, lw=0.8)


def kernel_velocity(
    run: Run,
    ax: Axes | None = None,
    *,
    label: str | None = None,
    color: Any = None,
    **line: Any,
) -> Axes:
    """How fast the kernel moved, ‖dΘ/dt‖/‖Θ₀‖.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.
        label: Name of the run in the legend.
        color: One color for all of the run.
        **line: Properties of matplotlib's lines.

    Returns:
        The axes.
    """
    look = Look(label, color, line)
    name = preferred(dataset_of(run), "kernel_velocity")
    return draw_one(run, name, "How fast the kernel moved", ax, look, log=True)


def alignment(
    run: Run,
    ax: Axes | None = None,
    *,
    label: str | None = None,
    color: Any = None,
    **line: Any,
) -> Axes:
    """How much of the kernel points along the targets; dashed: not centered.

    Of several outputs the trace kernel, if it was read, as the literature plots it; the
    kernel over examples and outputs is then thin.

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
    labels = {
        "alignment_centered": ("centered (CKA)", "solid"),
        "alignment": ("not centered", "dashed"),
    }
    require_any(dataset, _both(*labels))
    ax = make_axes(ax)
    _draw_both(ax, dataset, labels, look)
    from_zero(ax)
    ylabel = "alignment of the kernel with the targets"
    return finish(ax, dataset, "Alignment with the targets", ylabel)


def spectrum(
    run: Run,
    k: int = 10,
    ax: Axes | None = None,
    *,
    label: str | None = None,
    color: Any = None,
    **line: Any,
) -> Axes:
    """The largest eigenvalues of the kernel over time.

    Of several outputs those of the trace kernel, if it was read.

    Args:
        run: A run or its dataset.
        k: How many, at most.
        ax: Axes to draw on; a new figure if None.
        label: Name of the run in the legend.
        color: One color for all of the run.
        **line: Properties of matplotlib's lines.

    Returns:
        The axes.
    """
    dataset, look = dataset_of(run), Look(label, color, line)
    name = preferred(dataset, "spectrum")
    values = read(dataset, name)[:, :, :k]
    ax = make_axes(ax)
    count = values.shape[2]
    named = {0, count // 2, count - 1}
    for i, shade in enumerate(look.family(count)):
        own = ordinal(i + 1) if i in named else None
        draw(ax, dataset, values[:, :, i], shade, look, label=own, lw=1.5)
    log_scale(ax, values)
    ylabel = label_of(dataset, name)
    finish(ax, dataset, f"The {count} largest eigenvalues", ylabel)
    # Above the lines, which fill the axes.
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 0.97), "ncols": 3}
    rows = -(-draw_legend(ax, **place) // 3)
    ax.set_title(ax.get_title(), pad=4 + 12 * rows)
    return ax


def effective_rank(
    run: Run,
    ax: Axes | None = None,
    *,
    label: str | None = None,
    color: Any = None,
    **line: Any,
) -> Axes:
    """How many directions carry the kernel.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.
        label: Name of the run in the legend.
        color: One color for all of the run.
        **line: Properties of matplotlib's lines.

    Returns:
        The axes.
    """
    look = Look(label, color, line)
    name = preferred(dataset_of(run), "effective_rank")
    return draw_one(run, name, "Effective rank of the kernel", ax, look, log=False)


def kernel_step(
    run: Run,
    ax: Axes | None = None,
    *,
    label: str | None = None,
    color: Any = None,
    **line: Any,
) -> Axes:
    """How far the kernel turned from each save time to the next.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.
        label: Name of the run in the legend.
        color: One color for all of the run.
        **line: Properties of matplotlib's lines.

    Returns:
        The axes.
    """
    look = Look(label, color, line)
    name = preferred(dataset_of(run), "kernel_step_distance")
    title = "How far the kernel turned between save times"
    return draw_one(run, name, title, ax, look, log=True)


def sharpness(
    run: Run,
    ax: Axes | None = None,
    *,
    label: str | None = None,
    color: Any = None,
    **line: Any,
) -> Axes:
    """The largest eigenvalue of the Hessian of the loss.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.
        label: Name of the run in the legend.
        color: One color for all of the run.
        **line: Properties of matplotlib's lines.

    Returns:
        The axes.
    """
    look = Look(label, color, line)
    return draw_one(run, "sharpness", "Sharpness", ax, look, log=False)


def kernel_regression(
    run: Run,
    ax: Axes | None = None,
    *,
    label: str | None = None,
    color: Any = None,
    **line: Any,
) -> Axes:
    """Test accuracy of regression with the kernel of each time, beside the network's.

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
    name = preferred(dataset, "kernel_regression_accuracy")
    values = read(dataset, name)
    ax = make_axes(ax)
    chief = look.colored(measured_color(dataset))
    told = "regression with the kernel of this time"
    draw(ax, dataset, values, chief, look, label=told, lw=2, ls="dashed")
    flow = measured_flow(dataset)
    if flow is not None and has(dataset, "accuracy_test", flow):
        network = read(dataset, "accuracy_test", flow)
        told = flow_style(flow, dataset).label
        draw(ax, dataset, network, chief, look, label=told, lw=2)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ylabel = "test examples classified correctly"
    return finish(ax, dataset, "What the kernel alone would classify", ylabel)
