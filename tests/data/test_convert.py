"""gfocal convert: from every format to every other and back, nothing is lost, and what cannot be held is said."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from gfocal.cli import DONE, USER_ERROR
from gfocal.data import convert as convert_room
from gfocal.data.convert import TARGETS, concatenate_splits, convert, find_first_difference, original_names
from gfocal.data.dataset import FileData, Sample
from gfocal.data.discovery import list_splits, read_data
from gfocal.data.sidecar import SIDECAR
from gfocal.errors import DataError

Run = Callable[..., tuple[int, str, str]]  # of the fixture "run"
# Formats that store any class name, file name and split name; the others refuse some, with a clear error.
FREE = ("coco", "yolo", "voc", "csv", "cvat")
NEW = ("label-studio", "cvat", "labelme", "createml", "via", "kitti")


def read(folder: Path) -> dict[str, FileData]:
    return {split: read_data(folder, split) for split in list_splits(folder)}


def unlike(one: dict[str, FileData], other: dict[str, FileData]) -> str | None:
    if list(one) != list(other):
        return f"splits {list(one)} and {list(other)}"
    return next((f"{s}: {why}" for s in one if (why := find_first_difference(one[s], other[s])) is not None), None)


def names(parts: dict[str, FileData], before: dict[Path, str]) -> dict[str, list[str]]:
    """What the images are called, as before a conversion renamed them."""
    paths = {split: [Path(os.path.abspath(s.path)) for s in data.samples if s.path] for split, data in parts.items()}
    return {split: [Path(before.get(p, p.name)).name for p in found] for split, found in paths.items()}


def image(path: Path, width: int, height: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height)).save(path, format="PNG")
    return path


def edges(size: int, least: float = 0.0) -> st.SearchStrategy[tuple[float, float]]:
    """Two edges along one side, as float32: whole, broken, at the borders; 0, or at least a thousandth of a pixel.

    The second is larger than ``least``: where all numbers of a file are at most 1, Create ML's are fractions.
    """
    one = st.one_of(
        st.integers(0, size).map(float),
        st.floats(2**-10, size, width=32),
        st.sampled_from([0.0, float(size), 1 / 3, float(np.nextafter(np.float32(size), np.float32(0)))]),
    )
    pair = st.tuples(one, one).map(lambda two: (float(np.float32(min(two))), float(np.float32(max(two)))))
    return pair.filter(lambda two: two[0] < two[1] > least)


@st.composite
def objects(draw: st.DrawFn, width: int, height: int, classes: int, least: float) -> Iterator[tuple[object, ...]]:
    (x1, x2), (y1, y2) = draw(edges(width, least)), draw(edges(height, least))
    area = draw(st.one_of(st.just(float("nan")), st.floats(1e-3, 1e7)))
    return (x1, y1, x2, y2), draw(st.integers(0, classes - 1)), draw(st.booleans()), area  # type: ignore[return-value]


CLASSES = ["cat", "dog", "Ärger", "a & <b>", "yes", "3", "images", "no, not"]
FILES = ["a.png", "A.png", "b.png", "sub/a.png", "sub/b.PNG", "a.jpg", "a b.png", "a.b.jpg", "a_2.png", ".c.png"]
FILES += ["ö.png", "images/a.png", "x.unknown"]
SPLITS = ["train", "val", "test", "fold1", "trainval"]
PLAIN_CLASSES = ["cat", "dog", "Ärger", "a&<b>", "yes", "images"]
PLAIN_FILES = [name for name in FILES if name != "x.unknown"]
PLAIN_SPLITS = SPLITS[:3]


def numbers(count: int) -> st.SearchStrategy[list[int]]:
    """So many ids in ascending order."""
    return st.sets(
        st.one_of(st.integers(0, 2**40), st.integers(-(2**63), 2**63 - 1)), min_size=count, max_size=count
    ).map(sorted)


@st.composite
def data_sets(draw: st.DrawFn, folder: Path, is_plain: bool = False) -> dict[str, FileData]:
    """Splits that share some images, of one list of classes, some without objects; ``is_plain``: for all formats."""
    classes = draw(st.lists(st.sampled_from(PLAIN_CLASSES if is_plain else CLASSES), min_size=1, unique=True))
    ids = draw(numbers(len(classes)))
    if draw(st.booleans()):
        first = draw(st.integers(0, 1))
        ids = list(range(first, first + len(classes)))
    wanted = draw(
        st.lists(st.sampled_from(PLAIN_SPLITS if is_plain else SPLITS), min_size=1, max_size=3, unique=True)
    )
    parts, shared = {}, None
    for split in sorted(wanted, key=SPLITS.index):
        samples: list[Sample] = []
        for name in draw(
            st.lists(st.sampled_from(PLAIN_FILES if is_plain else FILES), min_size=1, max_size=5, unique=True)
        ):
            least = 2 if is_plain else 0
            width, height = draw(st.integers(least + 1, 1000)), draw(st.integers(least + 1, 1000))
            found = draw(
                st.lists(objects(width, height, len(classes), least), max_size=4, unique_by=lambda one: one[:3])
            )
            boxes, labels, crowd, areas = zip(*found, strict=True) if found else ((), (), (), ())
            measured = torch.tensor(areas, dtype=torch.float64)
            samples.append(
                Sample(
                    image_id=0,
                    path=image(folder / split / name, width, height),
                    boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                    labels=torch.tensor(labels, dtype=torch.int64),
                    crowd=torch.tensor(crowd, dtype=torch.bool),
                    size=(height, width),
                    areas=None if measured.isnan().all() else measured,
                )
            )
        if shared is not None and draw(st.booleans()):
            samples.append(shared if draw(st.booleans()) else replace(shared, labels=shared.labels * 0))
        shared = samples[0]
        own = draw(st.one_of(st.just(list(range(1, len(samples) + 1))), numbers(len(samples))))
        samples = [replace(sample, image_id=number) for sample, number in zip(samples, own, strict=True)]
        parts[split] = FileData(tuple(classes), tuple(ids), samples)
    return parts


@pytest.mark.parametrize(("targets", "is_plain"), [(FREE, False), (TARGETS, True)], ids=["any names", "plain names"])
@given(data=st.data())
@settings(max_examples=8, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate])
def test_conversion_there_and_back_is_the_identity(
    data: st.DataObject, targets: tuple[str, ...], is_plain: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each format by way of the next one."""
    tmp = tmp_path_factory.mktemp("law")
    parts = data.draw(data_sets(tmp / "source", is_plain))
    for first, other in zip(targets, (*targets[1:], targets[0]), strict=True):
        here, there, back = (tmp / name for name in (first, f"{first}_{other}", f"{first}_{other}_{first}"))
        convert(parts, first, here, "link")  # type: ignore[arg-type]
        start = read(here)
        assert {split: len(found) for split, found in start.items()} == {s: len(found) for s, found in parts.items()}
        assert all(find_first_difference(parts[split], start[split]) is None for split in parts)
        convert(start, other, there, "link", original_names(here))  # type: ignore[arg-type]
        middle = read(there)
        assert unlike(start, middle) is None
        convert(middle, first, back, "link", original_names(there))  # type: ignore[arg-type]
        end = read(back)
        assert unlike(start, end) is None
        assert names(start, original_names(here)) == names(end, original_names(back))


