"""How wrong the constant-kernel picture was, and how far the solver can be trusted."""

import numpy as np
import xarray as xr

from ._answers_training import measured_kind
from ._gap import (
    NETWORK,
    compared_flows,
    gap_to_remaining,
    gap_to_targets,
    has_residual,
    network_of,
    output_gap,
    scale_in_words,
)
from ._numbers import last, last_time, middle, peak, peak_time
from ._read import Series, flow_kind, flows_of_kind, has, read, times_of
from ._words import accuracy, known, number, share

_CONSTANT = {
    "residual_frozen": "the residual equation with the constant kernel",
    "linearized": "the linearized network",
}
_TRUSTED = 100
"""Multiples of rtol that an error summed over a whole run may reach."""


def constant_flow(dataset: xr.Dataset) -> str | None:
    """The flow that stands for the constant-kernel picture.

    Args:
        dataset: The dataset.

    Returns:
        Its name; None without one, or without the network to compare with.
    """
    compared = compared_flows(dataset)
    kinds = {flow_kind(dataset, flow): flow for flow in reversed(compared)}
    return next((kinds[kind] for kind in _CONSTANT if kind in kinds), None)


def largest_gap(dataset: xr.Dataset, split: str = "train") -> float:
    """The largest error of the constant-kernel picture.

    Args:
        dataset: The dataset.
        split: `"train"` or `"test"`.

    Returns:
        The peak of `output_gap`; NaN if unknown.
    """
    flow = constant_flow(dataset)
    if dataset.sizes.get("time", 0) == 0 or flow is None:
        return float("nan")
    if not has(dataset, f"f_{split}", flow):
        return float("nan")
    return middle(peak(output_gap(dataset, flow, split=split)))


def last_gap_to_remaining(dataset: xr.Dataset) -> float:
    """The last error of the picture, in units of what the network has left to learn.

    Args:
        dataset: The dataset.

    Returns:
        The last of `gap_to_remaining`; NaN if unknown.
    """
    flow = constant_flow(dataset)
    if dataset.sizes.get("time", 0) == 0 or flow is None or not has_residual(dataset):
        return float("nan")
    return middle(last(gap_to_remaining(dataset, flow)))


def gap_in_short(dataset: xr.Dataset) -> str:
    """The largest error of the constant-kernel picture, as the end of a sentence.

    Args:
        dataset: The dataset.

    Returns:
        A clause; empty if unknown.
    """
    top, test = largest_gap(dataset), largest_gap(dataset, "test")
    if not known(top):
        return ""
    text = f"puts the training outputs wrong by up to {share(top)} "
    text += scale_in_words(dataset)
    return (
        f"{text}, the test outputs by up to {share(test)} theirs"
        if known(test)
        else text
    )


def say_picture(dataset: xr.Dataset) -> list[str]:
    """How far the constant-kernel picture is from the network.

    Args:
        dataset: The dataset.

    Returns:
        Sentences.
    """
    flow = constant_flow(dataset)
    if flow is None:
        return []
    gap, times = output_gap(dataset, flow), times_of(dataset)
    top, end = middle(peak(gap)), middle(last(gap))
    if not known(top, end):
        return []
    when, until = middle(peak_time(gap, times)), middle(last_time(gap, times))
    scale = scale_in_words(dataset)
    which = _CONSTANT[flow_kind(dataset, flow)]
    text = (
        f"The constant-kernel picture ({which}) misses the network's "
        f"training outputs by up to {share(top)} {scale}, at t = {number(when)}"
    )
    if when < until:
        text += f", and by {share(end)} it at t = {number(until)}"
    said = [f"{text}, the last save time of both (root mean squares)."]
    left = last_gap_to_remaining(dataset)
    if known(left):
        said.append(
            f"This last error is {share(left)} what the network has yet to learn."
        )
    said += _say_test(dataset, flow)
    said += _say_ends(dataset, flow)
    said += _say_modes(dataset)
    return said


def _say_test(dataset: xr.Dataset, flow: str) -> list[str]:
    top = largest_gap(dataset, "test")
    if not known(top):
        return []
    gap, times = output_gap(dataset, flow, split="test"), times_of(dataset)
    targets = ""
    if has_residual(dataset, "test"):
        size = middle(peak(gap_to_targets(dataset, flow, "test")))
        targets = f", {share(size)} the size of the targets"
    when = middle(peak_time(gap, times))
    grows = ", and still growing" if _grows(gap) else ""
    return [
        f"It misses the test outputs by up to {share(top)} {scale_in_words(dataset)} "
        f"on the test set{targets}, at t = {number(when)}{grows}."
    ]


def _grows(gap: Series) -> bool:
    """Whether a gap is largest where it ends, so that it would have gone on."""
    end, top = middle(last(gap)), middle(peak(gap))
    before = middle(last(gap[:, :-1])) if gap.shape[1] > 1 else end
    return known(before) and before < end and end == top


def _say_ends(dataset: xr.Dataset, flow: str) -> list[str]:
    """Losses and test accuracy of both at the last save time that both reached."""
    said = []
    for split, dim in (("train", "example"), ("test", "example_test")):
        name = f"loss_{split}"
        ends = _common_ends(dataset, name, flow)
        if ends is not None and dim in dataset.sizes:
            n = dataset.sizes[dim]
            words = "training" if split == "train" else "test"
            said.append(
                f"{words} loss {number(ends[0] / n)} per example where the network has "
                f"{number(ends[1] / n)}"
            )
    ends = _common_ends(dataset, "accuracy_test", flow)
    if ends is not None:
        said.append(
            f"test accuracy {accuracy(ends[0])} where the network has "
            f"{accuracy(ends[1])}"
        )
    return [f"The constant-kernel picture ends at {'; '.join(said)}."] if said else []


