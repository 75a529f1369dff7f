"""The viewer in a real browser: its numbers are those of Python, by pointer and by keys; names do nothing.

conftest.py says what it needs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gfocal.reports import html
from gfocal.visualize.viewer.viewer_page import FOLDER, viewer_section
from viewer_browser import Viewer
from viewer_scenes import HOSTILE, annotated, apart, calibration, found, packed, settings


def run_numbers(browser: Any, script: str, *arguments: object) -> Any:
    """A function of ``boxes.js`` applied to arguments."""
    page = browser.new_page()
    try:
        code = (FOLDER / "boxes.js").read_text(encoding="utf-8")
        return page.evaluate(f"(values) => {{ {code}\n return ({script})(...values); }}", list(arguments))
    finally:
        page.close()


INTERVALS = """(text, settings, coverage, guarantee) => {
  const image = readImage(text), found = [];
  for (let i = 0; i < image.count; i++)
    for (let side = 0; side < 4; side++) found.push(intervalOf(image, i, side, settings, coverage, guarantee));
  return found;
}"""


@pytest.mark.parametrize("guarantee", ["box", "edge"])
@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.99])
def test_intervals_are_those_of_python(browser: Any, coverage: float, guarantee: Any) -> None:
    made = calibration()
    one = found(made=made, count=12)
    text, data = json.dumps(packed(one)), settings(made).calibration
    got = run_numbers(browser, INTERVALS, text, {"calibration": data}, coverage, guarantee)
    want = one.edge_interval(coverage, guarantee).numpy().reshape(-1, 2)
    assert len(np.unique(want)) > 40
    np.testing.assert_allclose(np.array(got), want, atol=1e-3)


def test_a_coverage_that_too_few_boxes_cannot_promise_has_no_interval(browser: Any) -> None:
    made = calibration(count=50)
    text, data = json.dumps(packed(found(made=made))), settings(made).calibration
    assert set(run_numbers(browser, INTERVALS, text, {"calibration": data}, 0.99, "box")) == {None}
    assert None not in run_numbers(browser, INTERVALS, text, {"calibration": data}, 0.9, "box")


def test_without_a_calibration_intervals_are_quantiles_of_the_distribution(browser: Any) -> None:
    one = found(count=12)
    got = run_numbers(browser, INTERVALS, json.dumps(packed(one)), {"calibration": None}, 0.8, "box")
    for i in range(12):
        for side in range(4):
            bins, size = one.edges[i, side].double().numpy(), float(one.bin_sizes[i, side])
            ends = np.interp([0.1, 0.9], [0, *np.cumsum(bins)], np.arange(10) - 0.5) * size
            start, sign = float(one.points[i, side % 2]), -1 if side < 2 else 1
            low, high = sorted(start + sign * ends)
            limit = (400, 300)[side % 2]
            assert got[4 * i + side] == pytest.approx((np.clip(low, 0, limit), np.clip(high, 0, limit)), abs=0.1)


def test_the_pointer_on_an_edge_shows_its_distribution(show: Any) -> None:
    made = calibration()
    one = apart(made)
    viewer = show([packed(one)], settings(made))
    assert not viewer.page.is_visible(".detail")
    viewer.point_at(41, 100)  # the left edge of the first box is at 40
    assert viewer.text(".about").startswith("a: score 0.900, calibrated 0.80")
    facts = viewer.facts()
    assert facts["left edge, x"] == "40.0 px"
    assert facts["edge_std"] == f"{float(one.edge_std[0, 0]):.2f} px, calibrated"
    low, high = one.edge_interval(0.9)[0, 0].tolist()
    assert facts["interval, 90 %"] == f"{low:.1f} to {high:.1f} px, {high - low:.1f} wide, calibrated"
    assert viewer.count(".chart .bar") == 2
    assert viewer.count(".stage .bin") == 2
    title = viewer.page.locator(".chart .bar title").first.text_content()
    assert title.endswith("50.0 %")
    viewer.point_at(290, 239)  # the bottom edge of the second
    assert viewer.facts()["bottom edge, y"] == "240.0 px"
    assert viewer.count(".chart .bar") == 9
    viewer.point_at(290, 160)  # inside of it
    assert "widest interval" in viewer.facts()
    viewer.point_at(5, 295)  # nothing is there
    assert not viewer.page.is_visible(".detail")


def test_everything_is_done_by_keys_alone(show: Any) -> None:
    viewer = show([packed(apart(), f"{k}.jpg") for k in range(3)], settings())
    viewer.press("j", "ArrowRight")
    assert viewer.text(".caption").startswith("3 of 3: 2.jpg")
    viewer.press("j", "k", "ArrowLeft")
    assert viewer.text(".caption").startswith("1 of 3: 0.jpg")
    viewer.press("ArrowDown")
    assert viewer.text(".about") == "a: score 0.900"
    viewer.press("ArrowDown", "ArrowDown")
    assert viewer.text(".about") == "b: score 0.400"
    for key, edge in zip("1234", ("left edge, x", "top edge, y", "right edge, x", "bottom edge, y"), strict=True):
        viewer.press(key)
        assert edge in viewer.facts()
    viewer.press("z")
    zoomed = viewer.page.get_attribute(".stage svg", "viewBox")
    viewer.press("Escape")
    assert zoomed != viewer.page.get_attribute(".stage svg", "viewBox") == "0 0 400 300"
    viewer.press("Escape")
    assert not viewer.page.is_visible(".detail")
    viewer.press("/")
    viewer.page.keyboard.type("j2k")  # letters of the field, not keys
    assert viewer.text(".caption") == "No image has what is chosen."
    viewer.press("Control+a", "2")
    assert viewer.names() == ["2.jpg"]
    viewer.press("Escape", "?")
    assert viewer.page.is_visible("dialog")
    viewer.press("Escape")
    assert not viewer.page.is_visible("dialog")


def test_tab_reaches_lists_and_edges_and_arrows_move_in_them(show: Any) -> None:
    viewer = show([packed(apart(), f"{k}.jpg") for k in range(3)], settings())
    viewer.page.focus(".images")
    viewer.press("ArrowDown", "End", "ArrowUp")
    assert viewer.text(".caption").startswith("2 of 3")
    assert viewer.page.get_attribute(".images", "aria-activedescendant") == "viewer-row-1"
    viewer.press("Tab", "Tab", "Tab", "Tab")  # the image, and its buttons: previous, next (zoom needs a detection)
    assert viewer.page.evaluate("document.activeElement.className") == "detections"
    assert viewer.text(".about") == "a: score 0.900"
    viewer.press("Tab", "Space")
    assert viewer.page.evaluate("document.activeElement.name") == "edge"
    assert "left edge, x" in viewer.facts()
    viewer.press("ArrowRight")
    assert "top edge, y" in viewer.facts()
    assert viewer.text(".caption").startswith("2 of 3")  # arrows are those of the buttons here
    outline = "getComputedStyle(document.activeElement).outlineWidth"
    assert viewer.page.evaluate(outline) == "3px"


def test_every_control_has_a_name(show: Any) -> None:
    viewer = show([packed(apart(), annotated=annotated())], settings(thresholds=(0.5, 0.3)))
    script = "one => one.labels?.length || one.getAttribute('aria-label') || one.textContent.trim()"
    for one in viewer.page.locator("input, select, button, [tabindex], [role=img]").all():
        assert one.evaluate(script) or one.get_attribute("class") == "chart", one.evaluate("one => one.outerHTML")
    viewer.press("ArrowDown", "1")
    assert "left edge" in viewer.page.get_attribute(".chart", "aria-label")


def test_sliders_and_filters(show: Any) -> None:
    made = calibration()
    one, other = apart(made), found(5, made, count=1)
    viewer = show([packed(one, "one.jpg"), packed(other, "other.jpg")], settings(made))
    assert viewer.count(".detections li") == 2
    viewer.set("score", 0.5)
    assert viewer.count(".detections li") == 1
    viewer.set("score", 0.1)
    coverages = settings(made).calibration["coverages"]
    viewer.press("ArrowDown", "1")
    for coverage in (0.5, 0.99):
        viewer.set("coverage", coverages.index(coverage))
        low, high = one.edge_interval(coverage)[0, 0].tolist()
        assert viewer.facts()[f"interval, {coverage:.0%}".replace("%", " %")].startswith(
            f"{low:.1f} to {high:.1f} px"
        )
    viewer.set("guarantee", "edge")
    low, high = one.edge_interval(0.99, "edge")[0, 0].tolist()
    assert viewer.facts()["interval, 99 %"].startswith(f"{low:.1f} to {high:.1f} px")
    interval = one.edge_interval(0.99, "edge")
    widths = (interval[..., 1] - interval[..., 0]).amax(1).tolist()
    viewer.set("width", (min(widths) + max(widths)) / 2)
    assert viewer.text(".detections").split("\n")[0] == ("a", "b")[widths[1] > widths[0]]
    viewer.set("width", 10_000)
    assert viewer.names() == []
    viewer.set("width", 0)
    viewer.page.click(".classes summary")
    viewer.page.uncheck("[data-label='0']")
    assert viewer.names() == ["one.jpg"]
    assert viewer.text(".status").startswith("1 of 2 images; 1 detection")
    viewer.page.click("[name=all]")
    assert viewer.names() == ["one.jpg", "other.jpg"]
    viewer.set("sort", "score")
    assert viewer.names() == ["one.jpg", "other.jpg"]  # 0.4 and 0.95
    viewer.set("sort", "width")
    other_interval = other.edge_interval(0.99, "edge")
    is_wider = float((other_interval[..., 1] - other_interval[..., 0]).max()) > max(widths)
    assert viewer.names()[0] == ("one.jpg", "other.jpg")[is_wider]


def test_what_is_not_calibrated_says_so(show: Any) -> None:
    viewer = show([packed(apart())], settings())
    viewer.press("ArrowDown", "1")
    assert viewer.facts()["edge_std"].endswith("not calibrated")
    assert viewer.facts()["interval, 90 %"].endswith("of the distribution, not calibrated")
    assert viewer.text(".remark").startswith("Not calibrated")


def test_too_few_boxes_promise_nothing(show: Any) -> None:
    made = calibration(count=50)
    viewer = show([packed(apart(made))], settings(made))
    viewer.set("coverage", settings(made).calibration["coverages"].index(0.99))
    viewer.press("ArrowDown", "1")
    assert viewer.facts()["interval, 99 %"] == "not promised: the calibration had 50 boxes, too few"


def test_outcomes_are_shown_and_hidden_each(show: Any) -> None:
    images = [packed(apart(), annotated=annotated())]
    viewer = show(images, settings(thresholds=(0.5, 0.3)))
    kinds = ("right", "wrong", "missed", "annotated")

    def frames() -> dict[str, int]:
        return {kind: viewer.count(f".stage .boxes .frame.{kind}") for kind in kinds}

    assert frames() == {"right": 1, "wrong": 1, "missed": 1, "annotated": 0}
    assert "1 true positives, 1 false positives; 1 missed" in viewer.text(".status")
    viewer.page.uncheck("[name=wrong]")
    viewer.page.check("[name=annotated]")
    assert frames() == {"right": 1, "wrong": 0, "missed": 1, "annotated": 1}
    viewer.page.check("[name=wrong]")
    order = viewer.page.eval_on_selector_all(
        ".stage .boxes .frame:not(.gt)", "all => all.map(one => one.classList.contains('right'))"
    )
    assert order[-1] is True  # above the false positive
    viewer.set("score", 0.95)  # no threshold of classes any more
    assert frames() == {"right": 0, "wrong": 0, "missed": 2, "annotated": 0}
    viewer.page.check("[name=own]")
    viewer.press("ArrowDown", "1")
    assert viewer.facts()["ground truth"] == "42.0 px, off by 2.0"


def test_buttons_do_what_keys_do(show: Any) -> None:
    viewer = show([packed(apart(), f"{k}.jpg") for k in range(2)], settings())
    viewer.page.set_viewport_size({"width": 390, "height": 844})
    assert viewer.page.is_disabled("[name=previous]")
    viewer.page.click("[name=next]")
    assert viewer.text(".caption").startswith("2 of 2: 1.jpg")
    assert viewer.page.is_disabled("[name=next]")
    assert viewer.page.is_disabled("[name=zoom]")
    viewer.page.click(".detections li")
    viewer.page.click("[name=zoom]")
    assert viewer.page.get_attribute(".stage svg", "viewBox") != "0 0 400 300"
    viewer.page.click("[name=zoom]")
    assert viewer.page.get_attribute(".stage svg", "viewBox") == "0 0 400 300"
    assert not viewer.page.is_visible("[name=width]")  # a narrow page begins with the image
    viewer.page.click("[name=toggle]")
    viewer.page.fill("[name=width]", "10000")
    assert viewer.text(".caption") == "No image has what is chosen."
    viewer.page.fill("[name=width]", "0")
    viewer.page.click(".classes summary")
    assert viewer.page.evaluate("document.documentElement.scrollWidth") <= 390
    viewer.page.click(".status")
    assert not viewer.page.is_visible("[name=none]")


def test_names_are_text(show: Any) -> None:
    viewer = show([packed(apart(), HOSTILE)], settings(names=(HOSTILE, "b"), title=HOSTILE))
    viewer.press("ArrowDown", "1")
    assert viewer.count("b b, h1 b, .images b, .stage b") == 0
    assert viewer.text("h1") == HOSTILE
    assert HOSTILE in viewer.text(".caption")
    assert viewer.text(".about").startswith(HOSTILE)
    assert viewer.page.locator(".stage .active text").text_content().startswith(HOSTILE)


def test_two_thousand_images_have_few_rows_at_a_time(show: Any) -> None:
    one = packed(apart(), side=32)
    viewer = show([one | {"name": f"{k}.jpg"} for k in range(2000)], settings())
    assert viewer.text(".status") == "2,000 of 2,000 images; 4,000 detections"
    assert 0 < viewer.count(".images [role=option]") < 30
    viewer.page.focus(".images")
    viewer.press("End")
    assert viewer.names()[-1] == "1999.jpg"
    assert 0 < viewer.count(".images [role=option]") < 30
    assert viewer.count("img, image") < 40


def test_an_image_without_pixels_has_its_boxes(show: Any) -> None:
    viewer = show([packed(apart()) | {"jpeg": None}], settings())
    assert viewer.count(".stage image") == 0
    assert viewer.count(".stage .boxes .frame") == 2
    assert "boxes alone" in viewer.text(".caption")


def test_detections_without_distributions_are_shown(show: Any) -> None:
    one = found(num_bins=9)
    bare = packed(type(one)(**{**vars(one), "edges": torch.zeros(len(one), 4, 0)}))
    viewer = show([bare], settings())
    viewer.press("ArrowDown", "1")
    assert viewer.facts()["distribution"] == "none"
    assert viewer.page.is_disabled("[name=coverage]")
    assert not viewer.page.is_visible(".chart")


def test_no_image_at_all(show: Any) -> None:
    viewer = show([], settings())
    viewer.press("j", "ArrowDown", "1", "z", "Escape")
    assert viewer.text(".caption") == "No image has what is chosen."


def test_dark_and_narrow(show: Any) -> None:
    viewer = show([packed(apart())], settings())
    background = "getComputedStyle(document.querySelector('.viewer')).backgroundColor"
    light = viewer.page.evaluate(background)
    viewer.page.emulate_media(color_scheme="dark")
    assert viewer.page.evaluate(background) != light
    viewer.page.set_viewport_size({"width": 400, "height": 700})
    assert viewer.page.evaluate("document.documentElement.scrollWidth") <= 400
    viewer.press("ArrowDown", "3")
    assert "right edge, x" in viewer.facts()


def test_a_section_of_a_report_has_keys_where_the_focus_is_in_it(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    section = viewer_section(settings(), [packed(apart(), f"{k}.jpg") for k in range(3)])
    html.write_page(path, "Report", [html.header("Report"), html.section("Images", section)])
    viewer = Viewer(browser, path)
    viewer.press("j")
    assert viewer.text(".caption").startswith("1 of 3")
    viewer.page.focus(".stage")
    viewer.press("j", "ArrowDown", "2")
    assert viewer.text(".caption").startswith("2 of 3")
    assert "top edge, y" in viewer.facts()
    assert viewer.troubles == []
    viewer.page.close()
