"""Several runs in one figure: whose line is whose, and what is left out."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from ntkflow import concat, plots
from ntkflow.plots._read import dataset_of

from .datasets import FLOWS, make_dataset, make_ensemble, with_trace, without_flows

BENDS = (0.1, 0.5, 2.0)


@pytest.fixture
def fig() -> Figure:
    return Figure(figsize=(12, 7), layout="constrained")


def runs():
    return [make_dataset(bend=bend) for bend in BENDS]


def names(fig: Figure) -> list[str]:
    (legend,) = fig.legends
    return [text.get_text() for text in legend.get_texts()]


def test_every_run_has_its_line_in_every_panel(fig):
    assert plots.compare(runs(), ["a", "b", "c"], fig) is fig
    assert names(fig) == ["a", "b", "c"]
    titles = [ax.get_title() for ax in fig.axes]
    assert titles[0] == "Loss"
    assert len(titles) == 6
    (legend,) = fig.legends
    colors = [to_hex(handle.get_color()) for handle in legend.legend_handles]
    assert len(set(colors)) == 3
    for ax in fig.axes:
        drawn = [to_hex(line.get_color()) for line in ax.lines]
        assert list(dict.fromkeys(drawn)) == colors
    fig.draw_without_rendering()


def test_lines_are_the_numbers_of_their_runs(fig):
    plots.compare(runs(), fig=fig)
    panels = {ax.get_title(): ax for ax in fig.axes}
    curves = [
        line.get_ydata()
        for line in panels["How far the kernel moved"].lines
        if line.get_marker() != "o"
    ]
    for curve, dataset in zip(curves, runs(), strict=True):
        np.testing.assert_array_equal(curve, dataset["kernel_drift"])
    gaps = panels["Distance from the network"].lines
    assert len(gaps) == len(BENDS), "the constant kernel alone is compared"
    losses = [line.get_ydata() for line in panels["Loss"].lines]
    for i, dataset in enumerate(runs()):
        own = dataset["loss_train"].sel(flow="gradient") / dataset.sizes["example"]
        np.testing.assert_array_equal(losses[2 * i], own)


def test_of_two_kernels_the_trace_kernel_is_compared(fig):
    plots.compare([with_trace(run) for run in runs()], fig=fig)
    ax = next(a for a in fig.axes if a.get_title() == "How far the kernel moved")
    curves = [line for line in ax.lines if line.get_marker() != "o"]
    assert len(curves) == len(BENDS)
    expected = with_trace(runs()[1])["kernel_drift_trace"]
    np.testing.assert_array_equal(curves[1].get_ydata(), expected)


def test_a_run_without_a_quantity_is_left_out_of_its_panel(fig):
    lacking = without_flows(make_dataset(), *FLOWS[1:]).drop_vars("kernel_drift")
    plots.compare([make_dataset(), lacking], fig=fig)
    lines = {
        ax.get_title(): {to_hex(line.get_color()) for line in ax.lines}
        for ax in fig.axes
    }
    assert len(lines["Loss"]) == 2
    assert len(lines["Distance from the network"]) == 1


def test_runs_of_other_times_and_an_ensemble_are_compared(fig):
    short = make_dataset(times=np.geomspace(1e-2, 1.0, 7))
    plots.compare([short, make_ensemble()], ["one", "many"], fig, alpha=0.5)
    for ax in fig.axes:
        texts = [text.get_text() for text in ax.get_legend().get_texts()]
        assert "10–90 % of 5 seeds" in texts
        np.testing.assert_allclose(ax.get_xlim(), [1e-3, 100.0])
        assert all(
            line.get_alpha() == pytest.approx(0.5)
            for line in ax.lines
            if line.get_marker() != "o"
        )


def test_runs_put_together_are_compared_by_their_labels(fig):
    together = concat(runs(), "alpha", BENDS)
    plots.compare(together, fig=fig)
    assert names(fig) == ["alpha = 0.1", "alpha = 0.5", "alpha = 2"]
    with pytest.raises(ValueError, match=r"isel\(alpha=0\).*nf\.plots\.compare"):
        plots.loss(together, ax=fig.add_subplot())
    one = dataset_of(together.isel(alpha=1))
    assert one.attrs["alpha"] == pytest.approx(0.5)


def test_runs_along_seeds_are_drawn_as_an_ensemble():
    members = make_ensemble(4)
    apart = [members.isel(seed=i).drop_vars("seed") for i in range(4)]
    together = concat(apart, "seed")
    ax = plots.kernel_drift(together, ax=Figure().add_subplot())
    other = plots.kernel_drift(members, ax=Figure().add_subplot())
    for a, b in zip(ax.lines, other.lines, strict=True):
        np.testing.assert_array_equal(a.get_ydata(), b.get_ydata())
    assert plots.answers(together) == plots.answers(members)


@pytest.mark.parametrize(
    ("given", "labels", "said"),
    [
        ([], None, "at least one run"),
        ([make_dataset()] * 2, ["one"], "each of the 2 runs, got 1"),
        (make_dataset(), None, r"nf\.concat"),
        (
            [make_dataset()[["conserved_drift"]]],
            None,
            "simulate with at least one flow",
        ),
        ([make_dataset().isel(time=slice(0))], None, "no save time"),
    ],
)
def test_what_cannot_be_compared_is_refused(given, labels, said, fig):
    with pytest.raises(ValueError, match=said):
        plots.compare(given, labels, fig)
