"""What labeling tools find in the files that gfocal convert writes for them."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gfocal.data.convert import convert, find_first_difference
from gfocal.data.dataset import FileData, Sample
from gfocal.data.discovery import detect_format, list_splits, read_data
from gfocal.data.sidecar import SIDECAR
from gfocal.data.writers.coco import to_run_lengths
from gfocal.data.writers.decimals import to_center, to_share
from gfocal.errors import DataError

NEW = {
    "label-studio": "labelstudio",
    "cvat": "cvat",
    "labelme": "labelme",
    "createml": "createml",
    "via": "via",
    "kitti": "kitti",
}


def make_image(path: Path, width: int, height: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height)).save(path)
    return path


def make_sample(path: Path, boxes: list[list[float]], labels: list[int], ignored: list[bool], number: int) -> Sample:
    with Image.open(path) as image:
        size = (image.height, image.width)
    return Sample(
        image_id=number,
        path=path,
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
        crowd=torch.tensor(ignored, dtype=torch.bool),
        size=size,
    )


@pytest.fixture
def small(tmp_path: Path) -> FileData:
    """An image with two objects and an ignored region between them, and one of background."""
    one = make_image(tmp_path / "s" / "a b.png", 100, 80)
    boxes = [[10.0, 20, 30, 40], [0, 0, 50, 50], [1.5, 2.25, 90, 79]]
    samples = [make_sample(one, boxes, [1, 0, 0], [False, True, False], 1)]
    samples.append(make_sample(make_image(tmp_path / "s" / "c.png", 60, 50), [], [], [], 7))
    return FileData(("dog", "cat"), (3, 8), samples)


@pytest.mark.parametrize("target", NEW)
def test_the_format_is_recognized_and_complete(small: FileData, tmp_path: Path, target: str) -> None:
    background = FileData(small.names, small.category_ids, [small.samples[1]])
    convert({"train": small, "val": background}, target, tmp_path / "o")  # type: ignore[arg-type]
    assert detect_format(tmp_path / "o") == NEW[target]
    assert list_splits(tmp_path / "o") == ["train", "val"]
    assert find_first_difference(small, read_data(tmp_path / "o", "train")) is None
    (tmp_path / "o" / SIDECAR).unlink()  # what is in the files themselves
    found = read_data(tmp_path / "o", "train")
    assert set(found.names) == {"dog", "cat"}
    stored = [not one for one in small.samples[0].crowd.tolist()] if target in ("createml", "kitti") else [True] * 3
    assert found.samples[0].boxes.tolist() == small.samples[0].boxes[torch.tensor(stored)].tolist()
    assert found.samples[0].crowd.tolist() == small.samples[0].crowd[torch.tensor(stored)].tolist()
    assert len(found) == 2
    assert len(read_data(tmp_path / "o", "val").samples[0].boxes) == 0


@pytest.mark.parametrize("target", ["createml", "kitti"])
def test_what_is_not_in_the_files_is_said(small: FileData, tmp_path: Path, target: str) -> None:
    (note,) = convert({"train": small}, target, tmp_path / "o")  # type: ignore[arg-type]
    assert "cannot store 1 ignored region (crowd, difficult): they are in gfocal.json alone" in note


def test_label_studio(small: FileData, tmp_path: Path) -> None:
    """As its documentation describes tasks to import: percent, local files, choices of regions."""
    assert convert({"train": small}, "label-studio", tmp_path / "o") == []
    first, second = json.loads((tmp_path / "o/train.json").read_text())
    assert first["data"] == {"image": "/data/local-files/?d=images/train/a%20b.png"}
    result = first["annotations"][0]["result"]
    assert [item["type"] for item in result] == ["rectanglelabels", "rectanglelabels", "choices", "rectanglelabels"]
    assert result[0]["value"] == {
        **{"x": 10.0, "y": 25.0, "width": 20.0, "height": 25.0, "rotation": 0},
        "rectanglelabels": ["cat"],
    }
    assert (result[0]["original_width"], result[0]["original_height"]) == (100, 80)
    assert result[1]["id"] == result[2]["id"] != result[0]["id"]
    assert result[2]["value"]["choices"] == ["difficult"]
    assert second["annotations"][0]["result"] == []
    root = ElementTree.parse(tmp_path / "o/label_config.xml").getroot()
    assert [label.get("value") for label in root.iter("Label")] == ["dog", "cat"]
    controls = {tag.get("name"): tag.get("toName") for tag in root if tag.get("toName")}
    assert {(item["from_name"], item["to_name"]) for item in result} == set(controls.items())
    plain = FileData(small.names, small.category_ids, [small.samples[1]])
    convert({"train": plain}, "label-studio", tmp_path / "plain")
    assert "Choices" not in (tmp_path / "plain/label_config.xml").read_text()


def test_cvat(small: FileData, tmp_path: Path) -> None:
    """As CVAT exports a project: subsets, names below images/<subset>/, every label declared with its attributes."""
    convert({"train": small, "val": small}, "cvat", tmp_path / "o")
    root = ElementTree.parse(tmp_path / "o/annotations.xml").getroot()
    assert [name.text for name in root.iterfind("meta/project/labels/label/name")] == ["dog", "cat"]
    assert {name.text for name in root.iterfind("meta/project/labels/label/attributes/attribute/name")} == {
        "difficult"
    }
    assert [task.text for task in root.iterfind("meta/project/tasks/task/subset")] == ["train", "val"]
    images = root.findall("image")
    assert [(i.get("subset"), i.get("name")) for i in images] == [
        (split, name) for split in ("train", "val") for name in ("a b.png", "c.png")
    ]
    assert all((tmp_path / "o/images" / str(i.get("subset")) / str(i.get("name"))).is_file() for i in images)
    boxes = images[0].findall("box")
    assert [boxes[2].get(edge) for edge in ("xtl", "ytl", "xbr", "ybr")] == ["1.5", "2.25", "90", "79"]
    assert [box.findtext("attribute") for box in boxes] == ["false", "true", "false"]


def test_labelme(small: FileData, tmp_path: Path) -> None:
    """All keys of LabelMe 5, which version 7 requires."""
    convert({"val": small}, "labelme", tmp_path / "o")
    content = json.loads((tmp_path / "o/val/a b.json").read_text())
    assert set(content) == {"version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"}
    assert (content["imagePath"], content["imageHeight"], content["imageWidth"]) == ("a b.png", 80, 100)
    assert content["shapes"][0]["points"] == [[10, 20], [30, 40]]
    assert [shape["flags"] for shape in content["shapes"]] == [{}, {"difficult": True}, {}]
    assert json.loads((tmp_path / "o/val/c.json").read_text())["shapes"] == []
    assert (tmp_path / "o/labels.txt").read_text() == "dog\ncat\n"


def test_createml(small: FileData, tmp_path: Path) -> None:
    """Centers in pixels, Create ML's default."""
    convert({"train": small}, "createml", tmp_path / "o")
    first, second = json.loads((tmp_path / "o/train/_annotations.createml.json").read_text())
    assert first["image"] == "a b.png"
    assert first["annotations"][0] == {"label": "cat", "coordinates": {"x": 20, "y": 30, "width": 20, "height": 20}}
    assert second == {"image": "c.png", "annotations": []}


