"""How far the kernel moved, when, and in which directions, in sentences."""

import numpy as np
import xarray as xr

from ._answers_alignment import kernel_in_words, say_alignment
from ._answers_training import measured_flow, measured_kind
from ._course import course
from ._numbers import (
    first,
    first_time,
    half_time,
    last,
    last_time,
    middle,
    peak,
    peak_time,
    value_at,
)
from ._read import has, median, preferred, quantiles, read, times_of
from ._words import accuracy, known, number, ordinal, percent, share

_NOTICEABLE = 0.05
"""A peak above the end by less than this part is not worth a clause."""

_STILL = 1e-8
"""A drift below this may be round-off, of which no half is worth a time."""

_LOOSE = 0.01
"""An error of the sharpness above this part of it is worth a sentence."""

_TOP = 10
_STEADY = 0.01
"""An eigenvalue that changed by less than this part has hardly changed."""

_NEGLIGIBLE = 1e-10
"""Eigenvalues below this part of the largest are round-off; they grow by nothing."""


def say_motion(dataset: xr.Dataset) -> list[str]:
    """How far the kernel moved, and when.

    Args:
        dataset: The dataset.

    Returns:
        Sentences.
    """
    return [
        *_say_drift(dataset),
        *_say_full_drift(dataset),
        *_say_angle(dataset),
        *_say_speed(dataset),
        *_say_steps(dataset),
    ]


def say_directions(dataset: xr.Dataset) -> list[str]:
    """Whether it turned to the targets, what it learns alone, what else changed.

    Args:
        dataset: The dataset.

    Returns:
        Sentences.
    """
    return [
        *say_alignment(dataset),
        *_say_regression(dataset),
        *_say_spectrum(dataset),
        *_say_rank(dataset),
        *_say_sharpness(dataset),
        *_say_layers(dataset),
    ]


def _say_drift(dataset: xr.Dataset) -> list[str]:
    name = preferred(dataset, "kernel_drift")
    if not has(dataset, name):
        return []
    drift, times = read(dataset, name), times_of(dataset)
    kernel = kernel_in_words(name)
    if kernel != "kernel":
        kernel += " (the sum over outputs)"
    end, top = middle(last(drift)), middle(peak(drift))
    at = number(middle(last_time(drift, times)))
    if top == 0:
        return [f"The {kernel} did not move at all up to t = {at}."]
    text = (
        f"By t = {at} the {kernel} had moved by {share(end)} its initial size"
        f"{_band(last(drift))}"
    )
    halves = half_time(drift, times)
    half = middle(halves)
    several = np.isfinite(drift).sum(axis=1).max() > 1 and end > _STILL
    if several and (halves == last_time(drift, times)).all():
        text += "; more than half of that in the last interval between save times"
    elif several:
        at_once = (halves <= first_time(drift, times)).all()
        by = "the first save time, " if at_once else ""
        text += f"; half of that by {by}t = {number(half)}"
        text += _loss_clause(dataset, halves)
    said = [f"{text}."]
    if top > (1 + _NOTICEABLE) * end:
        when = number(middle(peak_time(drift, times)))
        said.append(
            f"It had been farther away in between: by {share(top)} its initial size, "
            f"at t = {when}."
        )
    return said


def _say_full_drift(dataset: xr.Dataset) -> list[str]:
    both = ("kernel_drift", "kernel_drift_trace")
    if not all(has(dataset, name) for name in both):
        return []
    end = middle(last(read(dataset, "kernel_drift")))
    return [f"The kernel over all outputs had moved by {share(end)} its initial size."]


def _band(values: np.ndarray) -> str:
    if len(values) == 1:
        return ""
    low, high = quantiles(values, (0.1, 0.9))
    return f" (10-90 % of the seeds: {number(float(low))} to {number(float(high))})"


def _loss_clause(dataset: xr.Dataset, when: np.ndarray) -> str:
    """Where the measured flow's loss was at given times; empty if unknown."""
    flow = measured_flow(dataset)
    if flow is None or not has(dataset, "loss_train", flow):
        return ""
    losses = read(dataset, "loss_train", flow)
    start = first(losses)
    if not (start > 0).all():
        return ""
    left = middle(value_at(losses, times_of(dataset), when) / start)
    return (
        f", when the training loss was at {share(left)} its start"
        if known(left)
        else ""
    )


def _say_angle(dataset: xr.Dataset) -> list[str]:
    name = preferred(dataset, "kernel_distance")
    if not has(dataset, name):
        return []
    distance = last(read(dataset, name))
    cosine = np.clip(1 - distance, -1, 1)
    angle = middle(np.degrees(np.arccos(cosine)))
    return [
        f"Apart from its size, the {kernel_in_words(name)} turned by an angle of "
        f"{number(angle)}° (kernel distance {number(middle(distance))})."
    ]


def _say_speed(dataset: xr.Dataset) -> list[str]:
    # Along another flow than gradient flow the measured speed is not the kernel's own.
    name = preferred(dataset, "kernel_velocity")
    if measured_kind(dataset) != "gradient" or not has(dataset, name):
        return []
    speed, times = read(dataset, name), times_of(dataset)
    if len(times) == 1:
        return []
    top = number(middle(peak(speed)))
    when = middle(peak_time(speed, times))
    place = "the first save time, " if when <= times[0] else ""
    return [
        f"Of all save times it moved fastest at {place}t = {number(when)}, at "
        f"{top} initial sizes per unit of time."
    ]