def _common_ends(
    dataset: xr.Dataset, name: str, flow: str
) -> tuple[float, float] | None:
    reference = network_of(dataset)
    if not (has(dataset, name, flow) and has(dataset, name, reference)):
        return None
    own, network = read(dataset, name, flow), read(dataset, name, reference)
    both = np.isfinite(own) & np.isfinite(network)
    ends = (
        middle(last(np.where(both, own, np.nan))),
        middle(last(np.where(both, network, np.nan))),
    )
    return ends if known(*ends) else None


def _say_modes(dataset: xr.Dataset) -> list[str]:
    # The prediction assumes gradient flow.
    names = ("mode_residual_initial", "mode_residual_predicted")
    if measured_kind(dataset) != NETWORK:
        return []
    if not all(has(dataset, name) for name in names):
        return []
    actual, predicted = (read(dataset, name) for name in names)
    start = np.sqrt(np.sum(actual[:, 0] ** 2, axis=1))
    if not (start > 0).all():
        return []
    miss = np.sqrt(np.sum((actual - predicted) ** 2, axis=2)) / start[:, None]
    top, when = peak(miss), peak_time(miss, times_of(dataset))
    return [
        f"Along the {actual.shape[2]} leading eigenvectors of the initial kernel, what "
        f"is left to learn departs from its predicted exponential decay by up to "
        f"{share(middle(top))} its first size, at t = "
        f"{number(middle(when))}."
    ]


def say_trust(dataset: xr.Dataset) -> list[str]:
    """The estimated error of integrating, and identities that exact integration keeps.

    Args:
        dataset: The dataset.

    Returns:
        Sentences.
    """
    return [
        *_say_error(dataset),
        *_say_coupling(dataset),
        *_say_two_ways(dataset),
        *_say_energy(dataset),
        *_say_laws(dataset),
    ]


def _say_error(dataset: xr.Dataset) -> list[str]:
    """What the companion at a looser tolerance says of every flow together."""
    if "f_train_error" not in dataset or "error_over_tolerance" not in dataset.attrs:
        return []
    errors = np.asarray(dataset["f_train_error"], float)
    over = float(dataset.attrs["error_over_tolerance"])
    if not np.isfinite(errors).any() or not known(over):
        return []
    top = float(np.nanmax(errors))
    text = (
        "By comparison with a second run at a looser tolerance, the training "
        f"outputs of every flow are right to about {number(top)} (root mean square), "
        f"{number(over)} times the tolerance"
    )
    if dataset.attrs.get("reason") == "accuracy":
        text += (
            ", more than the three it should be at most: tighten rtol before trusting "
            "differences of this size"
        )
    return [f"{text}."]


def _say_coupling(dataset: xr.Dataset) -> list[str]:
    compared = compared_flows(dataset)
    evolving = [f for f in flows_of_kind(dataset, "residual_evolving") if f in compared]
    if not evolving:
        return []
    top = middle(peak(output_gap(dataset, evolving[0])))
    if not known(top):
        return []
    return [
        "The residual equation with the evolving kernel, integrated on its own, "
        f"reproduced the network's outputs to {number(top)} of "
        f"{scale_in_words(dataset)}{_verdict(dataset, top)}."
    ]


def _say_two_ways(dataset: xr.Dataset) -> list[str]:
    found = [flows_of_kind(dataset, kind)[:1] for kind in _CONSTANT]
    if "f_train" not in dataset or not all(found):
        return []
    top = middle(peak(output_gap(dataset, *(flows[0] for flows in found))))
    if not known(top):
        return []
    scale = "the initial residual"
    if scale_in_words(dataset) != scale:
        scale = "the largest change of their outputs"
    return [
        "The constant-kernel equation and the linearized network, one prediction "
        f"computed in two ways, agree to {number(top)} of {scale}"
        f"{_verdict(dataset, top, who='they')}."
    ]


def _verdict(dataset: xr.Dataset, error: float, *, who: str = "it") -> str:
    if "rtol" not in dataset.attrs:
        return ""
    rtol = float(dataset.attrs["rtol"])
    if error <= _TRUSTED * rtol:
        return f", as {who} must up to the solver's error (rtol {number(rtol)})"
    return (
        f", which is more than {_TRUSTED} times rtol = {number(rtol)}: lower rtol and "
        "atol before trusting differences of this size"
    )


def _say_energy(dataset: xr.Dataset) -> list[str]:
    if not has(dataset, "energy_defect"):
        return []
    top = middle(peak(read(dataset, "energy_defect")))
    return [
        "The energy identity (what the loss lost is what was dissipated) holds to "
        f"{number(top)} of the initial energy."
    ]


def _say_laws(dataset: xr.Dataset) -> list[str]:
    if not has(dataset, "conserved_drift"):
        return []
    values = read(dataset, "conserved_drift")
    worst = np.nanmax([middle(peak(law)) for law in np.moveaxis(values, 2, 0)])
    count = values.shape[2]
    return [
        f"What gradient flow conserves changed by at most {number(worst)} of its size "
        f"({count} conservation {'law' if count == 1 else 'laws'})."
    ]
