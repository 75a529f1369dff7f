"""Darknet's YOLO with obj.data: CVAT's YOLO 1.1, and darknet's own layout."""

from __future__ import annotations

from pathlib import Path

import pytest
from tool_files import corners, outcomes, write_images

from gfocal.data.annotated import NOT_ANNOTATED
from gfocal.data.discovery import detect_format, list_splits, read_data
from gfocal.data.locate import FOUND_BY_LAST_PARTS
from gfocal.data.readers.darknet import COUNT_DIFFERS, LIST_MISSING
from gfocal.data.readers.label_files import UNREADABLE_OBJECTS
from gfocal.errors import DataError

LINE = "1 0.5 0.5 0.2 0.5\n"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def cvat(prefix: str = "data/") -> dict[str, str]:
    """CVAT's YOLO 1.1 (format-yolo.md): data/ before each name stands for the folder of obj.data."""
    return {
        "obj.data": f"classes = 2\ntrain = {prefix}train.txt\nnames = {prefix}obj.names\nbackup = backup/\n",
        "obj.names": "round\nsquare\n",
        "train.txt": f"{prefix}obj_train_data/a.png\n{prefix}obj_train_data/sub/b.png\n",
        "obj_train_data/a.txt": LINE,
        "obj_train_data/sub/b.txt": "",
    }


@pytest.mark.parametrize("prefix", ["data/", "", "./"])
def test_cvat_export(tmp_path: Path, prefix: str) -> None:
    write(tmp_path, cvat(prefix))
    write_images(tmp_path / "obj_train_data", "a.png", "sub/b.png")
    data = read_data(tmp_path)
    assert detect_format(tmp_path) == "darknet"
    assert list_splits(tmp_path) == ["train"]
    assert data.names == ("round", "square")
    assert data.category_ids == (0, 1)
    assert corners(data) == {"a.png": [[40, 20, 60, 60]], "b.png": []}
    assert not data.problems
    assert corners(read_data(tmp_path / "obj.data")) == corners(data)


def test_images_that_were_not_exported_lie_elsewhere(tmp_path: Path) -> None:
    write(tmp_path, cvat())
    write_images(tmp_path / "images", "a.png")
    data = read_data(tmp_path)
    assert corners(data) == {"a.png": [[40, 20, 60, 60]]}
    assert outcomes(data) == {(FOUND_BY_LAST_PARTS, "kept"): 1, ("image file is missing", "dropped"): 1}


def test_darknet_with_paths_of_another_machine(tmp_path: Path) -> None:
    """Absolute paths, as scripts/voc_label.py of darknet writes them; labels/ for images/."""
    files = {
        "voc.data": "classes= 3\ntrain  = /home/someone/voc/train.txt\n"
        "valid  = /home/someone/voc/test.txt\nnames = voc.names\n",
        "voc.names": "a\nb\n",
        "train.txt": "/home/someone/voc/images/x.jpg\n/home/someone/voc/images/unlabeled.jpg\n",
        "labels/x.txt": LINE,
    }
    write(tmp_path, files)
    write_images(tmp_path / "images", "x.jpg", "unlabeled.jpg")
    data = read_data(tmp_path)
    assert corners(data) == {"x.jpg": [[40, 20, 60, 60]]}
    assert outcomes(data) == {
        (FOUND_BY_LAST_PARTS, "kept"): 1,
        (NOT_ANNOTATED, "left out"): 1,
        (COUNT_DIFFERS, "kept"): 1,
        (LIST_MISSING, "skipped"): 1,
    }


@pytest.mark.parametrize(
    "line",
    [
        "2 0.5 0.5 0.2 0.5",
        "1 0.5 0.5 0.2",
        "1 0.5 0.5 0.2 0.5 0.9",
        "round 0.5 0.5 0.2 0.5",
        "1 0.5 nan 0.2 0.5",
        "0.5 0.5 0.5 0.2 0.5",
    ],
)
def test_an_image_with_a_line_that_is_not_understood_is_left_out(tmp_path: Path, line: str) -> None:
    write(tmp_path, cvat() | {"obj_train_data/sub/b.txt": f"{LINE}{line}\n"})
    write_images(tmp_path / "obj_train_data", "a.png", "sub/b.png")
    data = read_data(tmp_path)
    assert sorted(corners(data)) == ["a.png"]
    assert sum(count for (_, action), count in outcomes(data).items() if action == "left out") == 1
    assert "nan" in line or outcomes(data)[UNREADABLE_OBJECTS, "left out"] == 1


def test_names_with_an_empty_line_are_refused(tmp_path: Path) -> None:
    write(tmp_path, cvat() | {"obj.names": "round\n\nsquare\n"})
    write_images(tmp_path / "obj_train_data", "a.png", "sub/b.png")
    with pytest.raises(DataError, match=r"obj\.names: each line must be the name of a class"):
        read_data(tmp_path)
