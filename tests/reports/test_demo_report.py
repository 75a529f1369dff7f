"""The page of a demo: well-formed, self-contained, safe whatever classes are called."""

from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from gfocal.evaluation.coco_ap import ClassAP, CocoResult
from gfocal.reports.demo import EdgeExample, series_of, training_curves, write_demo_page
from gfocal.reports.html import CaptionedImage
from gfocal.visualize import edge_panel_svg

EVIL = '<script>alert("1")</script> & "co"'
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails on tags that are closed in the wrong order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def result(**changes) -> CocoResult:
    numbers = dict.fromkeys(("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"), 0.5)
    counts = {"num_images": 20, "num_ground_truth": 1432, "num_small": 3, "num_medium": 3, "num_large": 3}
    classes = {EVIL: ClassAP(0.25, 0.5, 7), "unseen": ClassAP(None, None, 0)}
    ap = {"ap": 0.4734, "ap50": 0.712, "ap75": 0.5, "ap_small": None, "ap_medium": 0.4, "ap_large": 0.6}
    return CocoResult(**{**numbers, **counts, **ap, "num_detections": 9, "per_class": classes, **changes})


ROWS = [
    {"epoch": "0", "step": "10", "loss": "2.5", "cls": "1.5", "ap": ""},
    {"epoch": "1", "step": "20", "loss": "1.5", "cls": "nan", "ap": "0.31"},
    {"epoch": 2, "step": 30, "loss": 1.0, "cls": None, "ap": 0.42},
]


@pytest.fixture
def page(tmp_path: Path) -> str:
    image = Image.new("RGB", (64, 48), (10, 200, 30))
    panel = edge_panel_svg([[0.5, 0.5, 0.0]] * 4, bin_sizes=[8.0] * 4)
    write_demo_page(
        tmp_path / "report.html",
        title=EVIL,
        lead=EVIL,
        result=result(),
        rows=ROWS,
        images=[CaptionedImage(image, EVIL), CaptionedImage(image)],
        edges=[EdgeExample(CaptionedImage(image, EVIL), panel)],
        facts={EVIL: EVIL, "Seed": 0},
    )
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_holds_every_part(page: str):
    parsed = Page(page)
    assert parsed.open == []
    assert parsed.tags.count("img") == 3
    assert parsed.tags.count("svg") == 3  # loss, AP, panel
    for words in (
        "0.473",
        "0.712",
        "1,432 objects in 20 images",
        "Edge distributions",
        "Training curves",
        "AP per class",
        "Seed",
        "unseen",
    ):
        assert words in parsed.text
    assert "AP medium" in parsed.text
    assert "AP small" not in parsed.text  # there was nothing small to find


def test_nothing_is_fetched_and_nothing_runs(page: str):
    parsed = Page(page)
    assert not {"script", "link", "iframe", "object", "use"} & set(parsed.tags)
    for tag, name, value in parsed.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "srcset", "data", "action", "background"):
            assert value.startswith("data:image/webp;base64,"), (tag, name)
    assert "url(" not in page
    assert "@import" not in page


def test_names_are_escaped(page: str):
    assert "<script" not in page
    assert Page(page).text.count(EVIL) == 8  # title twice, lead, two captions, class, fact's name and value


def test_a_report_replaces_the_old_one_whole(tmp_path: Path):
    path = tmp_path / "report.html"
    write_demo_page(path, title="first")
    with pytest.raises(AttributeError):
        write_demo_page(path, title="second", images=[None])  # type: ignore[list-item]
    assert "first" in path.read_text(encoding="utf-8")
    write_demo_page(path, title="third")
    assert "third" in path.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [path]


def test_the_least_report_has_no_empty_sections(tmp_path: Path):
    write_demo_page(tmp_path / "report.html", title="nothing yet")
    parsed = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "section" not in parsed.tags
    assert parsed.open == []


def test_an_ap_that_does_not_exist_is_a_dash(tmp_path: Path):
    nothing = dict.fromkeys(("ap", "ap50", "ap75", "ap_medium", "ap_large"))
    write_demo_page(tmp_path / "report.html", title="t", result=result(**nothing, per_class={}))
    assert "–AP" in Page((tmp_path / "report.html").read_text(encoding="utf-8")).text


def test_rows_without_a_number_are_skipped():
    assert series_of(ROWS, "epoch", "ap") == [(1.0, 0.31), (2.0, 0.42)]
    assert series_of(ROWS, "step", "cls") == [(10.0, 1.5)]
    assert series_of(ROWS, "step", "absent") == []


@pytest.mark.parametrize("column", ["loss", "loss_dfl", "dfl_loss", "train/loss", "cls"])
def test_loss_columns_are_found_however_they_are_called(column: str):
    (chart,) = training_curves([{"step": 1, column: 2.0}, {"step": 2, column: 1.0}])
    assert ">Loss<" in chart


def test_other_columns_make_no_chart():
    assert training_curves([{"step": 1, "seconds": 2.0, "ap_note": "x"}]) == []
