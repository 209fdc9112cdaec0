"""Pictures that compare flows draw the numbers of the dataset."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ntkflow import plots

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