def sample(path: Path, boxes: list[list[float]], **options: object) -> Sample:
    with Image.open(path) as image:
        size = (image.height, image.width)
    count = len(boxes)
    given: dict[str, object] = {
        "image_id": 1,
        "labels": torch.zeros(count, dtype=torch.int64),
        "crowd": torch.zeros(count, dtype=torch.bool),
    }
    tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Sample(path=path, boxes=tensor, size=size, **given | options)  # type: ignore[arg-type]


def small(folder: Path) -> FileData:
    """Two images: one with an ignored region between two objects, one of background."""
    one = sample(
        image(folder / "a.png", 100, 80),
        [[10, 20, 30, 40], [0, 0, 50, 50], [1.5, 2.25, 90, 79]],
        labels=torch.tensor([1, 0, 0]),
        crowd=torch.tensor([False, True, False]),
        areas=torch.tensor([300.0, float("nan"), 0.1], dtype=torch.float64),
    )
    two = sample(image(folder / "b.png", 60, 50), [], image_id=7)
    return FileData(("dog", "cat"), (3, 8), [one, two])


def test_what_other_tools_see_of_yolo(tmp_path: Path) -> None:
    import yaml

    notes = convert({"train": small(tmp_path / "s")}, "yolo", tmp_path / "o")
    assert yaml.safe_load((tmp_path / "o/data.yaml").read_text()) == {
        "train": "images/train",
        "names": {0: "dog", 1: "cat"},
    }
    lines = (tmp_path / "o/labels/train/a.txt").read_text().splitlines()
    assert lines == ["1 0.2 0.375 0.2 0.25", "0 0.4575 0.5078125 0.885 0.959375"]
    assert (tmp_path / "o/labels/train/b.txt").read_text() == ""
    assert notes == [
        "YOLO files cannot store 1 ignored region (crowd, difficult): they are in gfocal.json, not in labels/; other "
        "tools treat these regions as background"
    ]


