"""The viewer's file: what it holds of images and detections, its size, and names that could break out."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gfocal.visualize.viewer.pack import (
    MAX_SIDE,
    MIN_SIDE,
    choose_side,
    pack_calibration,
    pack_image,
    pack_pixels,
)
from gfocal.visualize.viewer.viewer_page import viewer_section, write_viewer
from viewer_scenes import HOSTILE, annotated, apart, calibration, found, packed, settings


def decode(text: str, kind: str) -> Any:
    return np.frombuffer(base64.b64decode(text), kind)


class Blocks(HTMLParser):
    """The script elements of a page, and the names of all elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.is_inside = False  # of a script
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.is_inside = tag == "script"
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self.is_inside = False

    def handle_data(self, data: str) -> None:
        if self.is_inside:
            attributes, before = self.scripts[-1]
            self.scripts[-1] = (attributes, before + data)

    def of(self, kind: str) -> list[Any]:
        return [json.loads(text) for attributes, text in self.scripts if attributes.get("class") == kind]


def test_arrays_are_those_of_the_detections() -> None:
    one = found(made=calibration())
    data = pack_image("a.jpg", one, one.size)
    assert (data["width"], data["height"], data["bins"]) == (400, 300, 9)
    assert (decode(data["boxes"], "<f4").reshape(-1, 4) == one.boxes.numpy()).all()
    assert (decode(data["scores"], "<f4") == one.scores.numpy()).all()
    assert (decode(data["labels"], "<u2") == one.labels.numpy()).all()
    assert (decode(data["edge_std"], "<f4").reshape(-1, 4) == one.edge_std.numpy()).all()
    assert (decode(data["calibrated_scores"], "<f4") == one.calibrated_scores().numpy()).all()
    edges = (decode(data["edges"], "u1").reshape(one.edges.shape) / 255) ** 2
    np.testing.assert_allclose(edges, one.edges.numpy(), atol=0.004)


def test_detections_without_distributions_have_none() -> None:
    one = found(num_bins=9)
    bare = pack_image(
        "a.jpg", type("Rows", (), {"boxes": one.boxes, "scores": one.scores, "labels": one.labels}), (3, 4)
    )
    assert "edges" not in bare
    assert "bins" not in bare
    assert "kinds" not in bare


def test_ground_truth_is_packed_beside_them() -> None:
    data = packed(apart(), annotated=annotated())
    assert decode(data["gt_detection"], "<i4").tolist() == [0, -1]
    assert decode(data["kinds"], "u1").tolist() == [0, 6]
    assert decode(data["gt_boxes"], "<f4").reshape(-1, 4).tolist()[0] == [42, 52, 141, 149]


@given(st.integers(50, 99), st.integers(9, 400))
def test_factors_are_those_of_the_calibration(percent: int, boxes: int) -> None:
    made = calibration(count=boxes)
    data = pack_calibration(made, 2, 0.9)
    assert data is not None
    at = data["coverages"].index(percent / 100)
    if not made.can_promise(percent / 100):
        assert data["box"][at] is None
        assert data["edge"][at] is None
        return
    labels = torch.arange(2)
    assert data["box"][at] == made.factors(labels, percent / 100, "box")[:, 0].tolist()
    assert data["edge"][at] == made.factors(labels, percent / 100, "edge")[0].tolist()


def test_a_coverage_beside_whole_percents_is_added_and_no_calibration_is_none() -> None:
    data = pack_calibration(calibration(), 2, 0.995)
    assert data is not None
    assert data["coverages"][-1] == 0.995
    assert pack_calibration(None, 2) is None


@given(st.integers(1, 100_000), st.integers(1_000_000, 10**9))
def test_many_images_are_smaller(count: int, size: int) -> None:
    side = choose_side(count, size)
    assert MIN_SIDE <= side <= MAX_SIDE
    assert choose_side(count + 1000, size) <= side


def test_pixels_are_a_jpeg_of_the_side() -> None:
    image = torch.full((3, 300, 400), 90, dtype=torch.uint8)
    with Image.open(io.BytesIO(base64.b64decode(pack_pixels(image, 128)))) as small:
        assert (small.format, small.size) == ("JPEG", (128, 96))
        assert small.getpixel((5, 5)) == pytest.approx((90, 90, 90), abs=3)


def test_the_page_has_a_block_for_each_image_and_runs_its_own_script_alone(tmp_path: Path) -> None:
    path = tmp_path / "viewer.html"
    written = write_viewer(path, settings(calibration()), [packed(found(k), f"{k}.jpg") for k in range(3)])
    text = path.read_text(encoding="utf-8")
    blocks = Blocks(text)
    assert [one["name"] for one in blocks.of("viewer-image")] == ["0.jpg", "1.jpg", "2.jpg"]
    assert [a["data-pixels"] for a, _ in blocks.scripts if "data-pixels" in a] == ["0", "1", "2"]
    (script,) = [code for attributes, code in blocks.scripts if not attributes]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert "default-src 'none'" in text
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    assert (written.num_images, written.num_without_pixels, written.num_bytes) == (3, 0, len(text.encode()))
    assert written.describe_missing() is None
    assert [file.name for file in tmp_path.iterdir()] == ["viewer.html"]


def test_names_cannot_break_out(tmp_path: Path) -> None:
    path = tmp_path / "viewer.html"
    made = settings(names=(HOSTILE, "b\x1b[31m"), title=HOSTILE)
    write_viewer(path, made, [packed(apart(), HOSTILE)])
    blocks = Blocks(path.read_text(encoding="utf-8"))
    assert "b" not in blocks.tags
    assert blocks.of("viewer-image")[0]["name"] == HOSTILE
    assert blocks.of("viewer-settings")[0]["names"] == [HOSTILE, "b\\x1b[31m"]


def test_a_full_page_has_boxes_without_pixels_and_says_so(tmp_path: Path) -> None:
    images = [packed(found(k), f"{k}.jpg", side=400) for k in range(20)]
    path = tmp_path / "viewer.html"
    whole = write_viewer(path, settings(), images)
    limit = whole.num_bytes - 3 * len(images[0]["jpeg"])
    written = write_viewer(path, settings(), images, limit)
    assert 1 <= written.num_without_pixels <= 10
    assert written.num_bytes <= limit
    assert len(Blocks(path.read_text(encoding="utf-8")).of("viewer-image")) == 20
    note = written.describe_missing()
    assert note is not None
    assert f"of {written.num_without_pixels} of 20 images" in note
    assert "--viewer-mb" in note


def test_a_section_of_another_page_has_no_skeleton() -> None:
    section = viewer_section(settings(), [packed(apart())])
    tags = Blocks(section).tags
    assert not {"html", "body", "head", "h1", "meta"} & set(tags)
    assert 'class="viewer"' in section
