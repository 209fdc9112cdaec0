"""Several runs as one dataset, side by side along a new dimension."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Shaped

from ._trajectory import Trajectory

_TARGETS = ("y_train", "y_test")
"""What runs have in common where it agrees, as the members of an ensemble have."""

_SAME = "Simulate all of them with the same {}"


def concat(
    runs: Sequence[Trajectory | xr.Dataset],
    dim: str,
    values: Sequence[Any] | np.ndarray | None = None,
) -> xr.Dataset:
    """Runs that differ in a setting as one dataset, along a new dimension.

    Attributes that agree stay attributes; those that differ become coordinates along
    `dim`, empty or NaN for a run without one. Targets that agree stay as they are. Runs
    along `dim="seed"` are drawn as an ensemble is.

    Args:
        runs: Runs or their datasets, with the same flows, measures and save times.
        dim: Name of the new dimension.
        values: Its labels, one a run; by default the attribute of that name where every
            run has one, else 0, 1, ….

    Returns:
        The dataset; its attribute `concatenated_along` is `dim`.

    Raises:
        ValueError: If the runs cannot be put together: names what is missing from which
            run, and the remedy.

    Verified by:
        tests/simulate/test_concat.py::test_each_run_is_found_again_along_the_dimension
    """
    datasets = [_dataset(i, run) for i, run in enumerate(runs)]
    if not datasets:
        raise ValueError("concat needs at least one run, got none.")
    _check_dim(datasets[0], dim)
    datasets = [datasets[0], *(_alike(datasets[0], i, d) for i, d in _rest(datasets))]
    attrs, differing = _split_attrs([dict(dataset.attrs) for dataset in datasets])
    if values is None and all(dim in dataset.attrs for dataset in datasets):
        values = _column([dataset.attrs[dim] for dataset in datasets])
        attrs.pop(dim, None)
        differing.pop(dim, None)
    labels = _labels(len(datasets), values)
    shared = [
        name
        for name in _TARGETS
        if name in datasets[0] and all(_equal(datasets[0], d, name) for d in datasets)
    ]
    own = [str(name) for name in datasets[0].data_vars if name not in shared]
    together = xr.concat(
        datasets,
        dim=dim,
        data_vars=own,
        coords="minimal",
        compat="override",
        join="exact",
        combine_attrs="override",
    )
    coords = {
        # A variable of the same name keeps it.
        f"attr_{name}" if name in together.variables or name == dim else name: (
            dim,
            _column(column),
        )
        for name, column in differing.items()
    }
    together = together.assign_coords({dim: (dim, labels), **coords})
    together.attrs = {**attrs, "concatenated_along": dim}
    return together


def _dataset(i: int, run: Any) -> xr.Dataset:
    if isinstance(run, Trajectory):
        return run.dataset
    if isinstance(run, xr.Dataset):
        return run
    raise ValueError(
        f"concat takes runs or their datasets; run {i} is {run!r}. A saved run is read "
        "with nf.Trajectory.load(path)."
    )


def _rest(datasets: Sequence[xr.Dataset]) -> list[tuple[int, xr.Dataset]]:
    return list(enumerate(datasets))[1:]


def _check_dim(dataset: xr.Dataset, dim: str) -> None:
    if not dim or dim in dataset.dims or dim in dataset.variables:
        taken = ", ".join(sorted({*map(str, dataset.dims), *map(str, dataset.coords)}))
        raise ValueError(
            f"dim must name a new dimension, got {dim!r}; the runs have {taken} and "
            "their variables. Choose another name."
        )


def _alike(first: xr.Dataset, i: int, dataset: xr.Dataset) -> xr.Dataset:
    """The run with its flows in the order of the first, if nothing else differs."""
    _check_names("flow", i, _flows(first), _flows(dataset), "flows")
    if "flow" in dataset.dims:
        dataset = dataset.sel(flow=first["flow"].values)
        _check_kinds(first, i, dataset)
    found = [
        {str(name) for name in d.variables if name not in d.dims}
        for d in (first, dataset)
    ]
    _check_names("variable", i, found[0], found[1], "measures, test set and options")
    _check_times(first, i, dataset)
    _check_sizes(first, i, dataset)
    for name in first.coords:
        if name in first.dims and not _equal(first, dataset, str(name)):
            raise ValueError(
                f"Runs 0 and {i} have other labels along {name!r}: "
                f"{_listed(first[name].values)}, and {_listed(dataset[name].values)}. "
                f"Leave it out of both: run.dataset.drop_dims({str(name)!r})."
            )
    return dataset


def _check_names(
    what: str, i: int, first: set[str], other: set[str], same: str
) -> None:
    missing, extra = sorted(first - other), sorted(other - first)
    if not missing and not extra:
        return
    said = []
    if missing:
        said.append(f"run {i} has no {what} {_listed(missing)}, which run 0 has")
    if extra:
        said.append(f"run 0 has no {what} {_listed(extra)}, which run {i} has")
    text = "; ".join(said)
    remedy = "run.dataset.drop_sel(flow=[...])"
    if what == "variable":
        remedy = f"run.dataset.drop_vars({[*missing, *extra]})"
    raise ValueError(
        f"{text[:1].upper()}{text[1:]}. {_SAME.format(same)}, or pass datasets "
        f"without it: {remedy}."
    )


def _check_kinds(first: xr.Dataset, i: int, dataset: xr.Dataset) -> None:
    if "flow_kind" not in first.coords or "flow_kind" not in dataset.coords:
        return
    kinds = zip(
        first["flow"].values,
        first["flow_kind"].values,
        dataset["flow_kind"].values,
        strict=True,
    )
    for flow, kind, other in kinds:
        if kind != other:
            raise ValueError(
                f"The flow {str(flow)!r} is a {kind} flow in run 0 and a {other} flow "
                f"in run {i}: give flows of different kinds different names (name=)."
            )


def _check_sizes(first: xr.Dataset, i: int, dataset: xr.Dataset) -> None:
    for dim in map(str, {**first.sizes, **dataset.sizes}):
        sizes = [str(d.sizes.get(dim, "none")) for d in (first, dataset)]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"Runs 0 and {i} have other sizes along {dim!r}: {sizes[0]} and "
                f"{sizes[1]}. Simulate runs of equal sizes, or leave out what has it: "
                f"run.dataset.drop_dims({dim!r}, errors='ignore')."
            )
    for name in map(str, first.data_vars):
        dims = [list(map(str, d[name].dims)) for d in (first, dataset)]
        if dims[0] != dims[1]:
            raise ValueError(
                f"{name!r} has dimensions {dims[0]} in run 0 and {dims[1]} in run {i}. "
                f"Leave it out of both: run.dataset.drop_vars({name!r})."
            )


def _check_times(first: xr.Dataset, i: int, dataset: xr.Dataset) -> None:
    times, other = (np.asarray(d["time"], float) for d in (first, dataset))
    if np.array_equal(times, other):
        return
    common = np.intersect1d(times, other)
    remedy = "."
    if len(common):
        remedy = (
            f", or pass the {len(common)} save times that they share: times = "
            f"np.intersect1d(runs[0].dataset.time, runs[{i}].dataset.time), then "
            "run.dataset.sel(time=times) of each."
        )
    raise ValueError(
        f"Runs 0 and {i} have other save times: {_span(times)}, and {_span(other)}. "
        f"{_SAME.format('ts')}{remedy}"
    )


def _labels(count: int, values: Any) -> Shaped[np.ndarray, " R"]:
    labels = np.arange(count) if values is None else np.asarray(values)
    if labels.shape != (count,):
        raise ValueError(
            f"values needs one label for each of the {count} runs, got shape "
            f"{list(labels.shape)}."
        )
    return labels


def _split_attrs(
    attrs: Sequence[Mapping[Any, Any]],
) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Attributes that agree, and the others with one value a run, None if absent."""
    shared: dict[str, Any] = {}
    differing: dict[str, list[Any]] = {}
    for name in dict.fromkeys(str(key) for one in attrs for key in one):
        column = [one.get(name) for one in attrs]
        if all(_same(value, column[0]) for value in column):
            shared[name] = column[0]
        else:
            differing[name] = column
    return shared, differing


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    numbers = isinstance(one, float) and isinstance(other, float)
    return bool(one == other or (numbers and np.isnan(one) and np.isnan(other)))


def _column(values: Sequence[Any]) -> Shaped[np.ndarray, " R"]:
    """One array of numbers or of texts, which can be stored."""
    present = [value for value in values if value is not None]
    if all(isinstance(value, bool | np.bool_) for value in present):
        if len(present) == len(values):
            return np.array(values, bool)
    elif all(isinstance(value, int | float | np.number) for value in present):
        return np.array([np.nan if value is None else value for value in values])
    return np.array([_text(value) for value in values])


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _equal(first: xr.Dataset, other: xr.Dataset, name: str) -> bool:
    return np.array_equal(first[name].values, other[name].values)


def _flows(dataset: xr.Dataset) -> set[str]:
    return (
        {str(name) for name in dataset["flow"].values} if "flow" in dataset else set()
    )


def _listed(names: Any, most: int = 6) -> str:
    shown = [repr(getattr(name, "item", lambda n=name: n)()) for name in names]
    return ", ".join(shown[:most]) + (", …" if len(shown) > most else "")


def _span(times: np.ndarray) -> str:
    if not len(times):
        return "none"
    return f"{len(times)} from t = {times[0]:.3g} to {times[-1]:.3g}"
