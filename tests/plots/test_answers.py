"""Sentences are true: their numbers are recomputed here by plain numpy."""

import re

import numpy as np
import pytest
import xarray as xr

from ntkflow.plots import answers
from ntkflow.plots._answers import headline
from ntkflow.plots._words import number, percent, share
from ntkflow.simulate import Reason

from .datasets import (
    FLOWS,
    N,
    make_dataset,
    make_ensemble,
    make_regression,
    with_trace,
    without_flows,
)


def find(sentences: list[str], *parts: str) -> str:
    """The one sentence that holds all parts."""
    (found,) = [s for s in sentences if all(part in s for part in parts)]
    return found


def none_with(sentences: list[str], part: str) -> bool:
    return not any(part in s for s in sentences)


def gap(dataset: xr.Dataset, flow: str) -> np.ndarray:
    f, y = dataset["f_train"], dataset["y_train"].values
    difference = f.sel(flow=flow).values - f.sel(flow="gradient").values
    start = f.sel(flow="gradient").values[0] - y
    return np.sqrt((difference**2).sum((1, 2))) / np.linalg.norm(start)


def test_numbers_in_the_answers_are_those_of_the_dataset():
    dataset = make_dataset()
    said = answers(dataset)
    times = dataset["time"].values

    losses = dataset["loss_train"].sel(flow="gradient").values
    find(
        said,
        f"was {losses[0] / N:.3g} per example at t = 0.001",
        f"{losses[-1] / N:.3g} at t = 100 ({losses[-1] / losses[0]:.2g} of that)",
    )

    drift = dataset["kernel_drift"].values
    half = np.argmax(drift >= drift[-1] / 2)
    find(
        said,
        f"moved by {100 * drift[-1]:.0f} % of its initial size",
        f"half of that by t = {times[half]:.3g}",
        f"loss was at {100 * losses[half] / losses[0]:.0f} % of its start",
    )
    cosine = 1 - dataset["kernel_distance"].values[-1]
    find(said, f"angle of {np.degrees(np.arccos(cosine)):.3g}°")

    aligned = dataset["alignment"].values
    find(said, "towards", f"rose from {aligned[0]:.3g} to {aligned[-1]:.3g}")

    spectrum = dataset["spectrum"].values
    growth = spectrum[-1] / spectrum[0]
    find(said, "largest eigenvalue", f"to {growth[0]:.3g} times")
    find(said, "the 4 largest", f"{growth.min():.3g} and {growth.max():.3g}", "4th")

    rank = dataset["effective_rank"].values
    find(said, f"fell from {rank[0]:.3g} to {rank[-1]:.3g}", "fewer")

    distances = dataset["parameter_distance_layer"].values[-1]
    relative = distances[[0, 2]] / dataset["parameter_norm_initial"].values[[0, 2]]
    find(said, "layers[1].weight", f"{100 * relative.max():.0f} %")


def test_numbers_of_the_constant_kernel_picture_are_those_of_the_dataset():
    dataset = make_dataset()
    said = answers(dataset)
    times = dataset["time"].values
    frozen = gap(dataset, "residual_frozen")
    find(
        said,
        f"by up to {percent(frozen.max())} of the initial residual",
        f"at t = {times[frozen.argmax()]:.3g}",
        f"by {share(frozen[-1])} it at t = 100",
    )
    ends = dataset["loss_train"][:, -1] / N
    own, network = float(ends[2]), float(ends[0])
    find(
        said, f"training loss {own:.3g} per example where the network has {network:.3g}"
    )
    test = 100 * dataset["accuracy_test"].values[:, -1]
    find(said, f"test accuracy {test[2]:.3g} % where the network has {test[0]:.3g} %")
    f, y = dataset["f_test"].values, dataset["y_test"].values
    miss = np.linalg.norm((f[2] - f[0]).reshape(len(times), -1), axis=1)
    find(
        said,
        "misses the test outputs",
        f"by up to {percent(miss.max() / np.linalg.norm(f[0, 0] - y))} of the initial",
        f"{percent(miss.max() / np.linalg.norm(y))} of the size of the targets",
        f"at t = {times[miss.argmax()]:.3g}.",
    )
    f, y = dataset["f_train"].values[:, -1], dataset["y_train"].values
    left = np.linalg.norm(f[2] - f[0]) / np.linalg.norm(f[0] - y)
    find(said, f"last error is {share(left)} what the network has yet to learn")

    actual = dataset["mode_residual_initial"].values
    predicted = dataset["mode_residual_predicted"].values
    miss = np.linalg.norm(actual - predicted, axis=1) / np.linalg.norm(actual[0])
    find(said, "4 leading eigenvectors", percent(miss.max()))


