"""Reading a dataset: one axis of seeds always, clear errors for what is missing."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import xarray as xr
from jaxtyping import Float

from ..simulate import Trajectory

Run: TypeAlias = Trajectory | xr.Dataset
"""A run, or its dataset alone, as saved results give it."""

Series: TypeAlias = Float[np.ndarray, "S T *rest"]
"""A variable over S seeds (one, if the run is no ensemble) and T save times."""

_FLOWS = {
    "gradient": "nf.flows.Gradient()",
    "residual_evolving": 'nf.flows.Residual("evolving")',
    "residual_frozen": 'nf.flows.Residual("frozen")',
    "linearized": "nf.flows.Linearized()",
    "momentum": "nf.flows.Momentum()",
    "descent": "nf.flows.Descent(learning_rate)",
    "modified": "nf.flows.Modified(nf.flows.Descent(learning_rate))",
}
_OF_KERNEL = {
    "kernel_drift": "KernelDrift",
    "kernel_distance": "KernelDistance",
    "kernel_velocity": "KernelVelocity",
    "alignment_centered": "Alignment",
    "alignment": "Alignment",
    "spectrum": "Spectrum",
    "effective_rank": "EffectiveRank",
    "kernel_step_distance": "KernelStep",
    "kernel_step_velocity": "KernelStep",
    "kernel_regression_accuracy": "KernelRegression",
    "kernel_regression_error": "KernelRegression",
}
MEASURES = {
    **{f"{name}_trace": f'{m}(outputs="trace")' for name, m in _OF_KERNEL.items()},
    **{name: f"{measure}()" for name, measure in _OF_KERNEL.items()},
    "mode_residual_initial": "Modes()",
    "mode_rate_initial": "Modes()",
    "parameter_distance": "ParameterDistance()",
    "parameter_distance_layer": "ParameterDistance()",
    "linearization_gap": "LinearizationGap()",
    "linearization_gap_test": "LinearizationGap()",
    "sharpness": "Sharpness()",
    "sharpness_error": "Sharpness()",
    "lambda_min": "LambdaMin()",
    "energy_defect": "EnergyDefect()",
    "conserved_drift": "Conservation()",
}
"""Which measure writes a variable; of several outputs the trace kernel comes first."""

_SEED = "seed"
"""The dimension whose runs are drawn as one ensemble."""

_PROBLEM = {
    "loss_test": "give x_test and y_test to Problem",
    "accuracy_train": "it exists for targets that are classes",
    "accuracy_test": "it exists for a test set whose targets are classes",
}


def dataset_of(run: Any) -> xr.Dataset:
    """The dataset of a run.

    Args:
        run: A run or its dataset.

    Returns:
        The dataset; what `concat` made a coordinate of one run is an attribute again.

    Raises:
        ValueError: If it is neither, or holds several runs.
    """
    if isinstance(run, Trajectory):
        return run.dataset
    if not isinstance(run, xr.Dataset):
        raise ValueError(
            f"Expected a run or its dataset, got {run!r}. A saved run is read with "
            "nf.Trajectory.load(path)."
        )
    along = run.attrs.get("concatenated_along", _SEED)
    if along in run.dims and along != _SEED:
        raise ValueError(
            f"The dataset holds several runs along {along!r}: draw one of them, "
            f"dataset.isel({along}=0), or all of them with nf.plots.compare(dataset)."
        )
    own = {name: c.item() for name, c in run.coords.items() if c.ndim == 0}
    return run.assign_attrs({**own, **run.attrs})


def flow_kind(dataset: xr.Dataset, flow: str) -> str:
    """What sort of flow a flow is.

    Args:
        dataset: The dataset.
        flow: Its name.

    Returns:
        The name that such flows have by default; the flow's own where the dataset does
        not tell.
    """
    if "flow_kind" not in dataset.coords or flow not in flows_of(dataset):
        return flow
    return str(dataset["flow_kind"].sel(flow=flow).item())


def flows_of_kind(dataset: xr.Dataset, kind: str) -> list[str]:
    """The flows of one kind.

    Args:
        dataset: The dataset.
        kind: The name that such flows have by default.

    Returns:
        Their names, in order.
    """
    return [flow for flow in flows_of(dataset) if flow_kind(dataset, flow) == kind]


def has(dataset: xr.Dataset, name: str, flow: str | None = None) -> bool:
    """Whether there is a finite value of a variable to show.

    Args:
        dataset: The dataset.
        name: The variable.
        flow: The flow, for a variable that has several.

    Returns:
        Whether `read` gives at least one finite number.
    """
    if name not in dataset or (flow is not None and flow not in flows_of(dataset)):
        return False
    array = dataset[name] if flow is None else dataset[name].sel(flow=flow)
    return bool(np.isfinite(np.asarray(array, float)).any())


def preferred(dataset: xr.Dataset, name: str) -> str:
    """The variable that speaks for a kernel: the trace kernel's, where it was read.

    The kernel over examples and outputs mixes what it learns with how it treats the
    outputs; the literature plots the sum over outputs.

    Args:
        dataset: The dataset.
        name: The variable of the full kernel.

    Returns:
        The name with `_trace` behind it if that has a value to show, else the name.
    """
    trace = f"{name}_trace"
    return trace if has(dataset, trace) else name


def flows_of(dataset: xr.Dataset) -> list[str]:
    """The names of the flows, in order.

    Args:
        dataset: The dataset.

    Returns:
        Names; none if the dataset has no flow.
    """
    if "flow" not in dataset.coords:
        return []
    return [str(name) for name in dataset["flow"].values]


def times_of(dataset: xr.Dataset) -> Float[np.ndarray, " T"]:
    """The save times.

    Args:
        dataset: The dataset.

    Returns:
        Training times.

    Raises:
        ValueError: If the run ended before its first save time.
    """
    if dataset.sizes.get("time", 0) == 0:
        raise ValueError(
            "The dataset holds no save time: the run ended before its first one, so "
            "there is nothing to draw. Save earlier, or see the attribute `reason`."
        )
    return np.asarray(dataset["time"], float)


def read(dataset: xr.Dataset, name: str, flow: str | None = None) -> Series:
    """A variable with the seeds first and time second.

    Args:
        dataset: The dataset.
        name: The variable.
        flow: The flow, for a variable that has several.

    Returns:
        Its values; infinite ones, which a diverging flow may leave, as NaN.

    Raises:
        ValueError: If the variable or the flow is missing; names what writes it.
    """
    times_of(dataset)
    if name not in dataset:
        raise ValueError(_missing_variable(dataset, name))
    array = dataset[name]
    if flow is not None:
        if flow not in flows_of(dataset):
            raise ValueError(_missing_flow(dataset, flow))
        array = array.sel(flow=flow)
    if "seed" not in array.dims:
        array = array.expand_dims("seed")
    lead = ("seed", "time") if "time" in array.dims else ("seed",)
    values = np.asarray(array.transpose(*lead, ...), float)
    return np.where(np.isfinite(values), values, np.nan)


def examples_in(dataset: xr.Dataset, split: str) -> int:
    """The number of examples that a loss is summed over.

    Args:
        dataset: The dataset.
        split: `"train"` or `"test"`.

    Returns:
        The number.

    Raises:
        ValueError: If no variable of the dataset runs over the examples.
    """
    dim = {"train": "example", "test": "example_test"}[split]
    if dim not in dataset.sizes:
        raise ValueError(
            f"The dataset tells no number of {split} examples, by which the loss is "
            f"divided: keep the variable f_{split} or y_{split} in it."
        )
    return dataset.sizes[dim]


def require_any(dataset: xr.Dataset, names: Sequence[str]) -> list[str]:
    """Those of several variables that are there.

    Args:
        dataset: The dataset.
        names: Variables, of which one suffices.

    Returns:
        The names present, in order.

    Raises:
        ValueError: If none is.
    """
    times_of(dataset)
    present = [name for name in names if name in dataset]
    if not present:
        raise ValueError(_missing_variable(dataset, names[0]))
    return present


def median(values: Float[np.ndarray, "S *rest"]) -> Float[np.ndarray, "*rest"]:
    """The median over seeds of whatever is finite; NaN where nothing is.

    Args:
        values: Numbers, the seeds first.

    Returns:
        The medians.
    """
    return np.asarray(quantiles(values, (0.5,))[0])


def quantiles(
    values: Float[np.ndarray, "S *rest"], levels: Sequence[float]
) -> Float[np.ndarray, "Q *rest"]:
    """Quantiles over seeds of whatever is finite; NaN where nothing is.

    Args:
        values: Numbers, the seeds first.
        levels: Between 0 and 1.

    Returns:
        One array a level.
    """
    flat = values.reshape(len(values), -1)
    found = np.full((len(levels), flat.shape[1]), np.nan)
    some = np.isfinite(flat).any(axis=0)
    if some.any():
        found[:, some] = np.nanquantile(flat[:, some], levels, axis=0)
    return found.reshape(len(levels), *values.shape[1:])


def _missing_variable(dataset: xr.Dataset, name: str) -> str:
    remedy = _PROBLEM.get(name, "simulate with a measure that writes it")
    if name in MEASURES:
        remedy = f"add nf.measures.{MEASURES[name]} to the measures"
    present = ", ".join(str(variable) for variable in dataset.data_vars)
    return f"The dataset has no variable {name!r}: {remedy}. It has: {present}."


def _missing_flow(dataset: xr.Dataset, flow: str) -> str:
    remedy = f"add {_FLOWS[flow]} to the flows" if flow in _FLOWS else "see `flow`"
    present = ", ".join(flows_of(dataset)) or "none"
    return f"The dataset has no flow {flow!r}: {remedy}. It has: {present}."
