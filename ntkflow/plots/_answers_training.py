"""What was simulated: how the run ended, and what training did."""

import numpy as np
import xarray as xr

from ..simulate import Reason
from ._numbers import first, first_time, last, last_time, middle
from ._read import flow_kind, flows_of, has, read, times_of
from ._style import flow_style
from ._words import accuracy, known, number, share


def measured_flow(dataset: xr.Dataset) -> str | None:
    """The flow that the measures read, or the first one.

    Args:
        dataset: The dataset.

    Returns:
        Its name, or None without flows.
    """
    flows = flows_of(dataset)
    measured = str(dataset.attrs.get("measured_on", "gradient"))
    return measured if measured in flows else next(iter(flows), None)


def measured_kind(dataset: xr.Dataset) -> str | None:
    """What sort of flow the measures read.

    Args:
        dataset: The dataset.

    Returns:
        The name that such flows have by default, or None without flows.
    """
    flow = measured_flow(dataset)
    return None if flow is None else flow_kind(dataset, flow)


def say_training(dataset: xr.Dataset) -> list[str]:
    """How the run ended, how many seeds it has, and where the loss went.

    Args:
        dataset: The dataset.

    Returns:
        Sentences.
    """
    return [
        *_say_end(dataset),
        *_say_seeds(dataset),
        *_say_loss(dataset),
        *_say_accuracy(dataset),
        *_say_momentum(dataset),
    ]


def _say_end(dataset: xr.Dataset) -> list[str]:
    attrs = dataset.attrs
    reached = "No save time was reached."
    end = "0"
    if dataset.sizes.get("time", 0) > 0:
        end = number(times_of(dataset)[-1])
        reached = f"The results reach t = {end}."
    name = str(attrs.get("reason", "")).upper()
    if name not in Reason.__members__:
        return [reached]
    reason = Reason[name]
    if reason is Reason.COMPLETED:
        return [f"The run reached its last save time, t = {end}."]
    if reason is Reason.ACCURACY:
        return [
            f"The run reached its last save time, t = {end}, but misses its tolerance: "
            "how far the numbers can be trusted is told at the end."
        ]
    if reason is Reason.EVENT and "stop_time" in dataset.coords:
        return [_say_stops(dataset), reached]
    if reason is Reason.EVENT:
        at, by = float(attrs["stopped_at"]), attrs["stopped_by"]
        return [f"The run stopped at t = {number(at)}, as asked, by {by}. {reached}"]
    if reason is Reason.RUNNING:
        return [f"The run had not ended when this was written. {reached}"]
    at = number(float(attrs["t_reached"]))
    return [
        f"Integration failed: {attrs.get('failure', reason.message)}",
        f"It reached t = {at}; everything here is about what was computed before that. "
        f"{reached}",
    ]


def _say_stops(dataset: xr.Dataset) -> str:
    """How many members of an ensemble have stopped, when, and by what."""
    times = dataset["stop_time"].values
    stopped = np.isfinite(times)
    by = ", ".join(sorted({*dataset["stopped_by"].values[stopped].tolist()}))
    lowest, highest = (number(float(f(times[stopped]))) for f in (np.min, np.max))
    when = f"at t = {lowest}" + ("" if lowest == highest else f" to {highest}")
    return (
        f"{stopped.sum()} of {len(times)} networks stopped {when}, as asked, by {by}."
    )


def _say_seeds(dataset: xr.Dataset) -> list[str]:
    if "seed" not in dataset.dims:
        return []
    count = dataset.sizes["seed"]
    return [
        f"This is an ensemble of {count} networks: every number here is the median "
        f"over them, each number for itself."
    ]


def _say_loss(dataset: xr.Dataset) -> list[str]:
    flow = measured_flow(dataset)
    if flow is None or not has(dataset, "loss_train", flow):
        return []
    if "example" not in dataset.sizes:
        return []
    losses, times = read(dataset, "loss_train", flow), times_of(dataset)
    n = dataset.sizes["example"]
    start, end = middle(first(losses)) / n, middle(last(losses)) / n
    begin = middle(first_time(losses, times))
    finish = middle(last_time(losses, times))
    label = flow_style(flow, dataset).label
    text = (
        f"The training loss ({label}) was {number(start)} per example "
        f"at t = {number(begin)}"
    )
    if finish <= begin:
        return [f"{text}, the only save time."]
    part = ""
    if start > 0:
        left = middle(last(losses) / first(losses))
        part = f" ({share(left)} that)" if known(left) else ""
    return [f"{text} and {number(end)} at t = {number(finish)}{part}."]


def _say_accuracy(dataset: xr.Dataset) -> list[str]:
    flow = measured_flow(dataset)
    said = []
    for split in ("train", "test"):
        name = f"accuracy_{split}"
        if flow is None or not has(dataset, name, flow):
            continue
        values = read(dataset, name, flow)
        end, start = middle(last(values)), middle(first(values))
        times = times_of(dataset)
        begin, finish = (middle(f(values, times)) for f in (first_time, last_time))
        which = "training" if split == "train" else "test"
        text = f"{accuracy(end)} of the {which} set"
        if begin < finish:
            # Right classes need no large outputs: soon after f = 0 most may be right.
            text += f" ({accuracy(start)} at t = {number(begin)})"
        said.append(text)
    if not said:
        return []
    name = flow_style(flow, dataset).label if flow is not None else ""
    return [f"At the end the {name} classifies correctly {' and '.join(said)}."]


def _say_momentum(dataset: xr.Dataset) -> list[str]:
    if measured_kind(dataset) != "momentum":
        return []
    return [
        "The measures read the network trained with momentum: its kernel need not move "
        "as under gradient flow."
    ]
