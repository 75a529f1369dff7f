"""Files of labeling tools and benchmarks as an enemy, or a bad disk, would write them: what the fuzzer has found.

The long runs are ``benchmarks/fuzz_readers.py --only tools``; a few cases of them run in ``test_fuzz.py``.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gfocal.data.annotated import AnnotationFormat, read_annotated
from gfocal.data.dataset import FileData
from gfocal.data.discovery import read_data
from gfocal.data.readers.createml import CREATEML
from gfocal.data.readers.csv import read_csv
from gfocal.data.readers.label_studio import LABEL_STUDIO
from gfocal.data.readers.label_studio_yolo import LABEL_STUDIO_YOLO
from gfocal.data.readers.openimages import OPENIMAGES
from gfocal.data.readers.reading import BROKEN_BOX
from gfocal.data.readers.via import VIA
from gfocal.errors import DataError

REGION: dict[str, Any] = {"id": "x", "original_width": 40, "original_height": 30}
RECTANGLE = {"x": 10, "y": 10, "width": 50, "height": 50, "rectanglelabels": ["cat"]}


def put(path: Path, content: str = "") -> Path:
    """A text file, or for a name of an image an image of 40x30."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.new("L", (40, 30)).save(path)
    else:
        path.write_text(content)
    return path


def by_reason(data: FileData) -> set[str]:
    return {problem.reason for problem in data.problems}


def test_outline_without_points(tmp_path: Path) -> None:
    """Label Studio and CVAT: the image is left out, the others are read."""
    for name in "ab":
        put(tmp_path / "images" / f"{name}.png")
    regions = [
        REGION | {"type": "polygonlabels", "value": {"points": [], "polygonlabels": ["cat"]}},
        REGION | {"type": "rectanglelabels", "value": RECTANGLE},
    ]
    tasks = [
        {"id": i, "data": {"image": f"images/{name}.png"}, "annotations": [{"id": i, "result": [region]}]}
        for i, (name, region) in enumerate(zip("ab", regions, strict=True))
    ]
    put(tmp_path / "tasks.json", json.dumps(tasks))
    data = read_data(tmp_path)
    assert [sample.path.name for sample in data.samples if sample.path] == ["b.png"]
    assert BROKEN_BOX in by_reason(data)


def test_stated_height_of_less_than_a_pixel(tmp_path: Path) -> None:
    """Label Studio: without a size, a rotation cannot be read."""
    put(tmp_path / "images" / "a.png")
    value = {"x": 30, "y": 10, "radiusX": 8, "radiusY": 17, "rotation": 45, "ellipselabels": ["cat"]}
    region = REGION | {"original_height": 0.5, "type": "ellipselabels", "value": value}
    task = {"id": 1, "data": {"image": "images/a.png"}, "annotations": [{"id": 1, "result": [region]}]}
    put(tmp_path / "tasks.json", json.dumps([task]))
    with pytest.raises(DataError, match="no objects in the annotations of Label Studio"):
        read_data(tmp_path)


@pytest.mark.parametrize("rle", ["3", "0", ""])
def test_mask_without_pixels(tmp_path: Path, rle: str) -> None:
    """CVAT: run lengths of which none is of the object."""
    mask = f'<mask label="cat" rle="{rle}" left="1" top="2" width="4" height="2"/>'
    box = '<box label="cat" xtl="1" ytl="2" xbr="9" ybr="8"/>'
    images = "".join(
        f'<image id="{i}" name="{name}.png" width="40" height="30">{shape}</image>'
        for i, (name, shape) in enumerate((("a", mask), ("b", box)))
    )
    put(tmp_path / "annotations.xml", f"<annotations>{images}</annotations>")
    for name in "ab":
        put(tmp_path / "images" / f"{name}.png")
    data = read_data(tmp_path)
    assert [sample.path.name for sample in data.samples if sample.path] == ["b.png"]
    assert BROKEN_BOX in by_reason(data)


@pytest.mark.parametrize("subset", ["../..", "/", "..", "n" * 5000, "../../images"])
def test_subset_of_cvat_cannot_lead_outside(tmp_path: Path, subset: str) -> None:
    put(tmp_path / "outside.png")
    home = tmp_path / "data"
    put(home / "images" / "a.png")
    images = "".join(
        f'<image id="{i}" name="{name}" subset="{subset}"><box label="cat" xtl="1" ytl="2" xbr="9" ybr="8"/></image>'
        for i, name in enumerate(("a.png", "outside.png"))
    )
    put(home / "annotations.xml", f"<annotations>{images}</annotations>")
    data = read_data(home, subset)
    assert [sample.path for sample in data.samples] == [home / "images" / "a.png"]


