"""A run as a table and in a notebook, from its own dataset."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from ntkflow.simulate import Reason, Trajectory
from tests.plots.datasets import (
    FLOWS,
    make_dataset,
    make_ensemble,
    make_regression,
    without_flows,
)


def run_of(dataset, reason=Reason.COMPLETED) -> Trajectory:
    return Trajectory(dataset, reason, {}, {})


def test_a_table_has_the_numbers_of_the_dataset():
    dataset = make_dataset()
    table = run_of(dataset).to_dataframe()
    assert len(table) == len(FLOWS) * dataset.sizes["time"]
    assert list(table.columns[:2]) == ["flow", "time"]
    for flow in FLOWS:
        rows = table[table["flow"] == flow].sort_values("time")
        np.testing.assert_array_equal(rows["time"], dataset["time"])
        for name in ("loss_train", "loss_test", "accuracy_train"):
            np.testing.assert_array_equal(rows[name], dataset[name].sel(flow=flow))
        drift = rows["kernel_drift"]
        if flow == "gradient":
            np.testing.assert_array_equal(drift, dataset["kernel_drift"])
        else:
            assert drift.isna().all(), "it was read off the gradient flow"
    for name in ("f_train", "spectrum", "parameter_distance_layer", "flow_kind"):
        assert name not in table


def test_a_table_of_an_ensemble_has_a_row_for_every_seed():
    dataset = make_ensemble(3)
    table = run_of(dataset).to_dataframe()
    assert list(table.columns[:3]) == ["seed", "flow", "time"]
    assert len(table) == 3 * len(FLOWS) * dataset.sizes["time"]
    own = table[(table["seed"] == 2) & (table["flow"] == "gradient")]
    np.testing.assert_array_equal(own["kernel_drift"], dataset["kernel_drift"][2])


@pytest.mark.parametrize(
    "dataset",
    [
        make_dataset().isel(time=slice(0)),
        make_regression(),
        make_dataset(measured_on="none"),
        make_dataset().isel(flow=slice(0)),
        without_flows(make_dataset(), *FLOWS[1:]),
    ],
)
def test_a_table_and_a_page_of_whatever_a_run_holds(dataset):
    run = run_of(dataset)
    table = run.to_dataframe()
    assert len(table) == dataset.sizes["time"] * max(1, dataset.sizes.get("flow", 1))
    ET.fromstring(run._repr_html_())
    assert repr(run).startswith("<Trajectory: ")


def test_a_notebook_shows_how_a_run_ended():
    dataset = make_dataset()
    run = run_of(dataset, Reason.MAX_STEPS)
    page = run._repr_html_()
    tree = ET.fromstring(page)
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in tree.iter("tr")}
    assert rows["ended"] == ["max_steps"]
    assert rows["save times"] == ["24, from t = 0.001 to 100"]
    assert rows["sizes"] == ["1,234 parameters, 6 examples, 3 outputs"]
    ends = dataset["loss_train"].values[:, -1]
    for flow, end in zip(FLOWS, ends, strict=True):
        assert rows[flow][0] == f"{end:.3g}"


def test_a_page_shows_the_last_number_there_is_and_the_median_over_seeds():
    dataset = make_ensemble(3)
    dataset["loss_train"].values[:, 2, 7:] = np.nan
    dataset["loss_train"].values[:, 3] = np.nan
    tree = ET.fromstring(run_of(dataset)._repr_html_())
    rows = {row[0].text: [c.text for c in row[1:]] for row in tree.iter("tr")}
    middle = np.median(dataset["loss_train"].values[:, 2, 6])
    assert rows["residual_frozen"][0] == f"{middle:.3g}"
    assert rows["linearized"][0] == "–"
    assert "3 seeds" in rows["sizes"][0]


def test_names_are_escaped():
    flows = ["<b>mine</b>", *FLOWS[1:]]
    dataset = make_dataset(measures="<script>&").assign_coords(flow=flows)
    page = run_of(dataset)._repr_html_()
    assert "<script>" not in page
    assert "<b>mine" not in page
    assert "&lt;b&gt;mine&lt;/b&gt;" in page
    ET.fromstring(page)


def test_a_line_names_a_few_measures_and_counts_them():
    many = ", ".join(f"Measure{i}" for i in range(16))
    line = repr(run_of(make_dataset(measures=many)))
    assert "Measure3, … (16)" in line
    assert "Measure4" not in line
    assert "\n" not in line