def test_via(small: FileData, tmp_path: Path) -> None:
    """The parts without which VIA 2 calls a project corrupt; keys are name and size."""
    convert({"train": small}, "via", tmp_path / "o")
    content = json.loads((tmp_path / "o/train.json").read_text())
    assert {"_via_settings", "_via_img_metadata", "_via_attributes", "_via_image_id_list"} <= set(content)
    size = (tmp_path / "o/images/train/a b.png").stat().st_size
    entry = content["_via_img_metadata"][f"images/train/a b.png{size}"]
    assert set(entry) == {"filename", "size", "regions", "file_attributes"}
    assert entry["regions"][0] == {
        "shape_attributes": {"name": "rect", "x": 10, "y": 20, "width": 20, "height": 20},
        "region_attributes": {"class": "cat"},
    }
    assert entry["regions"][1]["region_attributes"] == {"class": "dog", "difficult": "true"}
    assert list(content["_via_attributes"]["region"]["class"]["options"]) == ["dog", "cat"]


def test_kitti(small: FileData, tmp_path: Path) -> None:
    """15 columns; DontCare is only what is ignored for every class."""
    region = [[5.0, 5, 25, 25]] * 2
    sample = make_sample(
        make_image(tmp_path / "s" / "d.png", 64, 64), [*region, [1, 2, 3, 4]], [0, 1, 1], [True] * 2 + [False], 9
    )
    data = FileData(small.names, small.category_ids, [*small.samples, sample])
    (note,) = convert({"train": data}, "kitti", tmp_path / "o")
    assert "1 ignored region" in note
    label = tmp_path / "o/train/label_2"
    assert (label / "a b.txt").read_text().splitlines()[0] == "cat 0 0 -10 10 20 30 40 -1 -1 -1 -1000 -1000 -1000 -10"
    assert (label / "c.txt").read_text() == ""
    assert (label / "d.txt").read_text().splitlines() == [
        "DontCare -1 -1 -10 5 5 25 25 -1 -1 -1 -1000 -1000 -1000 -10",
        "cat 0 0 -10 1 2 3 4 -1 -1 -1 -1000 -1000 -1000 -10",
    ]
    assert find_first_difference(data, read_data(tmp_path / "o", "train")) is None