def test_what_other_tools_see_of_voc(tmp_path: Path) -> None:
    from xml.etree import ElementTree

    notes = convert({"train": small(tmp_path / "s")}, "voc", tmp_path / "o")
    root = ElementTree.parse(tmp_path / "o/Annotations/a.xml").getroot()
    assert [e.findtext("name") for e in root.iter("object")] == ["cat", "dog", "dog"]
    assert [e.findtext("difficult") for e in root.iter("object")] == ["0", "1", "0"]
    assert [root.findtext(f"size/{tag}") for tag in ("width", "height", "depth")] == ["100", "80", "3"]
    corners = [[e.findtext(f"bndbox/{t}") for t in ("xmin", "ymin", "xmax", "ymax")] for e in root.iter("object")]
    assert corners == [["10", "20", "30", "40"], ["0", "0", "50", "50"], ["1.5", "2.25", "90", "79"]]
    assert (tmp_path / "o/ImageSets/Main/train.txt").read_text() == "a\nb\n"
    assert (tmp_path / "o/classes.txt").read_text() == "dog\ncat\n"
    assert notes == ["2 corners with decimals, as in the source; tools that read only integers must round them"]


def test_what_pycocotools_sees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pycocotools.coco import COCO

    assert convert({"val": small(tmp_path / "s")}, "coco", tmp_path / "o") == []
    coco = COCO(str(tmp_path / "o/annotations/instances_val.json"))
    assert [(c["id"], c["name"]) for c in coco.loadCats(coco.getCatIds())] == [(3, "dog"), (8, "cat")]
    assert [i["file_name"] for i in coco.loadImgs(coco.getImgIds())] == ["a.png", "b.png"]
    found = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    assert [a["bbox"] for a in found] == [[10, 20, 20, 20], [0, 0, 50, 50], [1.5, 2.25, 88.5, 76.75]]
    assert [a["area"] for a in found] == [300, 2500, 0.1]
    assert [a["iscrowd"] for a in found] == [0, 1, 0]
    assert sorted(p.name for p in (tmp_path / "o/images/val").iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize("target", TARGETS)
def test_splits_share_images_with_equal_ground_truth(tmp_path: Path, target: str) -> None:
    data = small(tmp_path / "s")
    other = replace(data.samples[0], labels=1 - data.samples[0].labels)
    parts = {
        "train": data,
        "val": FileData(data.names, data.category_ids, [other]),
        "test": FileData(data.names, data.category_ids, [data.samples[0]]),
    }
    convert(parts, target, tmp_path / "o")  # type: ignore[arg-type]
    assert unlike(parts, read(tmp_path / "o")) is None
    shared = target in ("coco", "csv", "label-studio", "via")  # whose ground truth does not lie beside the image
    single = target in ("cvat", "labelme", "createml", "kitti")  # each split has its own images
    assert len(list((tmp_path / "o").rglob("*.png"))) == (2 if shared else 4 if single else 3)


@pytest.mark.parametrize("target", TARGETS)
def test_names_collide_regardless_of_case(tmp_path: Path, target: str) -> None:
    samples = [
        replace(sample(image(tmp_path / "s" / name, 9, 9), []), image_id=number)
        for number, name in enumerate(["a.png", "A.png", "a_2.png", "sub/A.PNG"])
    ]
    convert({"train": FileData(("x",), (1,), samples)}, target, tmp_path / "o")  # type: ignore[arg-type]
    written = [str(f.relative_to(tmp_path / "o")).lower() for f in (tmp_path / "o").rglob("*") if f.is_file()]
    assert len(set(written)) == len(written)
    assert len([name for name in written if name.endswith(".png")]) == 4


def test_edits_of_a_label_file_count(tmp_path: Path) -> None:
    """The sidecar never overrules what the files say: what it knows of a line goes with the line."""
    convert({"train": small(tmp_path / "s")}, "yolo", tmp_path / "o")
    file = tmp_path / "o/labels/train/a.txt"
    first, second = file.read_text().splitlines()
    file.write_text(f"{first.replace('0.375', '0.4')}\n{second}\n")
    data = read_data(tmp_path / "o", "train")
    areas = data.samples[0].areas
    assert areas is not None
    assert areas.isnan().tolist() == [True, True, False]
    file.unlink()
    data = read_data(tmp_path / "o", "train")
    assert [len(s.boxes) for s in data.samples] == [0, 0]


def test_boxes_on_stored_pixels_of_a_rotated_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "s").mkdir()
    Image.new("RGB", (100, 60)).save(tmp_path / "s/a.jpg", exif=exif)
    one = replace(sample(tmp_path / "s/a.jpg", [[50, 0, 99, 59]]), size=(60, 100))
    upright = replace(sample(tmp_path / "s/a.jpg", [[0, 50, 59, 99]]), size=(100, 60))
    for name, stated in (("raw", one), ("upright", upright)):
        for target in TARGETS:
            notes = convert({"train": FileData(("x",), (1,), [stated])}, target, tmp_path / name / target)
            assert read_data(tmp_path / name / target, "train").samples[0].size == stated.size
            # Tools of the others do not rotate images, or go by the stated size.
            assert any("EXIF" in note for note in notes) == (name == "raw" and target in ("yolo", *NEW))


