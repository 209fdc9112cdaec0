"""The distance of a flow's outputs from the network's."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from ntkflow import plots
from ntkflow.plots._gap import (
    gap_to_remaining,
    output_gap,
    output_scale,
    scale_in_words,
)

from ..tolerances import roundoff
from .datasets import FLOWS, NT, K, N, T, make_dataset, make_ensemble


def loop_gap(dataset, flow: str) -> list[float]:
    """‖r_flow − r_gradient‖/‖r₀‖, entry by entry."""
    own = dataset["f_train"].sel(flow=flow).values
    network = dataset["f_train"].sel(flow="gradient").values
    y = dataset["y_train"].values
    entries = [(i, k) for i in range(N) for k in range(K)]
    start = sum((network[0][e] - y[e]) ** 2 for e in entries) ** 0.5
    return [
        sum((own[t][e] - network[t][e]) ** 2 for e in entries) ** 0.5 / start
        for t in range(T)
    ]


@pytest.mark.parametrize("flow", FLOWS[1:])
def test_gap_matches_the_loop(flow):
    dataset = make_dataset()
    ax = plots.residual_gap(dataset, ax=Figure().add_subplot())
    drawn = ax.lines[FLOWS[1:].index(flow)].get_ydata()
    np.testing.assert_allclose(drawn, loop_gap(dataset, flow), rtol=roundoff(N * K))


def test_gap_to_what_is_left_matches_the_loop():
    dataset = make_dataset()
    gap = gap_to_remaining(dataset, "linearized")[0]
    f, y = dataset["f_train"], dataset["y_train"].values
    for t in range(T):
        network = f.sel(flow="gradient").values[t]
        miss = np.linalg.norm(f.sel(flow="linearized").values[t] - network)
        np.testing.assert_allclose(
            gap[t], miss / np.linalg.norm(network - y), rtol=roundoff(2 * N * K)
        )


def test_gap_of_an_ensemble_is_taken_seed_by_seed():
    dataset = make_ensemble(3)
    gap = output_gap(dataset, "residual_frozen")
    for seed in range(3):
        expected = loop_gap(dataset.isel(seed=seed), "residual_frozen")
        np.testing.assert_allclose(gap[seed], expected, rtol=roundoff(N * K))


def test_without_a_residual_the_scale_is_the_change_of_the_outputs():
    dataset = make_dataset(loss="CrossEntropy()")
    f = dataset["f_train"].sel(flow="gradient").values
    moved = max(np.linalg.norm(f[t] - f[0]) for t in range(T))
    np.testing.assert_allclose(output_scale(dataset), moved, rtol=roundoff(N * K))
    assert "change of the network's outputs" in scale_in_words(dataset)


def test_integer_labels_are_no_residual():
    dataset = make_dataset(loss="CrossEntropy()").drop_vars("y_train")
    dataset["y_train"] = ("example", np.arange(N) % K)
    dataset["y_test"] = ("example_test", np.arange(NT) % K)
    ax = plots.residual_gap(dataset, ax=Figure().add_subplot())
    assert "largest change" in ax.get_ylabel().replace("\n", " ")


def test_a_fit_from_the_start_has_no_relative_gap():
    dataset = make_dataset()
    dataset["f_train"].values[:] = dataset["y_train"].values
    assert np.isnan(output_gap(dataset, "linearized")).all()
