"""Pictures of the kernel draw the numbers of the dataset."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ntkflow import plots

from .datasets import LAWS, LAYERS, M, make_dataset, with_trace


@pytest.fixture
def ax() -> Axes:
    return Figure().add_subplot()


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("kernel_drift", ("kernel_drift", "kernel_distance")),
        ("kernel_velocity", ("kernel_velocity",)),
        ("alignment", ("alignment_centered", "alignment")),
        ("kernel_step", ("kernel_step_distance",)),
        ("sharpness", ("sharpness",)),
        ("kernel_regression", ("kernel_regression_accuracy",)),
        ("effective_rank", ("effective_rank",)),
        ("energy_defect", ("energy_defect",)),
    ],
)
def test_lines_are_the_variables(name, variables, ax):
    dataset = make_dataset()
    getattr(plots, name)(dataset, ax=ax)
    for line, variable in zip(ax.lines, variables, strict=False):
        np.testing.assert_array_equal(line.get_xdata(), dataset["time"])
        np.testing.assert_array_equal(line.get_ydata(), dataset[variable])


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("kernel_drift", ("kernel_drift", "kernel_distance")),
        ("alignment", ("alignment_centered", "alignment")),
        ("kernel_velocity", ("kernel_velocity",)),
        ("effective_rank", ("effective_rank",)),
        ("kernel_step", ("kernel_step_distance",)),
        ("kernel_regression", ("kernel_regression_accuracy",)),
    ],
)
def test_the_trace_kernel_is_drawn_first_and_the_other_thin(name, variables, ax):
    dataset = with_trace(make_dataset())
    getattr(plots, name)(dataset, ax=ax)
    for line, variable in zip(ax.lines, variables, strict=False):
        expected = dataset[f"{variable}_trace"]
        np.testing.assert_array_equal(line.get_ydata(), expected)
    if len(variables) == 2:
        for line, variable in zip(ax.lines[2:], variables, strict=False):
            np.testing.assert_array_equal(line.get_ydata(), dataset[variable])
            assert line.get_linewidth() < ax.lines[0].get_linewidth()


def test_the_networks_accuracy_is_drawn_beside_its_kernels(ax):
    dataset = make_dataset()
    plots.kernel_regression(dataset, ax=ax)
    network = dataset["accuracy_test"].sel(flow="gradient")
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), network)


def test_units_are_those_of_the_dataset(ax):
    plots.kernel_velocity(make_dataset(), ax=ax)
    assert ax.get_ylabel() == "relative speed (1/time)"


def test_half_of_the_drift_is_marked(ax):
    dataset = make_dataset()
    plots.kernel_drift(dataset, ax=ax)
    drift = dataset["kernel_drift"].values
    i = next(i for i, d in enumerate(drift) if d >= 0.5 * drift[-1])
    (x,), (y,) = ax.lines[-1].get_data()
    assert x == dataset["time"].values[i]
    assert y == pytest.approx(drift[i], rel=1e-12)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_spectrum_draws_the_largest_eigenvalues(k, ax):
    dataset = make_dataset()
    plots.spectrum(dataset, k=k, ax=ax)
    assert len(ax.lines) == min(k, M)
    for i, line in enumerate(ax.lines):
        np.testing.assert_array_equal(line.get_ydata(), dataset["spectrum"][:, i])


def test_eigenvalues_lost_in_roundoff_do_not_break_the_axis(ax):
    dataset = make_dataset()
    dataset["spectrum"].values[:, -1] = -1e-17
    plots.spectrum(dataset, ax=ax)
    ax.figure.draw_without_rendering()
    assert ax.get_ylim()[0] > 0


def test_an_exact_identity_is_drawn_on_a_linear_axis(ax):
    dataset = make_dataset()
    dataset["energy_defect"] = 0 * dataset["energy_defect"]
    plots.energy_defect(dataset, ax=ax)
    assert ax.get_yscale() == "linear"


def test_parameter_distances_are_drawn_and_named(ax):
    dataset = make_dataset()
    plots.parameter_distance(dataset, ax=ax)
    drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
    total = drawn.pop("all parameters")
    np.testing.assert_array_equal(total, dataset["parameter_distance"])
    assert set(drawn) == set(LAYERS)
    for name, values in drawn.items():
        expected = dataset["parameter_distance_layer"].sel(layer=name)
        np.testing.assert_array_equal(values, expected)


def test_only_the_arrays_that_moved_most_are_named(ax):
    dataset = make_dataset().drop_dims("layer")
    distances = np.outer(np.ones(dataset.sizes["time"]), np.arange(20.0))
    dataset["parameter_distance_layer"] = (("time", "layer"), distances)
    dataset = dataset.assign_coords(layer=[f"array {i}" for i in range(20)])
    plots.parameter_distance(dataset, ax=ax)
    assert len(ax.lines) == 21
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["all parameters", *(f"array {i}" for i in range(19, 13, -1))]


def test_every_conservation_law_is_drawn(ax):
    dataset = make_dataset()
    plots.conserved(dataset, ax=ax)
    assert [line.get_label() for line in ax.lines] == list(LAWS)
    for i, line in enumerate(ax.lines):
        np.testing.assert_array_equal(
            line.get_ydata(), dataset["conserved_drift"][:, i]
        )