@pytest.mark.parametrize("name", ["n" * 5000, "a\0b", ".", "/"])
def test_names_in_obj_data(tmp_path: Path, name: str) -> None:
    put(tmp_path / "obj.data", f"names = {name}\ntrain = train.txt\n")
    put(tmp_path / "train.txt", "a.png\n")
    with pytest.raises(DataError, match="no annotated images found"):
        read_data(tmp_path)


def test_line_of_a_darknet_list_without_a_name(tmp_path: Path) -> None:
    put(tmp_path / "obj.data", "names = obj.names\ntrain = train.txt\n")
    put(tmp_path / "obj.names", "cat\n")
    put(tmp_path / "train.txt", ".\n/\n./\nhttp://host\nobj_train_data/a.png\n")
    put(tmp_path / "obj_train_data" / "a.png")
    put(tmp_path / "obj_train_data" / "a.txt", "0 0.5 0.5 0.5 0.5\n")
    assert len(read_data(tmp_path, "train")) == 1


@pytest.mark.parametrize("key", [True, 2**70, 0.5, None])
def test_category_ids_of_label_studio_are_64_bit_integers(tmp_path: Path, key: object) -> None:
    put(tmp_path / "notes.json", json.dumps({"categories": [{"id": key, "name": "cat"}]}))
    put(tmp_path / "classes.txt", "cat\n")
    put(tmp_path / "images" / "a.png")
    put(tmp_path / "labels" / "a.txt", "0 0.5 0.5 0.5 0.5\n")
    with pytest.raises(DataError, match="integer 'id'"):
        read_annotated(tmp_path, LABEL_STUDIO_YOLO)


@pytest.mark.parametrize("text", ["[Sequence]\nimDir = " + "1" * 5000, "1" * 5000, "[Sequence]\nseqLength = x"])
def test_seqinfo_of_long_lines(tmp_path: Path, text: str) -> None:
    put(tmp_path / "s" / "seqinfo.ini", text)
    put(tmp_path / "s" / "gt" / "gt.txt", "1,1,3,4,10,12,1,1,1\n")
    put(tmp_path / "s" / "img1" / "000001.png")
    with pytest.raises(DataError) as caught:
        read_data(tmp_path)
    assert len(str(caught.value).replace(str(tmp_path), "")) < 600


def test_label_of_fiftyone_is_shortened(tmp_path: Path) -> None:
    entry = {"label": 10**400, "bounding_box": [0.1, 0.1, 0.5, 0.5]}
    put(tmp_path / "labels.json", json.dumps({"classes": ["cat"], "labels": {"k" * 900: [entry]}}))
    put(tmp_path / "data" / "a.png")
    with pytest.raises(DataError, match=r"label 10+ \.\.\. 0+ is the index of a class") as caught:
        read_data(tmp_path)
    assert len(str(caught.value).replace(str(tmp_path), "")) < 400


def _kitti(home: Path) -> Path:
    put(home / "training" / "image_2" / "a.png")
    put(home / "training" / "label_2" / "b.txt", "Car 0 0 0 1 2 9 8 1 1 1 1 1 1 1\n")
    return home / "training" / "label_2" / "a.txt"


def _label_studio(home: Path) -> Path:
    put(home / "notes.json", '{"categories": [{"id": 0, "name": "cat"}]}')
    put(home / "classes.txt", "cat\n")
    put(home / "images" / "a.png")
    (home / "labels").mkdir()
    return home / "labels" / "a.txt"


@pytest.mark.parametrize(
    "make",
    [
        _kitti,
        _label_studio,
        lambda home: home / "annotation_train.odgt",
        lambda home: home / "wider_face_train_bbx_gt.txt",
    ],
)
def test_pipe_among_the_label_files(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    os.mkfifo(make(tmp_path))
    refused: list[str] = []

    def read() -> None:
        with pytest.raises(DataError) as caught:
            read_data(tmp_path)
        refused.append(str(caught.value))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(10)
    assert refused, "it waits for the pipe"
    assert "cannot be read: not a file" in refused[0]


@pytest.mark.parametrize("make", [_kitti, _label_studio])
def test_link_to_itself_among_the_label_files(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    file = make(tmp_path)
    file.symlink_to(file.name)
    with pytest.raises(DataError, match="cannot be read: not a file"):
        read_data(tmp_path)


@pytest.mark.parametrize("kind", [LABEL_STUDIO, VIA, CREATEML, OPENIMAGES])
def test_path_that_is_neither_file_nor_folder(tmp_path: Path, kind: AnnotationFormat) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "pipe.csv", tmp_path / "missing"):
        with pytest.raises(DataError, match="no annotations of"):
            read_annotated(path, kind)
        for read in (read_data, read_csv):
            with pytest.raises(DataError, match="no such file or folder"):
                read(path)
