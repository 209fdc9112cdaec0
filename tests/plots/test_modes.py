"""The residual, mode by mode."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from ntkflow import plots

from .datasets import make_dataset


@pytest.mark.parametrize(("k", "chosen"), [(1, [1]), (3, [0, 1, 3]), (5, [0, 1, 2, 3])])
def test_largest_modes_are_drawn(k, chosen):
    dataset = make_dataset()  # whose modes begin at 0.5, 3, 0.1 and 1
    ax = plots.modes(dataset, k=k, ax=Figure().add_subplot())
    lines = iter(ax.lines)
    for i in chosen:
        actual, predicted = next(lines), next(lines)
        assert actual.get_label() == f"mode {i + 1}"
        expected = np.abs(dataset["mode_residual_initial"][:, i])
        np.testing.assert_array_equal(actual.get_ydata(), expected)
        expected = np.abs(dataset["mode_residual_predicted"][:, i])
        np.testing.assert_array_equal(predicted.get_ydata(), expected)
        assert predicted.get_color() is actual.get_color()
    assert next(lines, None) is None
    assert ax.get_yscale() == "log"
    low, high = ax.get_ylim()
    most = float(dataset["mode_residual_initial"][:, chosen].max())
    assert 1e-5 * most <= low < most < high < 3 * most


def test_other_losses_have_no_prediction():
    dataset = make_dataset().drop_vars("mode_residual_predicted")
    ax = plots.modes(dataset, ax=Figure().add_subplot())
    assert len(ax.lines) == 4
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "constant kernel" not in labels
