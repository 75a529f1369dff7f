"""MegaDetector's batch output: relative boxes, the score threshold, failures, categories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tool_files import boxes, reasons, write_images, write_json

from gfocal.data.annotated import NOT_ANNOTATED
from gfocal.data.discovery import detect_format, read_data
from gfocal.data.readers.megadetector import BELOW_THRESHOLD, EMPTIED, NO_CATEGORY, SPECIES, VIDEO
from gfocal.data.readers.reading import BROKEN_BOX, SCORED
from gfocal.data.validation import REPEATED_CLASS
from gfocal.errors import DataError

CATEGORIES = {"1": "animal", "2": "person", "3": "vehicle"}


def found(category: str = "1", conf: Any = 0.9, box: Any = (0.1, 0.25, 0.5, 0.5)) -> dict[str, Any]:
    return {"category": category, "conf": conf, "bbox": list(box)}


def output(*images: dict[str, Any], categories: dict[str, str] | None = None, **info: Any) -> dict[str, Any]:
    """In the order of format 1.1, which has images first in older files."""
    return {
        "images": list(images),
        "detection_categories": categories or CATEGORIES,
        "info": {"format_version": "1.1", "detector": "md_v5a"} | info,
    }


def entry(name: str, *detections: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"file": name, "max_detection_conf": 0.9, "detections": list(detections)} | more


def test_batch_output(tmp_path: Path) -> None:
    """As test_images/expected_output_DRAFT.json of microsoft/CameraTraps: ascending scores, tiny negatives."""
    images = [
        entry("site/a.JPG", found("2", 0.012), found("3", 0.3, (-5e-7, 0.5, 0.25, 0.5)), found()),
        entry("site/b.jpg", found("1", 0.19)),
        entry("c.jpg"),
        {"file": "d.jpg", "failure": "Failure image access", "detections": None},
        {"file": "e.jpg", "failure": "Failure inference"},
    ]
    write_json(tmp_path / "md.json", output(*images))
    write_images(tmp_path, "site/a.JPG", "site/b.jpg", "c.jpg", "d.jpg", "e.jpg")
    data = read_data(tmp_path)
    assert detect_format(tmp_path) == "megadetector"
    assert data.names == ("animal", "person", "vehicle")
    assert data.category_ids == (1, 2, 3)
    assert boxes(data) == {
        "a.JPG": [("vehicle", [0, 40, 25, 80], False), ("animal", [10, 20, 60, 60], False)],
        "b.jpg": [],
        "c.jpg": [],
    }
    assert reasons(data) == {BELOW_THRESHOLD: 1, EMPTIED: 1, SCORED: 1, NOT_ANNOTATED: 2}
    assert "2 detections below 0.2" in next(p.record for p in data.problems if p.reason == BELOW_THRESHOLD)


def test_the_threshold_of_the_detector_and_of_the_user(tmp_path: Path) -> None:
    """typical_detection_threshold of detector_metadata, in megadetector-output-format.md since format 1.2."""
    content = output(entry("a.jpg", found(conf=0.5)), detector_metadata={"typical_detection_threshold": 0.8})
    write_json(tmp_path / "md.json", content)
    write_images(tmp_path, "a.jpg")
    assert boxes(read_data(tmp_path)) == {"a.jpg": []}
    write_json(tmp_path / "gfocal.json", {"score_threshold": 0.4})
    assert len(boxes(read_data(tmp_path))["a.jpg"]) == 1
    write_json(tmp_path / "gfocal.json", {"score_threshold": "high"})
    with pytest.raises(DataError, match="score_threshold 'high'"):
        read_data(tmp_path)


def test_species_videos_and_unknown_categories(tmp_path: Path) -> None:
    """Format 1.6: classifications of detections, videos with frame numbers; unknown keys are 'no detection'."""
    images = [
        entry("a.jpg", found() | {"classifications": [["3", 0.9]]}, found("7")),
        entry("b.mp4", found() | {"frame_number": 0}, frame_rate=30),
    ]
    write_json(tmp_path / "md.json", output(*images))
    data = read_data(write_images(tmp_path, "a.jpg"))
    assert len(boxes(data)["a.jpg"]) == 1
    assert reasons(data) == {SCORED: 1, SPECIES: 1, NO_CATEGORY: 1, VIDEO: 1}


def test_categories_of_one_name_are_merged_and_said(tmp_path: Path) -> None:
    categories = {"0": "empty", "1": "animal", "2": "animal"}
    write_json(tmp_path / "md.json", output(entry("a.jpg", found("2")), categories=categories))
    data = read_data(write_images(tmp_path, "a.jpg"))
    assert data.names == ("animal",)
    assert reasons(data)[REPEATED_CLASS] == 1


@pytest.mark.parametrize("bad", [found(conf="?"), found(conf=1.5), found(box=()), found(box=(1, 2, "x", 4)), 3])
def test_what_is_not_understood_is_no_background(tmp_path: Path, bad: Any) -> None:
    write_json(tmp_path / "md.json", output(entry("a.jpg", bad), entry("b.jpg", found())))
    data = read_data(write_images(tmp_path, "a.jpg", "b.jpg"))
    assert list(boxes(data)) == ["b.jpg"]
    assert reasons(data)[BROKEN_BOX] == 1


def test_annotations_by_people_go_first(tmp_path: Path) -> None:
    write_json(tmp_path / "md.json", output(entry("a.jpg", found())))
    write_json(
        tmp_path / "labels.json",
        {
            "images": [{"id": 1, "file_name": "a.jpg"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
            "categories": [{"id": 1, "name": "deer"}],
        },
    )
    assert read_data(write_images(tmp_path, "a.jpg")).names == ("deer",)
