"""The page about an evaluation: whole on its own, escaped, and with the right numbers and images."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from gfocal.calibration.chance import Chance
from gfocal.calibration.coverage import Coverage
from gfocal.calibration.measure import Trust
from gfocal.data.dataset import FileData, Sample
from gfocal.evaluation.error_analysis import MEANINGS, FalsePositive, ImageMistakes
from gfocal.evaluation.evaluate import Evaluation, evaluate
from gfocal.reports.evaluation import draw_worst_images, write_evaluation_page
from gfocal.reports.html import CaptionedImage
from gfocal.visualize import draw_mistakes
from gfocal.visualize.charts import curve_svg
from gfocal.visualize.evaluation_charts import f1_chart, miss_rate_chart, precision_recall_charts, reliability_chart
from gfocal.visualize.mistakes import CROWD, FALSE_POSITIVE, MISSED, TRUE_POSITIVE, describe_error

EVIL = "<b>&\"'</b>"
SCREEN = [20.0, 20.0, 60.0, 60.0]


def data_of(folder: Path, num_classes: int, num_images: int = 12) -> FileData:
    """One object of each class in turn, always in one place, in gray images."""
    samples = []
    for k in range(num_images):
        path = folder / f"{k}.png"
        Image.new("RGB", (100, 80), (128, 128, 128)).save(path)
        label = torch.tensor([k % num_classes])
        samples.append(Sample(k + 1, path, torch.tensor([SCREEN]), label, torch.tensor([False]), (80, 100)))
    return FileData((EVIL, *(f"class{c}" for c in range(1, num_classes))), tuple(range(1, num_classes + 1)), samples)


def evaluation_of(data: FileData, thresholds: Sequence[float] | None = None) -> Evaluation:
    """All of class 0 found, the others taken for the class after them, and one thing in a corner."""
    found = {}
    for sample in data.samples:
        label = int(sample.labels[0])
        guess = label if label == 0 else (label + 1) % len(data.names)
        found[sample.image_id] = SimpleNamespace(
            boxes=torch.tensor([SCREEN, [80.0, 60.0, 99.0, 79.0]]),
            scores=torch.tensor([0.9 - sample.image_id / 100, 0.3]),
            labels=torch.tensor([guess, 0]),
        )
    return evaluate(data, found, model_thresholds=thresholds)


class Outline(HTMLParser):
    """Tags that are open at the end, headings, and what would load something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "br", "line", "circle", "rect", "polyline", "path"):
            self.open.append(tag)
        self.loads += [
            value or "" for name, value in attrs if name in ("src", "href") and "data:" not in (value or "")
        ]
        self.loads += [tag] if tag in ("script", "link", "iframe") else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)


def test_the_page_is_whole_and_escaped(tmp_path: Path) -> None:
    data = data_of(tmp_path, 3)
    evaluation = evaluation_of(data)
    images = draw_worst_images(data, evaluation, 4)
    page = tmp_path / "page.html"
    write_evaluation_page(page, evaluation, title=EVIL, lead=EVIL, images=images, facts={EVIL: EVIL})
    text = page.read_text(encoding="utf-8")
    outline = Outline()
    outline.feed(text)
    assert outline.open == []
    assert outline.loads == []
    assert "<b>&" not in text
    assert "".join(outline.headings[:1]) == EVIL
    assert outline.headings[-7:] == [
        "Error types", "Images with the most errors", "Score thresholds", "AP per class", "Precision-recall curves",
        "Confusion matrix", "Details",
    ]  # fmt: skip
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ET.fromstring(svg)
    assert text.count("<svg") == 3 + 3
    assert text.count("<figure>") == 4