@pytest.mark.parametrize("target", TARGETS)
def test_images_are_copied_linked_or_not_stored(tmp_path: Path, target: str, run: Run) -> None:
    convert({"train": small(tmp_path / "s")}, "coco", tmp_path / "coco")
    source = tmp_path / "coco/images/train/a.png"
    for how, links in (("--copy", 1), ("--link", 2), ("--no-images", 2)):
        out = tmp_path / how
        code, _, err = run("convert", tmp_path / "coco", "--to", target, "--out", out, how)
        assert code == DONE, err
        assert os.stat(source).st_nlink == links
        placed = list(out.rglob("*.png"))
        assert len(placed) == (0 if how == "--no-images" else 2)
        assert ("images are not copied" in err) == (how == "--no-images")
        assert not any(file.is_symlink() for file in placed)
    moved = next(line for line in err.splitlines() if "images are not copied" in line)
    place = moved.partition(f"{source} as ")[2].split(" ")[0]  # do what it says
    for file in source.parent.iterdir():
        target_file = out / Path(place).with_name(file.name)
        target_file.parent.mkdir(parents=True, exist_ok=True)
        target_file.write_bytes(file.read_bytes())
    assert find_first_difference(read_data(tmp_path / "coco", "train"), read_data(out, "train")) is None


