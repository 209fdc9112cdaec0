"""Pictures that compare flows draw the numbers of the dataset."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ntkflow import plots
from ntkflow.plots._panels import possible_panels
from ntkflow.plots._style import flow_style

from .datasets import FLOWS, NT, N, make_dataset, make_regression, without_flows


@pytest.fixture
def ax() -> Axes:
    return Figure().add_subplot()


def test_loss_draws_the_mean_over_examples(ax):
    dataset = make_dataset()
    plots.loss(dataset, ax=ax)
    lines = iter(ax.lines)
    for flow in FLOWS:
        for name, n in (("loss_train", N), ("loss_test", NT)):
            line = next(lines)
            np.testing.assert_array_equal(line.get_xdata(), dataset["time"])
            expected = dataset[name].sel(flow=flow).values / n
            np.testing.assert_array_equal(line.get_ydata(), expected)
    assert next(lines, None) is None
    assert ax.get_yscale() == "log"


def test_loss_without_a_test_set_shows_the_training_set_alone(ax):
    plots.loss(make_dataset().drop_vars("loss_test"), ax=ax)
    assert len(ax.lines) == len(FLOWS)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "training set" in labels
    assert "test set" not in labels


def test_negative_losses_are_drawn_on_a_linear_axis(ax):
    dataset = make_dataset()
    dataset["loss_train"] = dataset["loss_train"] - 1.0
    plots.loss(dataset, ax=ax)
    assert ax.get_yscale() == "linear"


def test_accuracy_draws_shares(ax):
    dataset = make_dataset()
    plots.accuracy(dataset, ax=ax)
    expected = dataset["accuracy_test"].sel(flow="gradient")
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), expected)


def test_regression_has_no_accuracy_to_draw(ax):
    with pytest.raises(ValueError, match="targets that are classes"):
        plots.accuracy(make_regression(), ax=ax)


def test_linearization_gap_draws_both_sets(ax):
    dataset = make_dataset()
    plots.linearization_gap(dataset, ax=ax)
    for line, name in zip(ax.lines, ("", "_test"), strict=True):
        values = dataset[f"linearization_gap{name}"]
        np.testing.assert_array_equal(line.get_ydata(), values)


def test_residual_gap_without_the_network_names_the_flow(ax):
    dataset = without_flows(make_dataset(), "gradient")
    with pytest.raises(ValueError, match=r"'gradient': add nf\.flows\.Gradient"):
        plots.residual_gap(dataset, ax=ax)


def test_residual_gap_of_the_network_alone_names_what_to_add(ax):
    dataset = make_dataset(flows=("gradient", "momentum"))
    with pytest.raises(ValueError, match=r'Residual\("frozen"\)'):
        plots.residual_gap(dataset, ax=ax)


def test_loss_without_examples_to_count_names_what_is_missing(ax):
    dataset = make_dataset()[["loss_train"]]
    with pytest.raises(ValueError, match="keep the variable f_train or y_train"):
        plots.loss(dataset, ax=ax)
    assert plots.answers(dataset)


def named(dataset, names):
    """The dataset of a run whose flows were given names of their own."""
    kinds = dataset["flow"].values
    new = [names.get(flow, flow) for flow in kinds]
    renamed = dataset.assign_coords(flow=new, flow_kind=("flow", kinds))
    measured = dataset.attrs["measured_on"]
    return renamed.assign_attrs(measured_on=names.get(measured, measured))


def test_two_flows_of_a_kind_are_told_apart(ax):
    dataset = make_dataset(flows=("gradient", "descent", "modified"))
    kinds = ["gradient", "descent", "descent"]
    dataset = dataset.assign_coords(
        flow=["gradient", "slow", "fast"], flow_kind=("flow", kinds)
    )
    plots.loss(dataset, ax=ax)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[:3] == [
        "network",
        "gradient descent (slow)",
        "gradient descent (fast)",
    ]
    colors = [line.get_color() for line in ax.lines]
    assert len(set(colors)) == 3
    # Dashed lines are seen over solid ones, whatever the order of the flows.
    assert ax.lines[2].get_zorder() > ax.lines[0].get_zorder()
    assert plots.answers(dataset)


def test_a_flow_named_after_its_kind_keeps_the_color_of_the_kind():
    dataset = make_dataset(flows=("gradient", "descent", "modified"))
    flows, kinds = ["mine", "gradient", "fast"], ["gradient"] * 3
    dataset = dataset.assign_coords(flow=flows, flow_kind=("flow", kinds))
    styles = [flow_style(flow, dataset) for flow in flows]
    assert len({style.color for style in styles}) == 3
    assert styles[1] == flow_style("gradient")
    assert [style.label for style in styles] == [
        "network (mine)",
        "network",
        "network (fast)",
    ]


def test_names_of_ones_own_change_no_sentence_and_no_curve(ax):
    plain = make_dataset()
    names = {flow: f"{flow} of mine" for flow in FLOWS}
    dataset = named(plain, names)

    def words(given):
        return " ".join(plots.answers(given)).replace(" (gradient of mine)", "")

    assert words(dataset) == words(plain)
    plots.residual_gap(dataset, ax=ax)
    other = plots.residual_gap(plain, ax=Figure().add_subplot())
    for a, b in zip(ax.lines, other.lines, strict=True):
        np.testing.assert_array_equal(a.get_ydata(), b.get_ydata())
    assert panels(dataset) == panels(plain)


def test_what_follows_gradient_flow_follows_the_measured_flow():
    """Gradient flow beside it, which is not measured, is not taken for it."""
    dataset = make_dataset(flows=("momentum", "residual_evolving", "gradient"))
    dataset = dataset.assign_attrs(measured_on="momentum")
    assert "kernel_velocity" not in panels(dataset)
    assert "residual_gap" in panels(dataset)


def panels(dataset):
    return [panel.name for panel in possible_panels(dataset)]
