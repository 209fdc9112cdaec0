"""What a caller asks for: labels, colors, lines, and runs in the axes of others."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from ntkflow import plots
from ntkflow.plots._look import Look, data_lines
from ntkflow.plots._panels import PANELS

from .datasets import FLOWS, make_dataset, make_ensemble, without_flows

each_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.name)


@pytest.fixture
def ax() -> Axes:
    return Figure().add_subplot()


def entries(ax: Axes) -> list[str]:
    legend = ax.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def hue(color) -> np.ndarray:
    """A color without its whiteness: shades of one color have it in common."""
    rgb = np.array(to_rgb(color))
    distance = 1 - rgb
    return distance / distance.max()


@each_panel
def test_every_figure_takes_label_color_and_properties_of_lines(panel, ax):
    panel.draw(
        make_dataset(), ax=ax, label="mine", color="#c00000", linewidth=0.4, alpha=0.5
    )
    lines = [line for line in data_lines(ax) if line.get_marker() == "None"]
    assert any(entry.startswith("mine") for entry in entries(ax))
    changed = [line for line in lines if line.get_linewidth() == pytest.approx(0.4)]
    # The prediction beside the modes keeps its own looks.
    assert len(changed) >= len(lines) / 2
    assert all(line.get_alpha() == pytest.approx(0.5) for line in changed)
    colored = [line for line in changed if to_hex(line.get_color()) != "#808080"]
    for line in colored:
        np.testing.assert_allclose(hue(line.get_color()), hue("#c00000"), atol=0.02)


@each_panel
def test_a_property_is_taken_under_its_short_name_too(panel, ax):
    panel.draw(make_dataset(), ax=ax, lw=0.4, ls=":")
    assert any(line.get_linewidth() == pytest.approx(0.4) for line in ax.lines)


@each_panel
def test_a_second_run_is_drawn_into_the_axes_of_the_first(panel, ax):
    first = make_dataset(times=np.geomspace(1e-3, 1.0, 9))
    second = make_dataset(times=np.geomspace(1e-2, 100.0, 12), bend=0.8)
    panel.draw(first, ax=ax, label="first", color="C0")
    alone = len(ax.lines)
    panel.draw(second, ax=ax, label="second", color="C1")
    assert len(ax.lines) > alone
    named = entries(ax)
    for label in ("first", "second"):
        assert any(entry.startswith(label) for entry in named)
    assert len(named) == len(set(named)), "an entry twice"
    np.testing.assert_allclose(ax.get_xlim(), [1e-3, 100.0])
    low, high = ax.get_ylim()
    chief = [line for line in data_lines(ax) if line.get_linestyle() == "-"]
    for line in chief:
        drawn = line.get_ydata()
        shown = drawn[(drawn >= low) & (drawn <= high)]
        assert len(shown), "the limits are those of one run alone"


@each_panel
def test_an_entry_that_looks_alike_is_there_once(panel, ax):
    panel.draw(make_dataset(), ax=ax)
    before = entries(ax)
    panel.draw(make_dataset(), ax=ax)
    assert entries(ax) == before


@pytest.mark.parametrize("order", [1, -1])
def test_losses_of_both_signs_are_drawn_on_a_linear_axis(order, ax):
    positive, negative = make_dataset(), make_dataset()
    negative["loss_train"] = negative["loss_train"] - 1.0
    for dataset in (positive, negative)[::order]:
        plots.loss(dataset, ax=ax)
    assert ax.get_yscale() == "linear"


def test_units_that_differ_are_both_told(ax):
    plots.residual_gap(make_dataset(), ax=ax)
    plots.residual_gap(make_dataset(loss="CrossEntropy()"), ax=ax)
    label = " ".join(ax.get_ylabel().split())
    assert "the initial residual" in label
    assert "the largest change of the network's outputs" in label


def test_flows_of_one_color_differ_in_their_dashes(ax):
    plots.loss(make_dataset().drop_vars("loss_test"), ax=ax, color="C2")
    styles = {
        (line.get_linestyle(), str(line._unscaled_dash_pattern)) for line in ax.lines
    }
    assert len(styles) == len(FLOWS)
    assert {to_hex(line.get_color()) for line in ax.lines} == {to_hex("C2")}


@pytest.mark.parametrize("color", ["#c00000", "C0", (0.1, 0.2, 0.3)])
def test_a_family_takes_shades_of_the_color(color):
    shades = Look(color=color).family(4)
    assert shades[0] == to_hex(color)
    assert len(set(shades)) == 4
    for shade in shades:
        np.testing.assert_allclose(hue(shade), hue(color), atol=0.02)
    assert Look(color=color).family(1) == [to_hex(color)]


@each_panel
def test_the_band_of_an_ensemble_is_explained(panel, ax):
    panel.draw(make_ensemble(5), ax=ax)
    assert entries(ax).count("10–90 % of 5 seeds") == 1
    panel.draw(make_ensemble(3), ax=ax)
    assert entries(ax).count("10–90 % of 5 seeds") == 1
    assert entries(ax).count("10–90 % of 3 seeds") == 1


@each_panel
def test_one_run_has_no_band_to_explain(panel, ax):
    panel.draw(make_dataset(), ax=ax)
    assert not any("seeds" in entry for entry in entries(ax))


def test_lines_of_the_callers_own_in_fractions_of_the_axes_do_not_count(ax):
    ax.axhline(0.5)
    plots.sharpness(make_dataset(), ax=ax)
    np.testing.assert_allclose(ax.get_xlim(), [1e-3, 100.0])


def test_the_overview_passes_on_what_it_is_asked_for():
    fig = Figure(figsize=(12, 7), layout="constrained")
    dataset = without_flows(make_dataset(), *FLOWS[2:])
    plots.overview(dataset, fig, label="mine", color="C1", lw=0.7)
    for ax in fig.axes:
        assert any(entry.startswith("mine") for entry in entries(ax))
        assert any(line.get_linewidth() == pytest.approx(0.7) for line in ax.lines)
