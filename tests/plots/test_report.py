"""The report is one file that needs nothing else and says everything."""

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from ntkflow.plots import answers, report
from ntkflow.plots._panels import PANELS
from ntkflow.simulate import Reason, Trajectory

from .datasets import FLOWS, N, make_dataset, make_ensemble

NASTY = "<script>alert(\"1\")</script> & 'quotes' https://example.org"


class Strict(HTMLParser):
    """Notes every tag and attribute, and that every tag is closed in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in {"meta"}:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


def write(run, folder: Path, **options) -> str:
    report(run, folder / "report.html", **options)
    return (folder / "report.html").read_text("utf-8")


def text_of(html: str) -> str:
    body = ET.fromstring(html).find("body")
    assert body is not None
    return re.sub(r"\s+", " ", " ".join(body.itertext()))


@pytest.fixture(scope="module")
def html(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("report")
    return write(make_dataset(note=NASTY), folder)


def test_report_loads_nothing(html):
    parser = Strict()
    parser.feed(html)
    assert parser.stack == []
    assert not parser.tags & {"script", "link", "img", "iframe", "object", "image"}
    for name, value in parser.attributes:
        if name in {"href", "src", "xlink:href"}:
            assert value is not None
            assert value.startswith("#"), f"{name}={value}"
        assert not name.startswith("on")
    without_settings = html.replace("https://example.org", "")
    assert "://" not in without_settings
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert "default-src 'none'" in html


def test_report_is_xml_and_holds_every_picture(html):
    root = ET.fromstring(html)
    figures = root.findall(".//figure")
    assert len(figures) == len(PANELS)
    for figure, panel in zip(figures, PANELS, strict=True):
        assert figure.find("svg") is not None
        assert figure.findtext("figcaption") == panel.caption
        assert panel.caption.count(". ") == 0, "one sentence"


def test_ids_are_unique(html):
    ids = re.findall(r'\bid="([^"]*)"', html)
    assert len(ids) == len(set(ids))


def test_answers_come_before_the_pictures(html):
    text = text_of(html[: html.index("<figure")] + "</div></body></html>")
    for sentence in answers(make_dataset()):
        assert sentence in text


def test_report_holds_every_setting_escaped(html):
    dataset = make_dataset(note=NASTY)
    text = text_of(html)
    for name, value in dataset.attrs.items():
        assert name in text
        assert re.sub(r"\s+", " ", str(value)) in text
    assert "<script" not in html


def test_final_numbers_are_those_of_the_dataset(html):
    dataset = make_dataset()
    (table,) = [
        table
        for table in ET.fromstring(html).findall(".//table")
        if table.findtext(".//th") == "flow"
    ]
    rows = [[cell.text for cell in row] for row in table]
    assert len(rows) == 1 + len(FLOWS)
    column = rows[0].index("train loss per example")
    for i, row in enumerate(rows[1:]):
        assert row[column] == f"{float(dataset['loss_train'][i, -1]) / N:.3g}"
        assert row[1] == "100"


def test_both_color_schemes_are_served(html):
    style = ET.fromstring(html).findtext("head/style")
    assert style is not None
    light, dark = style.rsplit("prefers-color-scheme: dark", 1)
    names = set(re.findall(r"(--c\w{6}):", light))
    assert names == set(re.findall(r"(--c\w{6}):", dark))
    assert set(re.findall(r"var\((--c\w{6})\)", html)) == names
    assert "color-scheme: light dark" in style


def test_report_does_not_depend_on_the_readers_style(tmp_path):
    before = plt.get_fignums()
    dataset = make_dataset()[["kernel_drift"]]
    plain = write(dataset, tmp_path)
    with plt.style.context("dark_background"):
        assert write(dataset, tmp_path) == plain
        assert mpl.rcParams["text.color"] == "white"
    assert plt.get_fignums() == before


def test_title_is_escaped(tmp_path):
    dataset = make_dataset()[["loss_train", "f_train"]]
    html = write(dataset, tmp_path, title="a < b & c")
    assert ET.fromstring(html).findtext("head/title") == "a < b & c"
    assert ET.fromstring(html).findtext("body/h1") == "a < b & c"


def test_ensembles_are_reported_with_ranges(tmp_path):
    dataset = make_ensemble(4)[["kernel_drift", "loss_train", "f_train"]]
    text = text_of(write(dataset, tmp_path))
    ends = dataset["kernel_drift"].values[:, -1]
    low, high = np.quantile(ends, [0.1, 0.9])
    assert f"{np.median(ends):.3g} [{low:.3g}, {high:.3g}]" in text


def test_a_run_that_failed_at_once_is_reported(tmp_path):
    dataset = make_dataset(reason="diverged", t_reached=1e-4).isel(time=slice(0))
    html = write(dataset, tmp_path)
    assert Reason.DIVERGED.message in text_of(html)
    assert "<figure" not in html


def test_a_saved_run_is_reported_from_its_path(tmp_path):
    dataset = make_dataset()[["kernel_drift", "loss_train", "f_train"]]
    stats = {"steps": 321, "rejected": 7, "seconds": 1.5}
    run = Trajectory(dataset, Reason.COMPLETED, stats, {})
    run.save(tmp_path / "run")
    text = text_of(write(tmp_path / "run", tmp_path))
    assert "rejected 7" in text
    drift = float(dataset["kernel_drift"][-1])
    assert f"moved by {100 * drift:.0f}" in text