def _say_steps(dataset: xr.Dataset) -> list[str]:
    name = preferred(dataset, "kernel_step_distance")
    if not has(dataset, name) or len(times_of(dataset)) == 1:
        return []
    steps, times = read(dataset, name), times_of(dataset)
    when = number(middle(peak_time(steps, times)))
    return [
        f"From one save time to the next it turned farthest up to t = {when}, by a "
        f"kernel distance of {number(middle(peak(steps)))}, and in the last interval "
        f"by {number(middle(last(steps)))}."
    ]


def _say_regression(dataset: xr.Dataset) -> list[str]:
    name = preferred(dataset, "kernel_regression_accuracy")
    if not has(dataset, name):
        return []
    values = read(dataset, name)
    start, end = middle(first(values)), middle(last(values))
    text = (
        f"Ridge regression with the {kernel_in_words(name)} of the end classifies "
        f"{accuracy(end)} of the test set, with that of the first save time "
        f"{accuracy(start)}"
    )
    flow = measured_flow(dataset)
    if flow is not None and has(dataset, "accuracy_test", flow):
        network = middle(last(read(dataset, "accuracy_test", flow)))
        text += f"; the network classifies {accuracy(network)}"
    return [f"{text}."]


def _say_sharpness(dataset: xr.Dataset) -> list[str]:
    if not has(dataset, "sharpness"):
        return []
    values = read(dataset, "sharpness")
    went = course(values, times_of(dataset))
    end = middle(last(values))
    text = f"The sharpness, the largest eigenvalue of the Hessian, {went}"
    if end > 0:
        text += (
            f": at the end a quadratic so curved is trained stably by gradient descent "
            f"of learning rates up to {number(2 / end)}"
        )
    said = [f"{text}."]
    if has(dataset, "sharpness_error"):
        error = read(dataset, "sharpness_error")
        # Relative to a sharpness of zero no error is told.
        share = np.divide(
            error, np.abs(values), np.zeros_like(error), where=values != 0
        )
        worst = middle(peak(share))
        if worst > _LOOSE:
            said.append(
                f"It is known to {percent(worst)} only: Lanczos had not converged "
                "everywhere."
            )
    return said


def _say_spectrum(dataset: xr.Dataset) -> list[str]:
    name = preferred(dataset, "spectrum")
    if not has(dataset, name):
        return []
    values = read(dataset, name)[:, :, :_TOP]
    start = np.stack([first(v) for v in np.moveaxis(values, 2, 0)])
    end = np.stack([last(v) for v in np.moveaxis(values, 2, 0)])
    real = start > _NEGLIGIBLE * np.abs(start[:1])
    growth = np.divide(end, start, out=np.full_like(end, np.nan), where=real)
    factors = median(growth.T)
    went = course(values[:, :, 0], times_of(dataset))
    text = f"The largest eigenvalue of the {kernel_in_words(name)} {went}"
    factor = number(float(factors[0]))
    if known(factors[0]) and factor != "1" and "after" not in went:
        text += f", to {factor} times its first value"
    return [f"{text}.", *_say_growth(factors)]


def _say_growth(factors: np.ndarray) -> list[str]:
    count = int(np.isfinite(factors).sum())
    if count < 2:
        return []
    lowest, highest = float(np.nanmin(factors)), float(np.nanmax(factors))
    if lowest > 1 - _STEADY and highest < 1 + _STEADY:
        kept = f"within {percent(_STEADY)} of their first values"
        return [f"At the end the {count} largest are all {kept}."]
    text = (
        f"At the end the {count} largest are between {number(lowest)} and "
        f"{number(highest)} times their first values"
    )
    if highest > 1 + _NOTICEABLE:
        text += f"; the {ordinal(int(np.nanargmax(factors)) + 1)} grew most"
    return [f"{text}."]


def _say_rank(dataset: xr.Dataset) -> list[str]:
    name = preferred(dataset, "effective_rank")
    if not has(dataset, name):
        return []
    rank = read(dataset, name)
    start, end = middle(first(rank)), middle(last(rank))
    meaning = ""
    if number(start) != number(end):
        meaning = f": {'fewer' if end < start else 'more'} directions carry it"
    return [f"Its effective rank {course(rank, times_of(dataset))}{meaning}."]


def _say_layers(dataset: xr.Dataset) -> list[str]:
    if not has(dataset, "parameter_distance_layer"):
        return []
    if not has(dataset, "parameter_norm_initial"):
        return []
    norms = read(dataset, "parameter_norm_initial")
    values = read(dataset, "parameter_distance_layer")
    ends = np.stack([last(v) for v in np.moveaxis(values, 2, 0)], axis=1)
    relative = median(
        np.divide(ends, norms, out=np.full_like(ends, np.nan), where=norms > 0)
    )
    if not np.isfinite(relative).any() or len(relative) == 1:
        return []
    i = int(np.nanargmax(relative))
    name = str(dataset["layer"].values[i])
    return [
        f"Of the parameter arrays, {name} moved most for its size, by "
        f"{share(float(relative[i]))} its initial norm."
    ]
