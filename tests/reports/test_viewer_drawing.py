"""What the viewer draws, in a real browser: labels, intervals and ground truth, of which none hides another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from viewer_scenes import annotated, apart, calibration, found, packed, settings

OVERLAPS = """() => {
  const all = [...document.querySelectorAll(".label:not([hidden]) .plate")].map((one) => one.getBoundingClientRect());
  const overlap = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 0.01
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 0.01;
  return all.flatMap((a, k) => all.slice(0, k).filter((b) => overlap(a, b))).length;
}"""


@pytest.mark.parametrize("width", [1280, 390])
def test_labels_overprint_no_other_one(show: Any, width: int) -> None:
    boxes = torch.tensor([[20.0 + 2 * k, 30.0 + k, 150.0 + 2 * k, 140.0 + k] for k in range(24)])
    crowd = replace(found(count=24), boxes=boxes, scores=0.95 - 0.03 * torch.arange(24))
    viewer = show([packed(crowd), packed(apart())], settings(names=("a class of a long name", "b")))
    viewer.page.set_viewport_size({"width": width, "height": 844})
    labels = viewer.page.locator(".stage .labels text")
    written = labels.all_text_contents()
    assert 3 <= len(written) < 24
    assert "a class of a long name 0.95" in written  # the best score has its label in any case
    assert viewer.page.evaluate(OVERLAPS) == 0
    for _ in range(24):
        viewer.press("ArrowDown")
        assert viewer.page.locator(".stage .active .label text").text_content() in viewer.text(".detections").replace(
            "\n", " "
        )
        assert viewer.page.evaluate(OVERLAPS) == 0
    viewer.press("Escape", "j")
    assert labels.all_text_contents() == ["a class of a long name 0.90", "b 0.40"]
    assert viewer.page.locator(".stage .label[hidden]").count() == 0


def test_the_outer_and_the_inner_box_have_lines_bands_and_numbers_of_their_own(show: Any) -> None:
    made = calibration()
    one = apart(made)
    viewer = show([packed(one)], settings(made))
    viewer.press("ArrowDown")
    for kind, boxes in (("outer", one.outer_boxes(0.9)), ("inner", one.inner_boxes(0.9))):
        assert viewer.facts()[f"{kind} box"] == ", ".join(f"{v:.1f}" for v in boxes[0].tolist())
        at = viewer.page.eval_on_selector(f".active .frame.{kind}", "one => one.x.baseVal.value")
        assert at == pytest.approx(float(boxes[0, 0]), abs=0.01)
    looks = "one => { const s = getComputedStyle(one); return [s.stroke, s.strokeDasharray, s.fill]; }"
    frames, bands = (
        [viewer.page.eval_on_selector(f".active .{kind}", looks) for kind in kinds]
        for kinds in (("frame.outer", "frame.inner", "frame.chosen"), ("band.outside", "band.inside"))
    )
    assert len({stroke for stroke, *_ in frames[:2]}) == 2
    assert len({dashes for _, dashes, _ in frames}) == 3
    assert bands[0][2] != bands[1][2]
    viewer.press("1")
    assert viewer.count(".active .band.outside") == viewer.count(".active .band.inside") == 1
    viewer.press("z")
    low, high = one.edge_interval(0.9)[0, 0].tolist()
    x, _, width, _ = map(float, viewer.page.get_attribute(".stage svg", "viewBox").split())
    assert x < low < high < x + width < 140  # the edge alone, enlarged


def test_ground_truth_lies_above_the_detections_with_gaps(show: Any) -> None:
    viewer = show([packed(apart(), annotated=annotated())], settings(thresholds=(0.5, 0.3)))
    viewer.page.check("[name=annotated]")
    frames = viewer.page.eval_on_selector_all(
        ".stage .boxes .frame", "all => all.map(one => one.getAttribute('class'))"
    )
    assert [" gt " in name for name in frames] == sorted(" gt " in name for name in frames)
    for kind in ("annotated", "missed"):
        for part in ("frame", "halo"):
            dashes = f"getComputedStyle(document.querySelector('.boxes .{part}.{kind}')).strokeDasharray"
            assert viewer.page.evaluate(dashes) != "none"
    viewer.page.focus(".stage")
    viewer.press("ArrowDown")
    last = viewer.page.eval_on_selector_all(".stage .active .frame", "all => all.at(-1).getAttribute('class')")
    assert last == "frame gt annotated"
