"""Pictures of the kernel: how far it moved, how fast, and in which directions."""

import numpy as np
from matplotlib.axes import Axes

from ._numbers import half_time, middle
from ._read import Run, dataset_of, median, read, require_any, times_of
from ._style import (
    draw,
    draw_one,
    finish,
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

    A dot marks the first save time at which the drift had reached half of its last
    value.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.

    Returns:
        The axes.

    Verified by: tests/plots/test_kernel.py::test_half_of_the_drift_is_marked
    """
    dataset = dataset_of(run)
    names = require_any(dataset, ["kernel_drift", "kernel_distance"])
    ax = make_axes(ax)
    color = measured_color(dataset)
    labels = {
        "kernel_drift": ("relative change ‖Θ − Θ₀‖/‖Θ₀‖", "solid"),
        "kernel_distance": ("up to scale, 1 − cos(Θ, Θ₀)", "dashed"),
    }
    for name in names:
        label, dashes = labels[name]
        draw(ax, dataset, read(dataset, name), color, label=label, ls=dashes, lw=2)
    from_zero(ax)
    if "kernel_drift" in names:
        drift, times = read(dataset, "kernel_drift"), times_of(dataset)
        half = middle(half_time(drift, times))
        if 0 < half < times[-1]:
            there = np.interp(half, times, median(drift))
            label = f"half of that by t = {half:.3g}"
            ax.plot([half], [there], "o", color=color, label=label)
    ylabel = "change relative to the initial kernel"
    return finish(ax, dataset, "How far the kernel moved", ylabel)


def kernel_velocity(run: Run, ax: Axes | None = None) -> Axes:
    """How fast the kernel moved, ‖dΘ/dt‖/‖Θ₀‖.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.

    Returns:
        The axes.
    """
    return draw_one(run, "kernel_velocity", "How fast the kernel moved", ax, log=True)


def alignment(run: Run, ax: Axes | None = None) -> Axes:
    """How much of the kernel points along the targets; dashed: centered.

    Args:
        run: A run or its dataset.
        ax: Axes to draw on; a new figure if None.

    Returns:
        The axes.
    """
    dataset = dataset_of(run)
    styles = {
        "alignment": ("plain", "solid"),
        "alignment_centered": ("centered", "dashed"),
    }
    names = require_any(dataset, list(styles))
    ax = make_axes(ax)
    color = measured_color(dataset)
    for name in names:
        label, dashes = styles[name]
        draw(ax, dataset, read(dataset, name), color, label=label, ls=dashes, lw=2)
    from_zero(ax)
    ylabel = label_of(dataset, names[0])
    return finish(ax, dataset, "Alignment with the targets", ylabel)


def spectrum(run: Run, k: int = 10, ax: Axes | None = None) -> Axes:
    """The largest eigenvalues of the kernel over time.

    Args:
        run: A run or its dataset.
        k: How many, at most.
        ax: Axes to draw on; a new figure if None.

    Returns:
        The axes.
    """
    dataset = dataset_of(run)
    values = read(dataset, "spectrum")[:, :, :k]
    ax = make_axes(ax)
    count = values.shape[2]
    named = {0, count // 2, count - 1}
    for i, color in enumerate(sequence_colors(count)):
        label = ordinal(i + 1) if i in named else None
        draw(ax, dataset, values[:, :, i], color, label=label, lw=1.5)
    log_scale(ax, values)
    ylabel = label_of(dataset, "spectrum")
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
    return draw_one(
        run, "effective_rank", "Effective rank of the kernel", ax, log=False
    )
