"""How far a flow's outputs are from the network's, in units of what was to learn."""

import numpy as np
import xarray as xr
from jaxtyping import Float

from ._read import Series, flows_of, read

NETWORK = "gradient"
"""The flow that is the network itself, trained by gradient flow."""

_NOT_COMPARED = (NETWORK, "momentum")
"""The heavy ball has another time; its distance from gradient flow is no error."""


def compared_flows(dataset: xr.Dataset) -> list[str]:
    """The flows whose outputs can be compared with the network's.

    Args:
        dataset: The dataset.

    Returns:
        Their names; none without gradient flow or without outputs.
    """
    flows = flows_of(dataset)
    if NETWORK not in flows or "f_train" not in dataset:
        return []
    return [name for name in flows if name not in _NOT_COMPARED]


def output_gap(dataset: xr.Dataset, flow: str, other: str = NETWORK) -> Series:
    """‖f_flow − f_other‖ over all training outputs, divided by `output_scale`.

    For the squared error it is ‖r_flow − r_other‖/‖r₀‖.

    Args:
        dataset: The dataset.
        flow: One flow.
        other: The flow it is compared with.

    Returns:
        The gap, seed by seed at every save time; NaN where the scale vanishes.

    Verified by: tests/plots/test_gap.py::test_gap_matches_the_loop
    """
    with np.errstate(over="ignore"):  # outputs of a diverging flow
        difference = read(dataset, "f_train", flow) - read(dataset, "f_train", other)
        norm = np.sqrt(np.sum(difference**2, axis=(2, 3)))
    scale = output_scale(dataset, other)[:, None]
    return np.divide(norm, scale, out=np.full_like(norm, np.nan), where=scale > 0)


def output_scale(dataset: xr.Dataset, flow: str = NETWORK) -> Float[np.ndarray, " S"]:
    """What a gap is measured in: the residual's norm at the first save time.

    Only the squared error has targets that outputs can be subtracted from. For other
    losses it is the largest distance of the flow's outputs from their first ones.

    Args:
        dataset: The dataset.
        flow: The flow whose outputs are taken.

    Returns:
        One norm a seed.
    """
    f = read(dataset, "f_train", flow)
    if has_residual(dataset):
        y = np.asarray(dataset["y_train"], float)
        return np.sqrt(np.sum((f[:, 0] - y[None]) ** 2, axis=(1, 2)))
    with np.errstate(over="ignore"):
        moved = np.sqrt(np.sum((f - f[:, :1]) ** 2, axis=(2, 3)))
    return np.max(np.where(np.isfinite(moved), moved, 0.0), axis=1)


def has_residual(dataset: xr.Dataset) -> bool:
    """Whether outputs minus targets is what training reduces.

    Args:
        dataset: The dataset.

    Returns:
        True for the squared error.
    """
    if not str(dataset.attrs.get("loss", "")).startswith("SquaredError"):
        return False
    return "y_train" in dataset and dataset["y_train"].dims == ("example", "output")


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
