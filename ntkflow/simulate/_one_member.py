"""One member of an ensemble as a run of its own."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from ._stops import AT_STOP


def dataset_of(dataset: xr.Dataset, i: int) -> xr.Dataset:
    """The dataset of one member, which ends where a stop condition has ended it.

    Args:
        dataset: The dataset of an ensemble.
        i: Index of the member.

    Returns:
        The dataset, as that of a single run.
    """
    own = dataset.isel(seed=i, drop=True)
    at_stop = {
        str(name).removesuffix(AT_STOP): own[name].values
        for name in own.data_vars
        if str(name).endswith(AT_STOP)
    }
    own = own.drop_vars([name + AT_STOP for name in at_stop])
    own = own.drop_vars(["stop_time", "stopped_by"], errors="ignore")
    attrs = _attrs(dataset, i)
    if "stopped_at" not in attrs:
        return own.assign_attrs(attrs)
    stop, count = attrs["stopped_at"], count_of(dataset, i)
    if own["time"].values[count - 1] == stop:
        ended = own.isel(time=slice(count))
    else:
        ended = _with_end(own.isel(time=slice(count)), stop, at_stop)
    flags = np.arange(count) == count - 1
    told = {"long_name": "where a stop condition ended the run"}
    ended = ended.assign_coords(stopped=("time", flags, told))
    ended.attrs = attrs
    return ended


def params_of(
    params: Mapping[str, np.ndarray], dataset: xr.Dataset, i: int
) -> dict[str, np.ndarray]:
    """The trained leaves of one member over time.

    Args:
        params: Those of the ensemble.
        dataset: The dataset of the ensemble.
        i: Index of the member.

    Returns:
        Arrays by name, time first; none where they do not reach the member's end.
    """
    count = count_of(dataset, i)
    if any(array.shape[1] < count for array in params.values()):
        return {}
    return {name: array[i, :count] for name, array in params.items()}


def count_of(dataset: xr.Dataset, i: int) -> int:
    """Save times of a member, its stop among them.

    Args:
        dataset: The dataset of an ensemble.
        i: Index of the member.

    Returns:
        Their number.
    """
    times = dataset["time"].values
    stop = float(dataset["stop_time"][i]) if "stop_time" in dataset.coords else np.nan
    return len(times) if np.isnan(stop) else int((times < stop).sum()) + 1


def _attrs(dataset: xr.Dataset, i: int) -> dict[Any, Any]:
    attrs = dict(dataset.attrs)
    reasons = attrs.pop("member_reasons", None)
    if reasons is not None:
        attrs["reason"] = reasons[i]
    if np.ndim(attrs.get("time_scale", 1.0)) > 0:
        attrs["time_scale"] = attrs["time_scale"][i]
    stop = float(dataset["stop_time"][i]) if "stop_time" in dataset.coords else np.nan
    if not np.isnan(stop):
        by = str(dataset["stopped_by"].values[i])
        attrs |= {"stopped_by": by, "stopped_at": stop, "t_reached": stop}
    elif attrs["reason"] in {"completed", "accuracy"}:
        attrs["t_reached"] = float(dataset["time"][-1])
    return attrs


def _with_end(
    own: xr.Dataset, stop: float, at_stop: Mapping[str, np.ndarray]
) -> xr.Dataset:
    """The dataset with what was read at a stop in place of its last save time."""
    times = own["time"].values.copy()
    times[-1] = stop
    changed = {}
    for name, variable in own.data_vars.items():
        if "time" in variable.dims:
            values = np.moveaxis(variable.values.copy(), variable.dims.index("time"), 0)
            values[-1] = at_stop.get(str(name), np.nan)
            values = np.moveaxis(values, 0, variable.dims.index("time"))
            changed[name] = variable.copy(data=values)
    return own.assign(changed).assign_coords(time=("time", times, own["time"].attrs))