def test_numbers_of_the_checks_are_those_of_the_dataset():
    dataset = make_dataset()
    said = answers(dataset)
    find(said, "reproduced", number(gap(dataset, "residual_evolving").max()))
    find(said, "energy identity", number(dataset["energy_defect"].values.max()))
    find(said, "conserves", number(dataset["conserved_drift"].values.max()), "2 cons")
    f, y = dataset["f_train"].values, dataset["y_train"].values
    between = np.sqrt(((f[2] - f[3]) ** 2).sum((1, 2))).max()
    start = np.linalg.norm(f[3, 0] - y)
    find(said, "in two ways", number(between / start))


def test_numbers_of_an_ensemble_are_medians():
    dataset = make_ensemble(5)
    said = answers(dataset)
    find(said, "ensemble of 5", "median")
    ends = dataset["kernel_drift"].values[:, -1]
    low, high = np.quantile(ends, [0.1, 0.9])
    find(said, percent(np.median(ends)), f"{low:.3g} to {high:.3g}")
    peaks = [
        gap(dataset.isel(seed=i), "residual_frozen").max()
        for i in range(dataset.sizes["seed"])
    ]
    find(said, "misses the network's training", percent(np.median(peaks)))


def test_regression_says_nothing_of_accuracy():
    said = answers(make_regression())
    assert none_with(said, "accuracy")
    assert none_with(said, "classifies")
    find(said, "The constant-kernel picture", "misses")


def test_other_losses_have_no_residual():
    said = answers(make_dataset(loss="CrossEntropy()"))
    assert none_with(said, "initial residual")
    find(said, "misses the network's", "the largest change of the network's outputs")
    assert none_with(said, "yet to learn")
    assert none_with(said, "size of the targets")


@pytest.mark.parametrize("missing", FLOWS)
def test_answers_do_without_any_flow(missing):
    said = answers(without_flows(make_dataset(), missing))
    find(said, "the kernel had moved")
    if missing == "gradient":
        assert none_with(said, "picture")
        assert none_with(said, "reproduced")
    if missing == "residual_frozen":
        find(said, "picture (the linearized network)")
    if missing == "residual_evolving":
        assert none_with(said, "reproduced")


@pytest.mark.parametrize("name", sorted(set(make_dataset().data_vars)))
def test_answers_do_without_any_variable(name):
    assert len(answers(make_dataset().drop_vars(name))) > 5


def test_momentum_is_not_compared_with_gradient_flow():
    dataset = make_dataset(flows=("momentum", "linearized"), measured_on="momentum")
    said = answers(dataset)
    find(said, "trained with momentum")
    assert none_with(said, "picture")
    assert none_with(said, "moved fastest")
    assert none_with(said, "exponential decay")
    find(said, "network with momentum", "per example")


@pytest.mark.parametrize("reason", [r for r in Reason if r.failed])
def test_failures_are_named_first(reason):
    dataset = make_dataset(reason=reason.name.lower(), t_reached=2.5)
    said = answers(dataset)
    assert said[0] == f"Integration failed: {reason.message}"
    assert "reached t = 2.5" in said[1]


def test_a_stop_is_told_with_its_time():
    by = "LossBelow(fraction=0.01)"
    said = answers(make_dataset(reason="event", stopped_by=by, stopped_at=3.25))
    find(said, "stopped at t = 3.25", by)


def test_unfinished_and_unknown_ends_are_told():
    find(answers(make_dataset(reason="running")), "had not ended")
    dataset = make_dataset()
    del dataset.attrs["reason"]
    assert answers(dataset)[0] == "The results reach t = 100."