def test_the_page_says_the_numbers(tmp_path: Path) -> None:
    evaluation = evaluation_of(data_of(tmp_path, 3))
    write_evaluation_page(tmp_path / "page.html", evaluation, title="t")
    text = re.sub(r"<[^>]+>", " ", (tmp_path / "page.html").read_text(encoding="utf-8"))
    words = re.sub(r"\s+", " ", text)
    assert f"{evaluation.num_true_positives} true positives" in words
    assert f"{evaluation.num_false_positives} false positives" in words
    assert f"({evaluation.fppi:.2f} per image)" in words
    assert "Most often confused: class1 as class2: 3; class2 as" in words
    counts, cost = evaluation.errors.counts["classification"], evaluation.errors.cost["classification"]
    assert f"classification {MEANINGS['classification']} {counts} {cost:.3f}" in words


def test_the_page_says_which_errors_may_be_objects_without_annotation(tmp_path: Path) -> None:
    data = data_of(tmp_path, 3)
    evaluation = evaluation_of(data, (0.1, 0.1, 0.1))
    images = draw_worst_images(data, evaluation, 4)
    write_evaluation_page(tmp_path / "page.html", evaluation, title="t", images=images)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    wrong = [one.kind for image in evaluation.worst_images(12) for one in image.false_positives]
    assert f"Background: 12 of {len(wrong)} false positives at the model&#x27;s own thresholds" in page
    assert page.index("objects that nobody annotated") < page.index("<figure>")
    assert f"{MEANINGS['missed']}; at any score" in page


def test_the_page_explains_the_measures_of_trust(tmp_path: Path) -> None:
    boxes = (Coverage(0.9, 0.919, 0.95, 30.9, 28.0, 33.3, 842, Chance(0.88, 0.915, "above", 1.0)),)
    trust = Trust(842, 0.5, 0.3, True, 6.3, 7.1, 0.05, 2.96, 0.077, 0.085, 0.013, 0.01, boxes, edges=())
    trust = replace(trust, advice=("why so: <b>", "what to do"))
    write_evaluation_page(tmp_path / "page.html", evaluation_of(data_of(tmp_path, 3)), title="t", trust=trust)
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", (tmp_path / "page.html").read_text(encoding="utf-8")))
    assert "ENCE 0.05 share by which edge_std is off from the errors; 0 is perfect" in text
    covered = "all four edges are in their intervals; more than chance explains (88% to 92%)"
    assert f"Boxes covered, 90% promised 0.919 {covered}" in text
    assert "True positives 842 detections with scores above 0.3 that match an object" in text
    assert "Why so: &lt;b&gt;. What to do." in text
    assert "LaECE 0.077 by how much scores are off from the IoU" in text
    assert "D-ECE, calibrated 0.010" in text


def test_many_classes_stay_within_bounds(tmp_path: Path) -> None:
    evaluation = evaluation_of(data_of(tmp_path, 40, 80))
    assert len(precision_recall_charts(evaluation)) == 40
    write_evaluation_page(tmp_path / "page.html", evaluation, title="t")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "28 more classes" in text
    matrix = text.split('class="matrix"')[1].split("</table>")[0]
    assert matrix.count("<tr>") == 1 + 24 + 1
    assert "16 classes with fewer errors omitted" in text
    assert f1_chart(evaluation).count("<polyline") == 6


def test_nothing_to_evaluate_is_still_a_page(tmp_path: Path) -> None:
    data = FileData(
        ("a",), (1,), [Sample(1, None, torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.bool))]
    )
    write_evaluation_page(tmp_path / "page.html", evaluate(data, {}), title="t")
    assert "1 class without ground truth omitted" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_an_image_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    data = data_of(tmp_path, 2)
    evaluation = evaluation_of(data)
    first, second = evaluation.worst_images(2)
    (tmp_path / f"{first.image_id - 1}.png").unlink()
    drawn = draw_worst_images(data, evaluation, 2)
    assert [image.caption.split(":")[0] for image in drawn] == [f"{second.image_id - 1}.png"]
    assert drawn[0].caption.endswith(": 1 false positive (1 classification), 1 missed, 0 true positives")
    assert isinstance(drawn[0], CaptionedImage)


