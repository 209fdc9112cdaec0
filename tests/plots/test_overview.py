"""The overview."""

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

from ntkflow.plots import overview

from .datasets import make_dataset, make_ensemble, make_regression


def titles(figure: Figure) -> list[str]:
    return [ax.get_title() for ax in figure.axes]


@pytest.mark.parametrize("make", [make_dataset, make_ensemble, make_regression])
def test_overview_shows_six_panels(make):
    before = plt.get_fignums()
    figure = overview(make(), fig=Figure(layout="constrained"))
    assert plt.get_fignums() == before
    assert len(figure.axes) == len(set(titles(figure))) == 6
    assert titles(figure)[:2] == ["Loss", "How far the kernel moved"]
    figure.draw_without_rendering()


def test_overview_states_the_two_numbers():
    dataset = make_dataset()
    drift = float(dataset["kernel_drift"][-1])
    figure = overview(dataset, fig=Figure())
    assert f"moved by {100 * drift:.0f} % of its initial size" in figure.get_suptitle()


def test_without_a_figure_pyplot_makes_the_current_one():
    figure = overview(make_dataset()[["loss_train", "f_train"]])
    assert plt.gcf() is figure
    plt.close(figure)


def test_missing_panels_leave_their_place_to_others():
    dataset = make_dataset().drop_vars(["kernel_velocity", "spectrum"])
    shown = titles(overview(dataset, fig=Figure()))
    assert len(shown) == 6
    assert "How fast the kernel moved" not in shown
    assert "Accuracy" in shown


def test_few_variables_give_few_panels():
    figure = overview(make_dataset()[["kernel_drift", "alignment"]], fig=Figure())
    assert len(figure.axes) == 2


def test_speed_under_gradient_flow_is_not_shown_for_momentum():
    dataset = make_dataset(flows=("momentum",), measured_on="momentum")
    shown = titles(overview(dataset, fig=Figure()))
    assert "How fast the kernel moved" not in shown


def test_nothing_to_draw_is_said():
    with pytest.raises(ValueError, match="nothing to draw: simulate with"):
        overview(make_dataset()[["parameter_norm_initial", "time"]], fig=Figure())
    with pytest.raises(ValueError, match="holds no save time"):
        overview(make_dataset().isel(time=slice(0)), fig=Figure())