@pytest.mark.parametrize(
    ("target", "name", "words"),
    [
        ("kitti", "traffic light", "--rename 'traffic light=traffic_light'"),
        ("kitti", "dontcare", "cannot store it as a class"),
        ("kitti", "7", "cannot store it as a class"),
        ("labelme", "__ignore__", "LabelMe means no class by it"),
    ],
)
def test_class_names_that_mean_something_else_are_refused(
    small: FileData, tmp_path: Path, target: str, name: str, words: str
) -> None:
    data = FileData((name, "cat"), small.category_ids, small.samples)
    with pytest.raises(DataError, match=words):
        convert({"train": data}, target, tmp_path / "o")  # type: ignore[arg-type]
    assert not (tmp_path / "o").exists()


def test_an_image_that_kitti_would_not_find_is_refused(small: FileData, tmp_path: Path) -> None:
    path = (tmp_path / "s/c.png").rename(tmp_path / "s/c.unknown")
    data = FileData(small.names, small.category_ids, [make_sample(path, [], [], [], 1)])
    with pytest.raises(DataError, match="finds images by their suffix"):
        convert({"train": data}, "kitti", tmp_path / "o")


@pytest.mark.parametrize("target", ["label-studio", "labelme", "via", "createml"])
def test_split_names_that_would_not_be_found_are_refused(small: FileData, tmp_path: Path, target: str) -> None:
    with pytest.raises(DataError, match=r"cannot store the split name 'fold1' \(it would not be found\)"):
        convert({"fold1": small}, target, tmp_path / "o")  # type: ignore[arg-type]


def test_edits_of_a_file_count(tmp_path: Path) -> None:
    """What gfocal.json has of a box goes with the box: it is dropped if the box or its class has been edited."""
    path = make_image(tmp_path / "s/a.png", 100, 80)
    sample = make_sample(path, [[1, 2, 30, 40], [5, 6, 70, 60]], [0, 1], [False, False], 4)
    sample = Sample(**{**vars(sample), "areas": torch.tensor([100.0, 200.0], dtype=torch.float64)})
    convert({"train": FileData(("a", "b"), (1, 2), [sample])}, "via", tmp_path / "o")
    file = tmp_path / "o/train.json"
    text = file.read_text()
    areas = read_data(tmp_path / "o", "train").samples[0].areas
    assert areas is not None
    assert areas.tolist() == [100, 200]
    for old, new in (('"width": 29.0', '"width": 28.0'), ('"class": "a"', '"class": "b"')):
        file.write_text(text.replace(old, new, 1))
        edited = read_data(tmp_path / "o", "train").samples[0]
        assert edited.areas is not None
        assert np.array_equal(edited.areas.numpy(), [np.nan, 200], equal_nan=True)
        assert edited.image_id == 4
    content = json.loads(text)
    (entry,) = content["_via_img_metadata"].values()
    make_image(tmp_path / "o/images/train/new.png", 9, 9)
    content["_via_img_metadata"]["new"] = {**entry, "filename": "images/train/new.png", "regions": []}
    file.write_text(json.dumps(content))
    assert [s.image_id for s in read_data(tmp_path / "o", "train").samples] == [1, 4]


