"""What every picture has in common."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from ntkflow import plots
from ntkflow.plots._panels import PANELS
from ntkflow.plots._read import dataset_of
from ntkflow.plots._style import flow_style

from .datasets import FLOWS, make_dataset, make_ensemble, without_flows

each_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.name)


@pytest.fixture
def ax() -> Axes:
    return Figure().add_subplot()


@each_panel
@pytest.mark.parametrize("make", [make_dataset, make_ensemble])
def test_given_axes_are_returned_with_titles_and_lines(panel, make, ax):
    before = plt.get_fignums()
    assert panel.draw(make(), ax=ax) is ax
    assert plt.get_fignums() == before, "pyplot was touched"
    assert ax.lines
    assert ax.get_title()
    assert ax.get_ylabel()
    assert ax.get_xlabel() == "training time (step × learning rate)"


@each_panel
def test_every_panel_is_a_public_function(panel):
    assert getattr(plots, panel.name) is panel.draw


def test_without_axes_a_new_figure_is_made():
    drawn = plots.alignment(make_dataset())
    assert plt.fignum_exists(drawn.figure.number)
    plt.close(drawn.figure)


@each_panel
def test_missing_variables_are_named_with_what_writes_them(panel, ax):
    dataset = make_dataset().drop_vars(panel.needs, errors="ignore")
    with pytest.raises(ValueError, match=f"no variable '{panel.needs[0]}': ") as caught:
        panel.draw(dataset, ax=ax)
    assert "It has: " in str(caught.value)
    assert not panel.is_possible(dataset)


@pytest.mark.parametrize(
    ("name", "measure"),
    [
        ("kernel_drift", "KernelDrift"),
        ("alignment", "Alignment"),
        ("modes", "Modes"),
        ("conserved", "Conservation"),
    ],
)
def test_errors_name_the_measure(name, measure, ax):
    dataset = make_dataset()[["f_train"]]
    with pytest.raises(ValueError, match=rf"add nf\.measures\.{measure}\(\)"):
        getattr(plots, name)(dataset, ax=ax)


@each_panel
def test_a_run_without_save_times_is_refused(panel, ax):
    with pytest.raises(ValueError, match="holds no save time"):
        panel.draw(make_dataset().isel(time=slice(0)), ax=ax)


@each_panel
def test_one_save_time_is_drawn_as_dots(panel, ax):
    panel.draw(make_dataset().isel(time=[3]), ax=ax)
    assert all(line.get_marker() == "o" for line in ax.lines)


@pytest.mark.parametrize(
    ("times", "scale"),
    [
        (np.geomspace(1e-2, 1e2, 9), "log"),
        (np.concatenate([[0.0], np.geomspace(1e-2, 1e2, 9)]), "log"),
        (np.linspace(0.5, 20.0, 9), "linear"),
        (np.linspace(0.0, 20.0, 9), "linear"),
    ],
)
def test_times_over_two_decades_are_drawn_logarithmically(times, scale, ax):
    plots.kernel_drift(make_dataset(times=times), ax=ax)
    assert ax.get_xscale() == scale
    ax.figure.draw_without_rendering()


@pytest.mark.parametrize("name", ["alignment", "effective_rank"])
def test_a_flat_curve_has_room_above_it(name, ax):
    dataset = make_dataset(bend=1e-3)
    getattr(plots, name)(dataset, ax=ax)
    top = float(dataset[name].max())
    np.testing.assert_allclose(ax.get_ylim(), [0, 1.05 * top])


@pytest.mark.parametrize(
    ("low", "expected"),
    [(1e-3, ["0.001", "0.01", "0.1", "1"]), (1e-6, ["10⁻⁶", "10⁻⁵", "10⁻⁴", "10⁻³"])],
)
def test_one_axis_has_one_kind_of_labels(low, expected, ax):
    dataset = make_dataset()
    dataset["energy_defect"].values[:] = np.geomspace(low, 1.0, len(dataset["time"]))
    plots.energy_defect(dataset, ax=ax)
    label = ax.yaxis.get_major_formatter()
    assert [label(low * 10.0**i, i) for i in range(4)] == expected


def test_a_path_is_no_run():
    with pytest.raises(ValueError, match=r"got 'runs/digits'.*Trajectory\.load"):
        dataset_of("runs/digits")


def test_a_flow_has_the_same_color_everywhere():
    dataset = make_dataset()
    for panel in ("loss", "accuracy", "residual_gap"):
        ax = Figure().add_subplot()
        getattr(plots, panel)(dataset, ax=ax)
        colors = {to_hex(line.get_color()) for line in ax.lines}
        shown = FLOWS[1:] if panel == "residual_gap" else FLOWS
        assert colors == {flow_style(flow).color for flow in shown}
    assert len({flow_style(flow).color for flow in FLOWS}) == len(FLOWS)


def test_an_ensemble_is_drawn_as_median_and_band(ax):
    dataset = make_ensemble()
    plots.kernel_velocity(dataset, ax=ax)
    values = dataset["kernel_velocity"].values
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.median(values, axis=0))
    (band,) = ax.collections
    heights = band.get_paths()[0].vertices[:, 1]
    low, high = np.quantile(values[:, 0], [0.1, 0.9])
    assert np.isclose(heights, low).any()
    assert np.isclose(heights, high).any()


def test_seeds_that_ended_early_leave_the_median_of_the_others(ax):
    dataset = make_ensemble(3)
    values = dataset["kernel_drift"].values
    values[0, 10:] = np.nan
    values[1, 20:] = np.inf
    plots.kernel_drift(dataset, ax=ax)
    drawn = ax.lines[0].get_ydata()
    np.testing.assert_allclose(drawn[:10], np.median(values[:, :10], axis=0))
    np.testing.assert_allclose(drawn[10:20], np.mean(values[1:, 10:20], axis=0))
    np.testing.assert_allclose(drawn[20:], values[2, 20:])


@each_panel
def test_curves_that_end_in_nan_are_drawn_without_warning(panel, ax):
    dataset = make_dataset()
    late = dataset["time"] > 1.0
    for name, variable in dataset.data_vars.items():
        if "time" in variable.dims:
            dataset[name] = variable.where(~late)
    panel.draw(dataset, ax=ax)
    ax.figure.draw_without_rendering()


def test_flows_of_unknown_names_are_drawn_in_gray(ax):
    dataset = without_flows(make_dataset(flows=(*FLOWS, "hierarchy_p3")), *FLOWS[1:])
    plots.loss(dataset, ax=ax)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[:2] == ["network", "hierarchy_p3"]