def test_charts_mark_the_thresholds(tmp_path: Path) -> None:
    evaluation = evaluation_of(data_of(tmp_path, 3))
    assert f1_chart(evaluation).count('r="3.2"') == 4  # all classes together and three
    assert miss_rate_chart(evaluation).count('r="3.2"') == 3  # nothing is found as class1
    assert ">0.1</text>" in miss_rate_chart(evaluation)  # an axis of powers of ten
    assert "stroke-dasharray" in reliability_chart(evaluation)
    for chart in precision_recall_charts(evaluation):
        assert 'r="3.2"' not in chart


def test_a_legend_takes_as_many_rows_as_it_needs() -> None:
    points = [(0.0, 0.0), (1.0, 1.0)]
    one = curve_svg({"a": points, "b": points})
    rows = curve_svg({"x" * 30: points, "y" * 30: points, "z": points})
    assert 'viewBox="0 0 400 270"' in one
    assert 'viewBox="0 0 400 288"' in rows
    found = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="4.5"', rows)
    assert len({y for _, y in found}) == 2
    assert found[0][0] == found[1][0]


def mistakes(**changes: object) -> ImageMistakes:
    nothing: dict[str, object] = {"true_positives": (), "false_positives": (), "missed": (), "crowd": ()}
    return ImageMistakes(1, 1.0, **{**nothing, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "color"),
    [
        ({"true_positives": ((20.0, 30.0, 70.0, 70.0),)}, TRUE_POSITIVE),
        ({"false_positives": (FalsePositive((20.0, 30.0, 70.0, 70.0), 0, 0.5, "background", None),)}, FALSE_POSITIVE),
        ({"missed": (((20.0, 30.0, 70.0, 70.0), 0),)}, MISSED),
        ({"crowd": ((20.0, 30.0, 70.0, 70.0),)}, CROWD),
    ],
)
def test_each_kind_has_its_color_at_its_place(changes: dict[str, object], color: tuple[int, int, int]) -> None:
    drawn = draw_mistakes(Image.new("RGB", (100, 80), (128, 128, 128)), mistakes(**changes), ["cat"], min_side=400)
    assert drawn.size == (400, 320)
    of_kind = [(x, y) for x in range(400) for y in range(320) if drawn.getpixel((x, y)) == color]
    assert of_kind
    # The right side of the frame; the label stands at its left.
    assert any(abs(x - 280) <= 4 and 130 < y < 270 for x, y in of_kind)
    assert not any(100 < x < 260 and 150 < y < 260 for x, y in of_kind)
    assert {c for _, c in drawn.getcolors(1 << 20)} & (
        {TRUE_POSITIVE, FALSE_POSITIVE, MISSED, CROWD} - {color}
    ) == set()


def test_a_missed_frame_is_dashed_and_a_wrong_one_is_not() -> None:
    def share(**changes: object) -> float:
        drawn = draw_mistakes(Image.new("RGB", (400, 300)), mistakes(**changes), ["a"], min_side=0)
        bottom = [
            any(drawn.getpixel((x, y)) in (FALSE_POSITIVE, MISSED) for y in (249, 250, 251)) for x in range(100, 300)
        ]
        return sum(bottom) / len(bottom)

    box = (100.0, 100.0, 300.0, 251.0)
    assert share(false_positives=(FalsePositive(box, 0, 0.5, "both", None),)) > 0.95
    assert 0.3 < share(missed=((box, 0),)) < 0.8


def test_what_stands_on_a_wrong_one() -> None:
    names = ["cat", "dog"]
    box = (0.0, 0.0, 1.0, 1.0)
    assert describe_error(FalsePositive(box, 0, 0.714, "classification", 1), names) == "cat 0.71: is dog"
    assert describe_error(FalsePositive(box, 0, 0.714, "background", None), names) == "cat 0.71: background"
    assert describe_error(FalsePositive(box, 1, 0.5, "duplicate", None), names) == "dog 0.50: duplicate"
