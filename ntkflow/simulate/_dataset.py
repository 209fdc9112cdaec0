"""Records to a dataset: named dimensions, units, and every setting that made them."""

import functools
import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

from ..measures import AbstractMeasure
from ..problem import Problem
from ._reading import Record
from ._stops import Records, Stop, at_stops, beside_stops, stopped_coords

_OUTPUT_VARIABLES = {
    "f_train": (("example", "output"), "training outputs of the network"),
    "f_test": (("example_test", "output"), "test outputs of the network"),
    "f_train_error": ((), "estimated error of the training outputs, root mean square"),
    "loss_train": ((), "training loss, summed over examples"),
    "loss_train_error": ((), "estimated error of the training loss"),
    "loss_test": ((), "test loss, summed over examples"),
    "accuracy_train": ((), "share of training examples classified correctly"),
    "accuracy_test": ((), "share of test examples classified correctly"),
}


def describe(
    problem: Problem,
    flows: Mapping[str, str],
    measures: Sequence[AbstractMeasure],
    settings: Mapping[str, Any],
    lanes: int | None,
    *,
    stops: bool,
) -> dict[str, Any]:
    """All that a dataset holds besides arrays, as JSON-able values.

    Args:
        problem: The problem.
        flows: The kinds of the flows that have outputs, by their names, in order.
        measures: The measures.
        settings: Settings of the run, JSON-able.
        lanes: Number of lanes of an ensemble, or None.
        stops: Whether there are stop conditions.

    Returns:
        The description, from which `assemble` works without the problem.
    """
    variables: dict[str, Any] = {}
    coords: dict[str, list[str]] = {}
    for measure in measures:
        for name, variable in measure.variables(problem).items():
            variables[name] = asdict(variable)
            variables[name]["dims"] = list(variable.dims)
            labels = variables[name].pop("coords")
            coords |= {dim: [str(label) for label in labels[dim]] for dim in labels}
    sizes = {
        "n_examples": problem.n_examples,
        "n_outputs": problem.n_outputs,
        "n_params": problem.n_params,
    }
    attrs = {**settings, **sizes, **environment()}
    return {
        "flows": list(flows),
        "kinds": list(flows.values()),
        "lanes": lanes,
        "stops": stops,
        "variables": variables,
        "coords": coords,
        "attrs": attrs,
    }


@functools.cache
def environment() -> Mapping[str, str]:
    """Versions and machine, for the record of a run; asked once, the git of it is slow.

    Returns:
        Names to versions.
    """
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("ntkflow", "jax", "jaxlib", "equinox", "diffrax", "numpy"):
        try:
            found[f"version_{package}"] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[f"version_{package}"] = "not installed"
    device = jax.devices()[0]
    found["device"] = f"{device.platform}: {device.device_kind}"
    found["git_revision"] = _git_revision()
    return found