def test_classes_for_datumaro_are_beside_voc(small: FileData, tmp_path: Path) -> None:
    convert({"train": small}, "voc", tmp_path / "o")
    assert (tmp_path / "o/labelmap.txt").read_text() == "# label:color_rgb:parts:actions\ndog:::\ncat:::\n"
    odd = FileData(("a:b", "cat"), small.category_ids, small.samples)
    notes = convert({"train": odd}, "voc", tmp_path / "odd")
    assert any("labelmap.txt" in note and "'a:b'" in note for note in notes)


def test_masks_of_coco_are_the_boxes(small: FileData, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    convert({"train": small}, "coco", tmp_path / "o")
    coco = COCO(str(tmp_path / "o/annotations/instances_train.json"))
    for entry in coco.loadAnns(coco.getAnnIds()):
        ys, xs = coco.annToMask(entry).nonzero()
        x, y, width, height = entry["bbox"]
        found = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        assert np.abs(found - [x, y, x + width, y + height]).max() <= 0.75  # pixels whose centers are inside


@given(data=st.data(), width=st.integers(1, 40), height=st.integers(1, 40))
def test_run_lengths_are_the_pixels_that_a_box_touches(data: st.DataObject, width: int, height: int) -> None:
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right, bottom = data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height))
    shift = data.draw(st.floats(0, 0.9))
    lengths = to_run_lengths((left + shift, top + shift, right, bottom), (height, width))
    assert lengths["size"] == [height, width]
    values = np.arange(len(lengths["counts"])) % 2
    mask = np.repeat(values, lengths["counts"]).reshape(width, height).T
    wanted = np.zeros((height, width), dtype=int)
    wanted[top:bottom, left:right] = 1
    assert (mask == wanted).all()


@given(st.integers(1, 20_000), st.data())
def test_decimals_give_the_same_float32_edges(size: int, data: st.DataObject) -> None:
    one = st.floats(0, size, width=32).filter(lambda x: x == 0 or x > 1e-3)
    low, high = sorted(data.draw(st.lists(one, min_size=2, max_size=2, unique=True)))
    center, length = to_center(low, high, size)
    assert -1e-7 * size <= center - length / 2 < center + length / 2 <= size * (1 + 1e-7)
    assert np.float32(min(max(center - length / 2, 0), size)) == np.float32(low)
    assert np.float32(min(max(center + length / 2, 0), size)) == np.float32(high)
    for whole in (1.0, 100.0):
        start, length = to_share(low, high, size, whole)
        assert np.float32(min(start / whole * size, size)) == np.float32(low)
        assert np.float32(min((start + length) / whole * size, size)) == np.float32(high)


def test_a_yaml_with_names_alone(tmp_path: Path) -> None:
    """As ``DetectionDataset.as_yolo`` of supervision writes it, with the folders that its user names."""
    make_image(tmp_path / "images/a.png", 100, 80)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("1 0.2 0.375 0.2 0.25")
    (tmp_path / "data.yaml").write_text("names:\n- dog\n- cat\nnc: 2\n")
    data = read_data(tmp_path)
    assert data.names == ("dog", "cat")
    assert data.samples[0].boxes.tolist() == [[10, 20, 30, 40]]
    assert [problem.record for problem in data.problems] == ["images"]
    for split in ("train", "valid"):  # the same in folders of splits
        (tmp_path / split).mkdir()
        for folder in ("images", "labels"):
            if split == "train":
                (tmp_path / split / folder).mkdir()
                for file in (tmp_path / folder).iterdir():
                    (tmp_path / split / folder / file.name).write_bytes(file.read_bytes())
    for folder in ("images", "labels"):
        (tmp_path / folder).rename(tmp_path / "valid" / folder)
    assert list_splits(tmp_path) == ["train", "val"]
    assert read_data(tmp_path, "val").samples[0].labels.tolist() == [1]
