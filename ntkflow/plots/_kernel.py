"""Pictures of the kernel: how far it moved, how fast, and in which directions."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from ._answers_training import measured_flow
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
    sequence_colors,
)
from ._words import ordinal


def kernel_drift(run: Run, ax: Axes | None = None) -> Axes:
    """How far the kernel moved: relative drift, and distance up to scale.

    Of several outputs the trace kernel, if it was read; the kernel over examples and
    outputs is then thin. A dot marks the first save time at which the drift had reached
    half of its last value.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.

    Returns:
        The axes.

    Verified by: tests/plots/test_kernel.py::test_half_of_the_drift_is_marked
    """
    dataset = dataset_of(run)
    require_any(dataset, _both("kernel_drift", "kernel_distance"))
    ax = make_axes(ax)
    labels = {
        "kernel_drift": ("‖Θ − Θ₀‖/‖Θ₀‖", "solid"),
        "kernel_distance": ("1 − cos(Θ, Θ₀)", "dashed"),
    }
    _draw_both(ax, dataset, labels)
    from_zero(ax)
    name = preferred(dataset, "kernel_drift")
    if has(dataset, name):
        drift, times = read(dataset, name), times_of(dataset)
        half = middle(half_time(drift, times))
        if 0 < half < times[-1]:
            there = np.interp(half, times, median(drift))
            label = f"half of that by t = {half:.3g}"
            color = measured_color(dataset)
            ax.plot([half], [there], "o", color=color, label=label)
    ylabel = "change relative to the initial kernel"
    return finish(ax, dataset, "How far the kernel moved", ylabel)


def _both(*names: str) -> list[str]:
    # Variables of the kernel over examples and outputs, then the trace kernel's.
    return [*names, *(f"{name}_trace" for name in names)]


def _draw_both(
    ax: Axes, dataset: xr.Dataset, labels: dict[str, tuple[str, str]]
) -> None:
    """Draws variables of the kernel that speaks, and thin those of the other."""
    color = measured_color(dataset)
    first = [preferred(dataset, name) for name in labels]
    lines = dict(zip(first, labels.values(), strict=True))
    for name, (label, dashes) in lines.items():
        if name in dataset:
            draw(ax, dataset, read(dataset, name), color, label=label, ls=dashes, lw=2)
    for name, (label, dashes) in labels.items():
        if name not in lines and has(dataset, name):
            values = read(dataset, name)
            label = f"{label}, all outputs apart"
            draw(ax, dataset, values, color, label=label, ls=dashes, lw=0.8)


def kernel_velocity(run: Run, ax: Axes | None = None) -> Axes:
    """How fast the kernel moved, ‖dΘ/dt‖/‖Θ₀‖.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.

    Returns:
        The axes.
    """
    name = preferred(dataset_of(run), "kernel_velocity")
    return draw_one(run, name, "How fast the kernel moved", ax, log=True)


def alignment(run: Run, ax: Axes | None = None) -> Axes:
    """How much of the kernel points along the targets; dashed: not centered.

    Of several outputs the trace kernel, if it was read, as the literature plots it; the
    kernel over examples and outputs is then thin.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.

    Returns:
        The axes.
    """
    dataset = dataset_of(run)
    labels = {
        "alignment_centered": ("centered (CKA)", "solid"),
        "alignment": ("not centered", "dashed"),
    }
    require_any(dataset, _both(*labels))
    ax = make_axes(ax)
    _draw_both(ax, dataset, labels)
    from_zero(ax)
    ylabel = "alignment of the kernel with the targets"
    return finish(ax, dataset, "Alignment with the targets", ylabel)


def spectrum(run: Run, k: int = 10, ax: Axes | None = None) -> Axes:
    """The largest eigenvalues of the kernel over time.

    Of several outputs those of the trace kernel, if it was read.

    Args:
        run: A run or its dataset.
        k: How many, at most.
        ax: Axes to draw on; a new figure if None.

    Returns:
        The axes.
    """
    dataset = dataset_of(run)
    name = preferred(dataset, "spectrum")
    values = read(dataset, name)[:, :, :k]
    ax = make_axes(ax)
    count = values.shape[2]
    named = {0, count // 2, count - 1}
    for i, color in enumerate(sequence_colors(count)):
        label = ordinal(i + 1) if i in named else None
        draw(ax, dataset, values[:, :, i], color, label=label, lw=1.5)
    log_scale(ax, values)
    ylabel = label_of(dataset, name)
    finish(ax, dataset, f"The {count} largest eigenvalues", ylabel)
    # Above the lines, which fill the axes.
    ax.legend(
        loc="lower center", bbox_to_anchor=(0.5, 0.97), ncols=3, frameon=False,
        fontsize="small",
    )  # fmt: skip
    ax.set_title(ax.get_title(), pad=16)
    return ax


def effective_rank(run: Run, ax: Axes | None = None) -> Axes:
    """How many directions carry the kernel.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.

    Returns:
        The axes.
    """
    name = preferred(dataset_of(run), "effective_rank")
    return draw_one(run, name, "Effective rank of the kernel", ax, log=False)


def kernel_step(run: Run, ax: Axes | None = None) -> Axes:
    """How far the kernel turned from each save time to the next.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.

    Returns:
        The axes.
    """
    name = preferred(dataset_of(run), "kernel_step_distance")
    title = "How far the kernel turned between save times"
    return draw_one(run, name, title, ax, log=True)


def sharpness(run: Run, ax: Axes | None = None) -> Axes:
    """The largest eigenvalue of the Hessian of the loss.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.

    Returns:
        The axes.
    """
    return draw_one(run, "sharpness", "Sharpness", ax, log=False)


def kernel_regression(run: Run, ax: Axes | None = None) -> Axes:
    """Test accuracy of regression with the kernel of each time, beside the network's.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.

    Returns:
        The axes.
    """
    dataset = dataset_of(run)
    name = preferred(dataset, "kernel_regression_accuracy")
    values = read(dataset, name)
    ax = make_axes(ax)
    color = measured_color(dataset)
    label = "regression with the kernel of this time"
    draw(ax, dataset, values, color, lw=2, ls="dashed", label=label)
    flow = measured_flow(dataset)
    if flow is not None and has(dataset, "accuracy_test", flow):
        network = read(dataset, "accuracy_test", flow)
        draw(ax, dataset, network, color, lw=2, label=flow_style(flow, dataset).label)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ylabel = "test examples classified correctly"
    return finish(ax, dataset, "What the kernel alone would classify", ylabel)