def test_a_run_without_save_times_says_so():
    said = answers(make_dataset(reason="diverged", t_reached=0.1).isel(time=slice(0)))
    find(said, "No save time was reached.")
    assert len(said) == 2


def test_one_save_time_is_enough():
    said = answers(make_dataset().isel(time=[4]))
    find(said, "the only save time")
    assert none_with(said, "half of that")
    assert none_with(said, "fastest")


def test_flows_that_end_early_are_compared_where_both_are():
    dataset = make_dataset()
    dataset["f_train"].values[2, 12:] = np.nan
    dataset["loss_train"].values[2, 12:] = np.nan
    said = answers(dataset)
    both = gap(dataset, "residual_frozen")[:12]
    find(
        said,
        "misses the network's training outputs",
        f"t = {dataset['time'].values[11]:.3g}, the last",
        share(both[-1]),
    )
    ends = dataset["loss_train"].values[:, 11] / N
    find(said, f"training loss {ends[2]:.3g} per example", f"has {ends[0]:.3g}")


def test_infinite_outputs_of_a_diverging_flow_are_left_out():
    dataset = make_dataset(reason="diverged", t_reached=50.0)
    for name in ("f_train", "f_test"):
        dataset[name].values[:, -1] = np.inf
        dataset[name].values[2, -2] = 1e200
    dataset["loss_train"].values[:, -1] = np.inf
    said = answers(dataset)
    assert not any(re.search(r"\b(inf|nan)\b", sentence) for sentence in said)
    find(
        said,
        "misses the network's training outputs",
        percent(gap(dataset.isel(time=slice(-2)), "residual_frozen").max()),
    )


@pytest.mark.parametrize(
    ("bend", "verdict"),
    [(0.05, "this is lazy"), (0.4, "mattered little"), (3.0, "not lazy training")],
)
def test_rule_of_thumb_follows_both_numbers(bend, verdict):
    dataset = make_dataset(bend=bend)
    moved = dataset["kernel_drift"].values.max() >= 0.1
    wrong = gap(dataset, "residual_frozen").max() >= 0.1
    assert (moved, wrong) == {
        "this is lazy": (False, False),
        "mattered little": (True, False),
        "not lazy training": (True, True),
    }[verdict]
    find(answers(dataset), "rule of thumb", verdict)


def test_a_kernel_that_stands_still_is_said_to():
    dataset = make_dataset(bend=0.0)
    said = answers(dataset)
    find(said, "did not move at all")
    find(said, "It kept its angle to the targets")
    find(said, "At the end the 4 largest are all within 1 % of their first values")


def test_a_kernel_that_comes_back_is_said_to():
    dataset = make_dataset()
    dataset["kernel_drift"].values[15] = 0.9
    when = dataset["time"].values[15]
    find(answers(dataset), "farther away", "90 %", f"t = {when:.3g}")


def test_turning_away_and_peaks_of_alignment_are_said():
    dataset = make_dataset()
    falling = np.linspace(0.5, 0.2, dataset.sizes["time"])
    dataset["alignment_centered"].values[:] = falling
    find(answers(dataset), "away from the targets", "fell from 0.5 to 0.2")
    dataset["alignment"].values[7] = 0.8
    find(answers(dataset), "a peak of 0.8")


def test_the_verdict_follows_the_centered_alignment_and_says_where_they_disagree():
    dataset = make_dataset()
    assert none_with(answers(dataset), "disagree")
    dataset["alignment"].values[:] = np.linspace(0.35, 0.13, dataset.sizes["time"])
    said = answers(dataset)
    rising = dataset["alignment_centered"].values
    find(
        said,
        "towards the targets: the centered alignment",
        f"rose from {rising[0]:.3g} to {rising[-1]:.3g}",
        "without centering fell from 0.35 to 0.13",
    )
    find(said, "they disagree", "the centered one is to be followed")


