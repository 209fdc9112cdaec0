"""Figures inside a page."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from ntkflow import plots
from ntkflow.plots._style import _FLOWS
from ntkflow.plots._svg import color_rules, dark_twin, luminance, to_svg

from .datasets import make_ensemble

PAGE_LUMINANCE = luminance(np.array(to_rgb("#1d2024")))


@pytest.fixture(scope="module")
def svg() -> str:
    figure = Figure()
    plots.kernel_drift(make_ensemble(), ax=figure.add_subplot())
    return to_svg(figure, "drift", 'a "quoted" <label> & more')


def test_an_svg_is_one_element_that_knows_its_label(svg):
    root = ET.fromstring(svg)
    assert root.tag == "svg"
    assert root.get("aria-label") == 'a "quoted" <label> & more'
    assert root.get("viewBox") == "0 0 460.8 345.6"


def test_ids_begin_with_the_figures_name_and_references_are_met(svg):
    ids = set(re.findall(r'\bid="([^"]*)"', svg))
    assert ids
    assert all(name.startswith("drift-") for name in ids)
    wanted = set(re.findall(r'(?:href="#|url\(#)([^")]*)', svg))
    assert wanted <= ids


def test_every_color_is_a_variable_with_a_value_for_either_page(svg):
    assert not re.search(r"#[0-9a-fA-F]{6}\b", svg)
    used = set(re.findall(r"var\((--\w+)\)", svg))
    for dark in (False, True):
        rules = color_rules([svg], dark=dark)
        assert set(re.findall(r"(--\w+): #[0-9a-f]{6};", rules)) == used


def test_text_and_curves_are_there(svg):
    root = ET.fromstring(svg)
    assert len(root.findall(".//use")) > 50, "glyphs of the labels"
    clipped = [path for path in root.iter("path") if path.get("clip-path")]
    assert len(clipped) >= 2
    (clip,) = root.findall(".//clipPath/rect")
    assert float(clip.get("width")) > 100


def test_equal_figures_give_equal_files():
    def make() -> str:
        figure = Figure()
        plots.loss(make_ensemble(2), ax=figure.add_subplot())
        return to_svg(figure, "loss", "Loss")

    assert make() == make()


@pytest.mark.parametrize(
    "color",
    ["#000000", "#808080", "#440154", "#ffffff", *(s.color for s in _FLOWS.values())],
)
def test_dark_twins_are_light_enough(color):
    def contrast(c: str) -> float:
        return (luminance(np.array(to_rgb(c))) + 0.05) / (PAGE_LUMINANCE + 0.05)

    # WCAG 2 asks for 3 in graphics, and 4.5 in text, which is black by default.
    assert contrast(dark_twin(color)) >= (4.5 if color == "#000000" else 3.0)
    if contrast(color) >= 6:
        assert dark_twin(color) == color


def test_luminance_is_that_of_wcag():
    assert luminance(np.ones(3)) == pytest.approx(1.0)
    assert luminance(np.zeros(3)) == pytest.approx(0.0)
    # ((0.5 + 0.055)/1.055)^2.4
    assert luminance(np.full(3, 0.5)) == pytest.approx(0.21404, abs=1e-5)