def test_existing_folder_is_complete(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    convert({"train": small(tmp_path / "s")}, "coco", tmp_path / "coco")
    command = ("convert", tmp_path / "coco", "--to", "yolo", "--out", tmp_path / "out")
    for broken in (KeyboardInterrupt, OSError(28, "No space left on device")):
        with monkeypatch.context() as patch:

            def stopped(*_: object, error: object = broken) -> None:
                raise error  # type: ignore[misc]

            patch.setattr(convert_room, "_compare", stopped)
            assert run(*command)[0] in (130, USER_ERROR)
        assert sorted(f.name for f in tmp_path.iterdir()) == ["coco", "s"]
    (tmp_path / "out").mkdir()
    assert run(*command)[0] == DONE
    code, _, err = run(*command)
    assert code == USER_ERROR
    assert err.splitlines()[-1].startswith(f"gfocal: {tmp_path / 'out'}: is not empty; choose a new folder")


@pytest.mark.parametrize("key", ["image_id", "boxes", "labels", "crowd", "areas", "size"])
def test_differences_after_reading_back_are_an_error(
    tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part of a sample is compared."""
    data = small(tmp_path / "s")
    first = data.samples[0]
    areas = torch.tensor([300.0, float("nan"), 0.2], dtype=torch.float64)
    values: dict[str, object] = {
        "image_id": 2,
        "boxes": first.boxes + torch.tensor([0, 0, 0, 1e-5]),
        "labels": 1 - first.labels,
        "crowd": ~first.crowd,
        "areas": areas,
        "size": (81, 100),
    }
    wrong = FileData(data.names, data.category_ids, [replace(first, **{key: values[key]}), data.samples[1]])  # type: ignore[arg-type]
    assert find_first_difference(data, data) is None
    assert find_first_difference(data, wrong) is not None
    monkeypatch.setattr(convert_room, "read_data", lambda *_: wrong)
    with pytest.raises(DataError, match="split 'train' differs after reading it back"):
        convert({"train": data}, "coco", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_class_names_that_cannot_be_stored_are_refused(tmp_path: Path) -> None:
    data = small(tmp_path / "s")
    for classes, told in ((("a\nb", "cat"), "rename the class"), (("cat", "cat"), "occurs twice")):
        for target in ("voc", "csv", *NEW):
            with pytest.raises(DataError, match=told):
                convert({"train": replace(data, names=classes)}, target, tmp_path / "out")  # type: ignore[arg-type]


def test_split_names_that_a_format_cannot_store(tmp_path: Path, run: Run) -> None:
    data = small(tmp_path / "s")
    with pytest.raises(DataError, match="this format cannot store the split name 'val_small'"):
        convert({"val_small": data}, "coco", tmp_path / "out")
    convert({"fold1": data}, "voc", tmp_path / "voc")
    code, _, err = run("convert", tmp_path / "voc", "--to", "coco", "--out", tmp_path / "out", "--as", "val")
    assert code == DONE, err
    assert list_splits(tmp_path / "out") == ["val"]
    assert "val: 2 images, 3 objects\n" in err


def test_data_without_splits_and_one_split_of_several(tmp_path: Path, run: Run) -> None:
    data = small(tmp_path / "s")
    convert({"train": data, "test": data}, "coco", tmp_path / "coco")
    file = tmp_path / "coco/annotations/instances_test.json"
    assert run("convert", file, "--to", "yolo", "--out", tmp_path / "of_file")[0] == DONE
    assert list_splits(tmp_path / "of_file") == ["test"]
    assert run("convert", tmp_path / "coco", "--split", "test", "--to", "voc", "--out", tmp_path / "one")[0] == DONE
    assert list_splits(tmp_path / "one") == ["test"]
    code, _, err = run("convert", tmp_path / "coco", "--as", "x", "--to", "voc", "--out", tmp_path / "no")
    assert code == USER_ERROR
    assert "there are splits train, test; choose one with --split" in err
    (tmp_path / "flat").mkdir()
    for file in (tmp_path / "one/Annotations").iterdir():
        (tmp_path / "flat" / file.name).write_bytes(file.read_bytes())
    for file in (tmp_path / "one/JPEGImages").iterdir():
        (tmp_path / "flat" / file.name).write_bytes(file.read_bytes())
    assert run("convert", tmp_path / "flat", "--to", "coco", "--out", tmp_path / "of_flat")[0] == DONE
    assert list_splits(tmp_path / "of_flat") == ["train"]


def test_several_datasets_become_one(tmp_path: Path, run: Run) -> None:
    one, two = small(tmp_path / "one"), small(tmp_path / "two")
    convert({"train": one, "val": one}, "coco", tmp_path / "first")
    convert({"train": two}, "yolo", tmp_path / "second")
    code, _, err = run("convert", tmp_path / "first", tmp_path / "second", "--to", "voc", "--out", tmp_path / "out")
    assert code == DONE, err
    both = read(tmp_path / "out")
    assert {split: len(data) for split, data in both.items()} == {"train": 4, "val": 2}
    assert Counter(len(s.boxes) for s in both["train"].samples) == {3: 2, 0: 2}
    found = concatenate_splits([{"train": one}, {"val": FileData(("dog", "cow"), (3, 5), list(two.samples))}])
    for split, label in (("train", 1), ("val", 2)):
        assert found[split].names == ("dog", "cat", "cow")
        assert found[split].category_ids == (1, 2, 3)  # 3, 8, 5 would be another order in COCO's files
        assert found[split].samples[0].labels.tolist() == [label, 0, 0]


def test_classes_are_renamed(tmp_path: Path, run: Run) -> None:
    data = small(tmp_path / "s")
    convert({"train": data, "val": data}, "coco", tmp_path / "coco")
    command = ("convert", tmp_path / "coco", "--to", "voc", "--out")
    assert run(*command, tmp_path / "out", "--rename", "dog=wolf")[0] == DONE
    found = read(tmp_path / "out")
    assert [d.names for d in found.values()] == [("wolf", "cat")] * 2
    assert find_first_difference(replace(data, names=("wolf", "cat")), found["val"]) is None  # type: ignore[arg-type]
    twice = torch.tensor([[10.0, 20, 30, 40]] * 2)
    one = sample(tmp_path / "s/a.png", twice.tolist(), labels=torch.tensor([0, 1]))  # a dog and a cat in one place
    found = concatenate_splits([{"train": FileData(("dog", "cat"), (1, 2), [one])}], {"dog": "pet", "cat": "pet"})
    assert found["train"].samples[0].boxes.tolist() == twice[:1].tolist()
    assert len(found["train"].problems) == 1
    convert(found, "yolo", tmp_path / "pets")
    code, _, err = run(*command, tmp_path / "no", "--rename", "cow=wolf")
    assert code == USER_ERROR
    assert "no class 'cow' to rename" in err


def test_dropped_records_are_counted(tmp_path: Path, run: Run) -> None:
    convert({"train": small(tmp_path / "s")}, "coco", tmp_path / "coco")
    file = tmp_path / "coco/annotations/instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"][2] = 0
    file.write_text(json.dumps(content))
    code, _, err = run("convert", tmp_path / "coco", "--to", "yolo", "--out", tmp_path / "out")
    assert code == DONE
    assert "note: 1 x box has no area (dropped)" in err
    assert "train: 2 images, 2 objects (1 record dropped while reading, as in training)\n" in err
    assert err.endswith(f"{tmp_path / 'out'}: yolo, read back and found equal\n")


@pytest.mark.parametrize(
    "content",
    ["[]", "{", '{"category_ids": ["a"]}', '{"splits": {"train": 3}}', '{"splits": {"train": {"x": []}}}',
     '{"splits": {"train": {"x": {"ignored": [{"at": -1, "class": 0, "box": [0, 0, 1, 1]}]}}}}', '{"names": [1]}',
     '{"splits": {"train": {"x": {"id": 1e99}}}}', '{"renamed": []}'],
)  # fmt: skip
@pytest.mark.parametrize("target", ["yolo", "voc", "via"])
def test_broken_sidecar_is_an_error(tmp_path: Path, content: str, target: str) -> None:
    convert({"train": small(tmp_path / "s")}, target, tmp_path / "o")  # type: ignore[arg-type]
    (tmp_path / "o" / SIDECAR).write_text(content)
    with pytest.raises(DataError, match=r"gfocal\.json: broken"):
        read_data(tmp_path / "o", "train")


def test_the_real_blood_cells_through_every_format(shared: Path, tmp_path: Path) -> None:
    source = shared / "data" / "bccd"
    first = read(source)
    here = source
    for number, target in enumerate(["coco", "yolo", "csv", "voc", "csv", "yolo", "coco", "voc"]):
        convert(read(here), target, tmp_path / str(number), "link", original_names(here))  # type: ignore[arg-type]
        here = tmp_path / str(number)
        assert unlike(first, read(here)) is None, target
    assert names(first, {}) == names(read(here), original_names(here))


def test_the_real_blood_cells_through_the_formats_of_labeling_tools(shared: Path, tmp_path: Path) -> None:
    first = {"val": read_data(shared / "data" / "bccd", "val")}
    parts, known = first, None
    for target in (*NEW, "coco"):
        convert(parts, target, tmp_path / target, "link", known)  # type: ignore[arg-type]
        parts, known = read(tmp_path / target), original_names(tmp_path / target)
        assert unlike(first, parts) is None, target
    assert names(first, {}) == names(parts, original_names(tmp_path / "coco"))


@pytest.mark.parametrize("target", TARGETS)
def test_a_dataset_that_lost_all_of_its_objects_is_not_converted(run: Run, tmp_path: Path, target: str) -> None:
    image(tmp_path / "set" / "images" / "train" / "a.png", 100, 80)
    (tmp_path / "set" / "labels" / "train").mkdir(parents=True)
    (tmp_path / "set" / "labels" / "train" / "a.txt").write_text("0,0.5,0.5,0.2,0.2\n")
    (tmp_path / "set" / "data.yaml").write_text("train: images/train\nnames: [cat]\n")
    code, _, err = run("convert", tmp_path / "set", "--to", target, "--out", tmp_path / "out")
    assert code == USER_ERROR
    assert "nothing to convert" in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