def _git_revision() -> str:
    """Revision of the checkout the package runs from, if it is one."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return "not a checkout"
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


def assemble(
    description: Mapping[str, Any],
    times: np.ndarray,
    once: Mapping[str, np.ndarray],
    records: Records,
    stops: Sequence[Stop],
) -> xr.Dataset:
    """The dataset of a run.

    Args:
        description: From `describe`.
        times: Save times to keep; a flow that ended earlier is NaN from there on.
        once: Arrays that do not change over time, by variable name: the targets, and
            variables read at t = 0 (the ensemble's axis first, if there is one).
        records: For every lane, for every solve, one record a save time reached.
        stops: Where stop conditions have ended each lane.

    Returns:
        The dataset, its variables in the order flows, then measures.
    """
    ensemble = description["lanes"] is not None
    data = _variables(description, len(times), once, records, stops)
    told = {}
    if ensemble and description["stops"]:
        known = any(stop.at is not None for stop in stops)
        read = at_stops(records, stops)
        at_stop = _variables(description, 1, once, read, stops) if known else {}
        data |= beside_stops(data, at_stop)
        told = stopped_coords(stops, times, ensemble=True)
    elif not ensemble:
        told = stopped_coords(stops, times, ensemble=False)
    data |= _targets(once, description["attrs"]["n_outputs"])
    dataset = xr.Dataset(data, attrs=dict(description["attrs"]))
    return _with_coords(dataset, times, description).assign_coords(told)


def _variables(
    description: Mapping[str, Any],
    length: int,
    once: Mapping[str, np.ndarray],
    records: Records,
    stops: Sequence[Stop],
) -> dict[str, Any]:
    """What was read, each variable as `(dims, values, attrs)`."""
    ensemble = description["lanes"] is not None
    lead = ("seed",) if ensemble else ()
    ends = [[] if stop.record is None else [stop.record] for stop in stops]
    read = [[*lane, end] for lane, end in zip(records, ends, strict=True)]
    names = sorted({name for lane in read for solve in lane for name in _names(solve)})
    arrays = {
        name: _stack(
            [
                _series(lane, end, name, length)
                for lane, end in zip(records, ends, strict=True)
            ],
            ensemble,
        )
        for name in names
        if not name.startswith(("event/", "params/", "memory/"))
    }
    data: dict[str, Any] = {}
    flows = description["flows"]
    for variable, (dims, long_name) in _OUTPUT_VARIABLES.items():
        per_flow = [arrays.get(f"{variable}/{flow}") for flow in flows]
        present = [array for array in per_flow if array is not None]
        if present:
            axis = 1 if ensemble else 0
            # A flow that diverged before the first save time has left nothing.
            nothing = np.full_like(present[0], np.nan)
            stacked = np.stack([nothing if a is None else a for a in per_flow], axis)
            units = "1" if variable.startswith("accuracy") else "loss"
            units = "output" if variable.startswith("f_") else units
            attrs = {"long_name": long_name, "units": units}
            data[variable] = ((*lead, "flow", "time", *dims), stacked, attrs)
    for name, variable in description["variables"].items():
        dims = tuple(variable["dims"])
        attrs = {key: variable[key] for key in ("long_name", "units")}
        if not variable["over_time"]:
            data[name] = ((*lead, *dims), once[name], attrs)
        elif f"measure/{name}" in arrays:
            array = arrays[f"measure/{name}"]
            data[name] = ((*lead, "time", *dims), array, attrs)
    return data


def _targets(once: Mapping[str, np.ndarray], n_outputs: int) -> dict[str, Any]:
    """The targets; those of a loss of one's own may have any shape.

    What is not one number or K numbers an example has dimensions of its own: `target`,
    `target_2` and so on, and in the test set `target_test` where its shape is another.

    Returns:
        Variables by name, each `(dims, values, attrs)`.
    """
    found: dict[str, Any] = {}
    for split, example in (("train", "example"), ("test", "example_test")):
        if f"y_{split}" not in once:
            continue
        y = once[f"y_{split}"]
        dims, units = (example, "output")[: y.ndim], "output"
        if y.shape[1:] not in {(), (n_outputs,)}:
            suffix = "" if y.shape[1:] == once["y_train"].shape[1:] else "_test"
            numbers = ["", *(f"_{i}" for i in range(2, y.ndim))]
            dims = (example, *(f"target{number}{suffix}" for number in numbers))
            units = "1"
        attrs = {"long_name": f"{split} targets", "units": units}
        found[f"y_{split}"] = (dims, y, attrs)
    return found


def _names(solve: Sequence[Record]) -> set[str]:
    return set(solve[0]) if solve else set()


def _series(
    lane: Sequence[Sequence[Record]], end: Sequence[Record], name: str, length: int
) -> np.ndarray:
    """One variable over time; NaN after the end of a solve that ended early."""
    for solve in lane:
        if solve and name in solve[0]:
            kept = [record[name] for record in solve[:length]]
            missing = [np.full_like(kept[0], np.nan)] * (length - len(kept))
            return np.stack([*kept, *missing])
    # A lane that was stopped before the first save time has that record alone.
    for record in end:
        if name in record and length > 0:
            return np.stack([np.full_like(record[name], np.nan)] * length)
    return np.zeros((length, 0))


def _stack(lanes: list[np.ndarray], ensemble: bool) -> np.ndarray:
    if not ensemble:
        return lanes[0]
    shape = next(lane.shape for lane in lanes if lane.size)
    return np.stack([lane if lane.size else np.full(shape, np.nan) for lane in lanes])


def _with_coords(
    dataset: xr.Dataset, times: np.ndarray, description: Mapping[str, Any]
) -> xr.Dataset:
    time_attrs = {"long_name": "training time", "units": "step × learning rate"}
    coords: dict[str, Any] = {
        "time": ("time", times, time_attrs),
        "flow": np.asarray(description["flows"]),
        "flow_kind": ("flow", np.asarray(description["kinds"])),
    }
    for dim, labels in description["coords"].items():
        coords[dim] = np.asarray(labels)
    for dim, size in dataset.sizes.items():
        coords.setdefault(str(dim), np.arange(size))
    present = set(dataset.dims) | {"time", "flow", "flow_kind"}
    return dataset.assign_coords({d: c for d, c in coords.items() if d in present})
