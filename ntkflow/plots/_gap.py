"""How far a flow's outputs are from the network's, in units of what was to learn."""

import numpy as np
import xarray as xr
from jaxtyping import Float

from ._numbers import Curves
from ._read import flow_kind, flows_of, flows_of_kind, read

NETWORK = "gradient"
"""The kind of flow that is the network itself, trained by gradient flow."""

_NOT_COMPARED = "momentum"
"""The heavy ball has another time; its distance from gradient flow is no error."""


def network_of(dataset: xr.Dataset) -> str:
    """The flow that others are compared with.

    Args:
        dataset: The dataset.

    Returns:
        The name of its gradient flow, of several the measured one or else the first.
    """
    found = flows_of_kind(dataset, NETWORK)
    measured = dataset.attrs.get("measured_on")
    return str(measured) if measured in found else next(iter(found), NETWORK)


def compared_flows(dataset: xr.Dataset) -> list[str]:
    """The flows whose outputs can be compared with the network's.

    Args:
        dataset: The dataset.

    Returns:
        Their names; none without gradient flow or without outputs.
    """
    flows, network = flows_of(dataset), network_of(dataset)
    if network not in flows or "f_train" not in dataset:
        return []
    others = [name for name in flows if name != network]
    return [name for name in others if flow_kind(dataset, name) != _NOT_COMPARED]


def output_gap(
    dataset: xr.Dataset, flow: str, other: str | None = None, split: str = "train"
) -> Curves:
    """‖f_flow − f_other‖ over all outputs of a set, divided by `output_scale`.

    For the squared error it is ‖r_flow − r_other‖/‖r₀‖.

    Args:
        dataset: The dataset.
        flow: One flow.
        other: The flow it is compared with; the network if None.
        split: `"train"` or `"test"`.

    Returns:
        The gap, seed by seed at every save time; NaN where the scale vanishes.

    Verified by: tests/plots/test_gap.py::test_gap_matches_the_loop
    """
    other = network_of(dataset) if other is None else other
    scale = output_scale(dataset, other, split)[:, None]
    return _ratio(_distance(dataset, flow, other, split), scale)


def gap_to_targets(dataset: xr.Dataset, flow: str, split: str) -> Curves:
    """‖f_flow − f_gradient‖/‖y‖ over all outputs of a set.

    Args:
        dataset: The dataset, with a residual.
        flow: One flow.
        split: `"train"` or `"test"`.

    Returns:
        The gap, seed by seed at every save time.
    """
    scale = np.linalg.norm(np.asarray(dataset[f"y_{split}"], float))
    gap = _distance(dataset, flow, network_of(dataset), split)
    return _ratio(gap, np.full((1, 1), scale))


def gap_to_remaining(dataset: xr.Dataset, flow: str) -> Curves:
    """‖f_flow − f_gradient‖/‖r_gradient‖ at the same time, on the training set.

    Args:
        dataset: The dataset, with a residual.
        flow: One flow.

    Returns:
        The gap in units of what the network has left to learn.

    Verified by: tests/plots/test_gap.py::test_gap_to_what_is_left_matches_the_loop
    """
    y = np.asarray(dataset["y_train"], float)
    network = network_of(dataset)
    left = _norm(read(dataset, "f_train", network) - y[None, None])
    return _ratio(_distance(dataset, flow, network, "train"), left)


def output_scale(
    dataset: xr.Dataset, flow: str | None = None, split: str = "train"
) -> Float[np.ndarray, " S"]:
    """What a gap is measured in: the residual's norm at the first save time.

    Only the squared error has targets that outputs can be subtracted from. For other
    losses it is the largest distance of the flow's outputs from their first ones.

    Args:
        dataset: The dataset.
        flow: The flow whose outputs are taken; the network if None.
        split: `"train"` or `"test"`.

    Returns:
        One norm a seed.
    """
    f = read(dataset, f"f_{split}", network_of(dataset) if flow is None else flow)
    if has_residual(dataset, split):
        y = np.asarray(dataset[f"y_{split}"], float)
        return _norm(f[:, :1] - y[None, None])[:, 0]
    moved = _norm(f - f[:, :1])
    return np.max(np.where(np.isfinite(moved), moved, 0.0), axis=1)


def has_residual(dataset: xr.Dataset, split: str = "train") -> bool:
    """Whether outputs minus targets is what training reduces.

    Args:
        dataset: The dataset.
        split: `"train"` or `"test"`.

    Returns:
        True for the squared error.
    """
    if not str(dataset.attrs.get("loss", "")).startswith("SquaredError"):
        return False
    name, example = f"y_{split}", {"train": "example", "test": "example_test"}[split]
    return name in dataset and dataset[name].dims == (example, "output")


def scale_in_words(dataset: xr.Dataset) -> str:
    """What `output_scale` is.

    Args:
        dataset: The dataset.

    Returns:
        A noun phrase.
    """
    if has_residual(dataset):
        return "the initial residual"
    return "the largest change of the network's outputs"


def _distance(dataset: xr.Dataset, flow: str, other: str, split: str) -> Curves:
    name = f"f_{split}"
    return _norm(read(dataset, name, flow) - read(dataset, name, other))


def _norm(values: Float[np.ndarray, "S T n K"]) -> Curves:
    with np.errstate(over="ignore"):  # outputs of a diverging flow
        return np.sqrt(np.sum(values**2, axis=(2, 3)))


def _ratio(norm: Curves, scale: Float[np.ndarray, "..."]) -> Curves:
    return np.divide(norm, scale, out=np.full_like(norm, np.nan), where=scale > 0)