def test_of_several_outputs_the_trace_kernel_speaks_first():
    dataset = with_trace(make_dataset())
    said = answers(dataset)
    ends = {str(n): float(v.values[-1].max()) for n, v in dataset.data_vars.items()}
    first = find(said, "trace kernel (the sum over outputs) had moved by")
    assert percent(ends["kernel_drift_trace"]) in first
    full = find(said, "kernel over all outputs had moved by")
    assert percent(ends["kernel_drift"]) in full
    assert said.index(first) < said.index(full)
    aligned = dataset["alignment_centered_trace"].values
    went = f"rose from {aligned[0]:.3g} to {aligned[-1]:.3g}"
    find(said, "towards the targets", "(CKA) of the trace kernel", went)
    plain = dataset["alignment"].values
    find(
        said,
        "alignment of the kernel over all outputs is at most 0.577 where",
        f"without centering, it rose from {plain[0]:.3g} to {plain[-1]:.3g}",
    )
    find(said, "largest eigenvalue of the trace kernel")
    assert "trace kernel moved by" in headline(dataset)


def test_numbers_of_what_looks_further_are_those_of_the_dataset():
    dataset = make_dataset()
    said, times = answers(dataset), dataset["time"].values
    steps = dataset["kernel_step_distance"].values
    when = times[steps.argmax()]
    find(said, f"farthest up to t = {when:.3g}", f"{steps.max():.3g}")
    kernel = 100 * dataset["kernel_regression_accuracy"].values
    test = 100 * dataset["accuracy_test"].sel(flow="gradient").values[-1]
    find(
        said,
        f"{kernel[-1]:.3g} %",
        f"{kernel[0]:.3g} %",
        f"network classifies {test:.3g}",
    )
    sharp = dataset["sharpness"].values
    find(said, f"from {sharp[0]:.3g} to {sharp[-1]:.3g}", f"up to {2 / sharp[-1]:.3g}")
    assert none_with(said, "Lanczos")
    dataset["sharpness_error"].values[:] = 0.1 * sharp
    find(answers(dataset), "known to 10 % only")
    # Relative to nothing no error is told, nor is it a division by zero.
    dataset["sharpness"].values[0] = 0.0
    find(answers(dataset), "known to 10 % only")


def test_what_comes_back_is_not_said_to_have_stayed():
    dataset = make_dataset(bend=0.0)
    dataset["spectrum"].values[9, 0] *= 0.8
    low, when = dataset["spectrum"].values[9, 0], dataset["time"].values[9]
    said = find(answers(dataset), "The largest eigenvalue")
    assert f"began and ended at 10, after a low of {low:.3g} at t = {when:.3g}" in said
    assert "times" not in said


def test_half_of_the_motion_at_the_end_is_no_time():
    dataset = make_dataset()
    dataset["kernel_drift"].values[:-1] *= 1e-3
    said = find(answers(dataset), "the kernel had moved")
    assert "more than half of that in the last interval" in said
    assert "half of that by" not in said


def test_a_gap_that_grows_to_the_end_is_said_to():
    dataset = make_dataset()
    f = dataset["f_test"].values
    f[2] = f[0] + np.linspace(0, 0.5, dataset.sizes["time"])[:, None, None]
    find(answers(dataset), "misses the test outputs", "t = 100, and still growing")


def test_the_verdict_looks_at_test_outputs_and_at_what_is_left():
    dataset = make_dataset(bend=0.4)
    f, y = dataset["f_test"].values, dataset["y_test"].values
    f[2] = f[0] + 0.5
    wrong = np.linalg.norm(f[2, 0] - f[0, 0]) / np.linalg.norm(f[0, 0] - y)
    find(
        answers(dataset),
        "rule of thumb",
        "mattered for the test outputs, if little for the training outputs",
        "also mattered for what the network had yet to learn",
    )
    assert wrong >= 0.1
    find([headline(dataset)], f"test outputs by up to {percent(wrong)} of theirs")


def test_errors_beyond_the_solvers_are_not_excused():
    find(answers(make_dataset(rtol=1e-10)), "reproduced", "more than 100 times rtol")
    find(answers(make_dataset(rtol=1e-6)), "reproduced", "as it must")
    find(answers(make_dataset(rtol=1e-6)), "computed in two ways", "as they must")
