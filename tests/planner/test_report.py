import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from anatomad.errors import DataError
from anatomad.planner.charts import bars, gigabytes, quantiles, stack
from anatomad.planner.machine import Machine
from anatomad.planner.planning import make_plan
from anatomad.planner.records import Fingerprint, Outlier
from anatomad.planner.report import MOST_TILES, drawn, write_report
from anatomad.planner.thumbnails import Thumbnail, read_thumbnails, write_thumbnails
from tests.planner.test_outliers import dataset
from tests.planner.test_rules import image

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that tags are balanced and collects what a browser would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.figures: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.sources += [values[name] or "" for name in ("src", "href") if name in values]
        if tag == "figure":
            self.figures.append(values.get("class") or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


CPU = Machine(kind="cpu", memory_gb=16, precision="bfloat16")


def thumbnail() -> Thumbnail:
    tissue = np.zeros((12, 14), np.uint8)
    tissue[2:10, 2:12] = 2
    tissue[4:8, 4:9] = 3
    return Thumbnail(tissue * 60, tissue, tissue * 60, tissue, np.arange(-5, 5, dtype=np.int8))


def page(tmp_path: Path, fingerprint: Fingerprint) -> str:
    for case in fingerprint.cases:
        write_thumbnails(tmp_path, case.id, {channel: thumbnail() for channel in case.channels})
    write_report(tmp_path / "plan.html", fingerprint, make_plan(fingerprint, CPU), tmp_path, "anatomad_train 001")
    return (tmp_path / "plan.html").read_text(encoding="utf-8")


def outlier(case: str, severity: str) -> Outlier:
    return Outlier(case=case, channel=0, kind="noise", severity=severity, reason="noise <of> a & b")


def test_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    text = page(tmp_path, dataset(*[{0: image()}] * 3))
    found = Page(text)
    assert found.sources
    assert all(source.startswith("data:image/png;base64,") for source in found.sources)
    assert not re.search(r"https?:|url\(|@import", text)
    for words in (
        "Dataset001_Demo",
        "spacing_mm",
        "anatomad_train 001",
        "anatomy encoder 0: ",
        "needed of 12.96 GB",
    ):
        assert words in text


def test_findings_are_framed_and_come_first(tmp_path: Path) -> None:
    fingerprint = dataset(*[{0: image()}] * 4).model_copy(
        update={"outliers": (outlier("c01", "look"), outlier("c03", "mend"))}
    )
    text = page(tmp_path, fingerprint)
    assert Page(text).figures == ["odd mend", "odd look", "", ""]
    assert "0000: noise &lt;of&gt; a &amp; b" in text


def test_of_many_scans_a_sample_is_shown(tmp_path: Path) -> None:
    fingerprint = dataset(*[{0: image()}] * (2 * MOST_TILES))
    fingerprint = fingerprint.model_copy(update={"outliers": (outlier(fingerprint.cases[7].id, "look"),)})
    text = page(tmp_path, fingerprint)
    assert len(Page(text).figures) == MOST_TILES
    assert f"Scans ({MOST_TILES} of {2 * MOST_TILES})" in text


def test_lost_thumbnail_is_named(tmp_path: Path) -> None:
    fingerprint = dataset({0: image()})
    with pytest.raises(DataError, match=r"c00\.safetensors"):
        write_report(tmp_path / "plan.html", fingerprint, make_plan(fingerprint, CPU), tmp_path, "")
    assert not (tmp_path / "plan.html").exists()


def test_thumbnails_come_back(tmp_path: Path) -> None:
    write_thumbnails(tmp_path, "a", {0: thumbnail(), 3: thumbnail()})
    back = read_thumbnails(tmp_path, "a")
    assert list(back) == [0, 3]
    assert np.array_equal(back[3].axial_tissue, thumbnail().axial_tissue)
    assert np.array_equal(back[0].detail, thumbnail().detail)


def test_outlines_follow_the_mask_and_the_white_matter() -> None:
    picture = drawn(thumbnail().axial, thumbnail().axial_tissue)
    assert picture.shape == (28, 24, 3)
    plain = (picture == picture[..., :1]).all(2)
    assert plain[0].all()
    assert not plain[28 - 2 * 2 - 1, 4:20].any()  # the mask's lower border
    assert not plain[28 - 2 * 4 - 1, 8:16].any()  # the white matter's
    assert plain[28 - 2 * 6, 12]


def test_charts() -> None:
    assert bars("x", [1.0, 2.0, 2.0], "mm").count("<rect") == 2
    assert "0.95" in bars("x", [1.0], "mm")
    assert quantiles("x", [(0, 1, 2, 3, 4)] * 5000).count("<line") < 1000
    assert stack([("a", 3e9), ("b", 1e6)], 4e9).count("<title>") == 2
    assert gigabytes(3e9) == "3.00 GB"
