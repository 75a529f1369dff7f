"""Several datasets as one: classes by name, ids, notes, and the commands that take several."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from conftest import TINY, Run
from gfocal.checks.label_review import mirror_image
from gfocal.data.classes import choose_classes, map_classes
from gfocal.data.dataset import FileData, Problem, Sample
from gfocal.data.discovery import read_data
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.data.views import NEAR_NAMES, SAME_IMAGE, ChangedImages, concatenate
from gfocal.errors import DataError


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (100, 80)).save(path)
    return path


def sample(image_id: int, labels: list[int], path: Path | None = None, areas: bool = False) -> Sample:
    boxes = torch.rand(len(labels), 4, generator=torch.Generator().manual_seed(image_id))
    flags = torch.arange(len(labels)) % 2 == 1
    stated = torch.arange(len(labels)).double() + 1 if areas else None
    return Sample(image_id, path, boxes, torch.tensor(labels, dtype=torch.int64), flags, (80, 100), stated)


def classes(data: FileData) -> list[list[str]]:
    return [[data.names[label] for label in s.labels.tolist()] for s in data.samples]


def test_classes_are_matched_by_name_and_keep_their_ids() -> None:
    one = FileData(("cat", "dog"), (3, 17), [sample(1, [0, 1, 1]), sample(2, [])], [Problem("a", "b", "c", "kept")])
    two = FileData(("owl", "dog"), (5, 17), [sample(7, [0, 1], areas=True)], [Problem("d", "e", "f", "kept")])
    data = concatenate([one, two])
    assert (data.names, data.category_ids) == (("cat", "dog", "owl"), (3, 17, 5))
    assert [s.image_id for s in data.samples] == [1, 2, 7]
    assert classes(data) == [["cat", "dog", "dog"], [], ["owl", "dog"]]
    assert data.problems == one.problems + two.problems
    for found, wanted in zip(data.samples, [*one.samples, *two.samples], strict=True):
        assert torch.equal(found.boxes, wanted.boxes)
        assert torch.equal(found.crowd, wanted.crowd)
        assert (found.size, found.path) == (wanted.size, wanted.path)
        assert (None if found.areas is None else found.areas.tolist()) == (
            None if wanted.areas is None else wanted.areas.tolist()
        )
    wanted_order = concatenate([one, two], ["bee", "owl", "dog", "cat"])
    assert (wanted_order.names, wanted_order.category_ids) == (("bee", "owl", "dog", "cat"), (1, 5, 17, 3))
    assert classes(wanted_order) == classes(data)
    assert concatenate([FileData(("cat",), (1,), [sample(1, [0])])], ["bee", "cat"]).category_ids == (2, 1)
    with pytest.raises(DataError, match=r"here: classes differ.*not expected: \['owl'\]"):
        concatenate([one, two], ["cat", "dog"], where="here")


@pytest.mark.parametrize("ids", [(4, 17), (3, 3), (17, 3)])
def test_conflicting_ids_are_replaced(ids: tuple[int, int]) -> None:
    """A class of two ids, or an id of two classes; and images of one id."""
    one = FileData(("cat", "dog"), (3, 17), [sample(1, [0]), sample(2, [1])])
    data = concatenate([one, FileData(("cat", "owl"), ids, [sample(2, [1])])])
    assert (data.names, data.category_ids) == (("cat", "dog", "owl"), (1, 2, 3))
    assert [s.image_id for s in data.samples] == [1, 2, 3]
    assert classes(data) == [["cat"], ["dog"], ["owl"]]


def test_renamed_classes_are_merged() -> None:
    one = FileData(("person", "car"), (1, 2), [sample(1, [0, 1])])
    two = FileData(("pedestrian", "Car"), (1, 3), [sample(2, [0, 1])])
    data = concatenate([one, two], renames={"pedestrian": "person", "Car": "car"})
    assert (data.names, data.category_ids) == (("person", "car"), (1, 2))
    assert classes(data) == [["person", "car"]] * 2
    alone = concatenate([one], renames={"car": "person"})
    assert (alone.names, classes(alone)) == (("person",), [["person", "person"]])
    assert concatenate([one], renames={"pedestrian": "person"}).names == one.names
    with pytest.raises(
        DataError, match="no class 'lorry' to rename; there are: 'person', 'car', 'pedestrian', 'Car'"
    ):
        concatenate([one, two], renames={"lorry": "truck"}, where="here")


def test_similar_names_are_reported() -> None:
    sets = [FileData((name,), (1,), [sample(i, [0])]) for i, name in enumerate(("Car", "car ", "c-a_r", "cat", "??"))]
    data = concatenate(sets, where="here")
    assert data.names == ("Car", "car ", "c-a_r", "cat", "??")
    assert [(p.file, p.record, p.reason, p.action) for p in data.problems] == [
        ("here", "'Car' and 'car '", NEAR_NAMES, "kept"),
        ("here", "'Car' and 'c-a_r'", NEAR_NAMES, "kept"),
    ]


def test_image_in_two_datasets_is_reported_under_any_name(tmp_path: Path) -> None:
    here, other = image(tmp_path / "a" / "x.png"), image(tmp_path / "b" / "y.png")
    link, hard = tmp_path / "b" / "x.png", tmp_path / "b" / "z.png"
    link.symlink_to(here)
    os.link(here, hard)
    one = FileData(("cat",), (1,), [sample(1, [0], here), sample(2, [0], here)])
    for path, number in ((link, 1), (hard, 1), (here, 1), (other, 0), (tmp_path / "gone.png", 0)):
        data = concatenate([one, FileData(("cat",), (1,), [sample(3, [0], path)])])
        assert Counter(p.reason for p in data.problems) == Counter({SAME_IMAGE: number})
        assert all(str(path) in p.record and str(here) in p.record for p in data.problems)


def test_no_datasets_is_an_error() -> None:
    with pytest.raises(DataError, match="no datasets"):
        concatenate([])


names_of_sets = st.lists(
    st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4, unique=True), min_size=1, max_size=4
)


@given(sets=names_of_sets, seed=st.integers(0, 1000))
def test_every_object_keeps_its_class(sets: list[list[str]], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for names in sets:
        draw = torch.randint(len(names), (6,), generator=generator).tolist()
        ids = torch.randperm(9, generator=generator)[: len(names)].tolist()
        images = [sample(int(torch.randint(30, (), generator=generator)), draw[:4]), sample(40, draw[4:])]
        parts.append(FileData(tuple(names), tuple(ids), images))
    data = concatenate(parts)
    assert classes(data) == [row for part in parts for row in classes(part)]
    ids_of_images = [s.image_id for s in data.samples]
    assert len(set(ids_of_images)) == len(ids_of_images)
    assert len(set(data.category_ids)) == len(data.category_ids) == len(data.names) == len(set(data.names))


def coco(folder: Path, split: str, category: int, name: str, image_id: int = 1) -> None:
    image(folder / split / f"{split}.png")
    content = {
        "images": [{"id": image_id, "file_name": f"{split}.png"}],
        "annotations": [{"id": 1, "image_id": image_id, "category_id": category, "bbox": [10, 10, 60, 50]}],
        "categories": [{"id": category, "name": name}],
    }
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def table(file: Path, name: str) -> None:
    image(file.parent / f"{file.stem}.png")
    file.write_text(f"filename,class,xmin,ymin,xmax,ymax\n{file.stem}.png,{name},20,10,70,60\n")


@pytest.fixture
def two_sets(tmp_path: Path) -> tuple[Path, Path]:
    """One of COCO with train and val, one of tables with train alone."""
    one, two = tmp_path / "one", tmp_path / "two"
    coco(one, "train", 5, "cat")
    coco(one, "val", 5, "cat", 2)
    two.mkdir()
    table(two / "train.csv", "dog")
    table(two / "test.csv", "Cat")
    return one, two


def test_paths_of_any_format_are_concatenated(two_sets: tuple[Path, Path]) -> None:
    data = read_data(two_sets, "train")
    assert (data.names, data.category_ids) == (("cat", "Cat", "dog"), (5, 1, 2))
    assert classes(data) == [["cat"], ["dog"]]
    assert [p.reason for p in data.problems] == [NEAR_NAMES]
    alone = read_data([two_sets[1] / "train.csv", two_sets[0]], "train", ["dog", "cat", "Cat"])
    assert classes(alone) == [["dog"], ["cat"]]
    assert alone.names == ("dog", "cat", "Cat")
    with pytest.raises(DataError, match="no split 'val'"):
        read_data(two_sets, "val")


def test_several_datasets_for_training_and_evaluation(two_sets: tuple[Path, Path], tmp_path: Path, run: Run) -> None:
    one, two = two_sets
    rename = ("--rename", "Cat=cat")
    code, _, err = run("train", one, two, *rename, "--out", tmp_path / "run", *TINY)
    assert code == 0, err
    # The second set has no val, and its test chooses no epoch.
    assert "2 training images, 1 validation image" in err
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (about["classes"], about["data"]) == (["cat", "dog"], f"{one}, {two}")
    code, out, err = run("eval", tmp_path / "run", one, two, *rename, "--num-workers", 0, "--device", "cpu")
    assert code == 0, err
    assert f"evaluating 2 images: split val of {one}; split test of {two}" in err
    assert "2 ground-truth boxes" in out
    # A set that lacks a class of the model, alone.
    code, out, err = run("eval", tmp_path / "run", one, "--num-workers", 0, "--device", "cpu")
    assert code == 0, err
    assert "1 ground-truth box" in out


def test_several_paths_for_validation(two_sets: tuple[Path, Path], tmp_path: Path, run: Run) -> None:
    one, two = two_sets
    code, _, err = run(
        "train",
        one,
        "--val",
        one,
        two / "test.csv",
        "--rename",
        "Cat=cat",
        "--out",
        tmp_path / "r",
        *TINY,
        "--batch-size",
        1,
    )
    assert code == 0, err
    assert "1 training image, 2 validation images" in err
    assert "left out: dog (0 objects)" in err  # the tables of the folder know it


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--rename", "Cat"), "takes OLD=NEW, not 'Cat'"),
        (("--rename", "=x"), "takes OLD=NEW"),
        (("--rename", "lorry=truck"), "no class 'lorry' to rename; there are: 'cat'"),
        (("--val", "synthetic", "/nowhere"), "no such file or folder"),
    ],
)
def test_mistakes(
    two_sets: tuple[Path, Path], tmp_path: Path, run: Run, arguments: tuple[str, ...], told: str
) -> None:
    code, _, err = run("train", two_sets[0], *arguments, "--out", tmp_path / "r", *TINY)
    assert code == 2
    assert told in err


def test_synthetic_images_are_not_concatenated(two_sets: tuple[Path, Path], tmp_path: Path, run: Run) -> None:
    code, _, err = run("train", two_sets[0], "synthetic", "--out", tmp_path / "r", *TINY, "--short-side", "96")
    assert code == 2
    assert "synthetic images can neither be combined with other data" in err


def test_some_classes_in_training_and_conversion(two_sets: tuple[Path, Path], tmp_path: Path, run: Run) -> None:
    one, two = two_sets
    options = ("--rename", "Cat=cat", "--classes", "cat")
    code, _, err = run("train", one, two, *options, "--out", tmp_path / "run", *TINY)
    assert code == 0, err
    assert "note: 1 of 2 classes: cat; left out, so that their objects are background: dog (" in err
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (about["classes"], about["train_images"]) == (["cat"], 2)
    code, _, err = run("convert", one, two, *options, "--to", "coco", "--out", tmp_path / "coco")
    assert code == 0, err
    assert "left out: dog (" in err
    written = read_data(tmp_path / "coco", "train")
    assert (written.names, len(written)) == (("cat",), 2)
    code, _, err = run("train", one, "--classes", "cot", "--out", tmp_path / "none", *TINY)
    assert code == 2
    assert "--classes: no class 'cot'; did you mean 'cat'?" in err


def test_class_names_with_a_comma() -> None:
    names = ("nut, mixed", "pear", "apple")
    assert choose_classes(["nut, mixed", "apple"], names) == ("nut, mixed", "apple")
    assert choose_classes(["apple,pear"], names) == ("pear", "apple")
    chosen = map_classes(names, {"apple": "fruit", "pear": "fruit"}, ["fruit"])
    assert (chosen.names, chosen.new_labels, chosen.merges, chosen.is_identity) == (
        ("fruit",),
        (-1, 0, 0),
        True,
        False,
    )


@pytest.mark.parametrize("where", ["train", "val"])
def test_training_says_what_100_detections_cannot_find(tmp_path: Path, run: Run, where: str) -> None:
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        Image.new("RGB", (200, 200)).save(tmp_path / split / "a.png")
        count = 130 if split == where or where == "train" else 3
        annotations = [
            {"id": k + 1, "image_id": 1, "category_id": 1 + k % 2, "bbox": [k % 14 * 8, k // 14 * 9, 90, 80]}
            for k in range(count)
        ]
        content = {
            "images": [{"id": 1, "file_name": "a.png", "width": 200, "height": 200}],
            "annotations": annotations,
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        }
        (tmp_path / split / "set.json").write_text(json.dumps(content))
    code, _, err = run("train", tmp_path, "--out", tmp_path / "run", *TINY, "--batch-size", 1)
    assert code == 0, err
    assert "note: 30 of 130 objects cannot be found: only the best 100 detections of each image count" in err


def test_changed_images_keep_their_annotations() -> None:
    scenes = SyntheticScenes(2, size=96)
    mirrored = ChangedImages(scenes, mirror_image)
    assert (len(mirrored), mirrored.names, mirrored.category_ids) == (2, scenes.names, scenes.category_ids)
    assert mirrored.files is None
    for data, original in ((mirrored, scenes), (mirrored.at_epoch(1), scenes.at_epoch(1))):
        image, sample = data.read(1)
        wanted, annotated = original.read(1)
        assert torch.equal(image, wanted.flip(2))
        assert torch.equal(sample.boxes, annotated.boxes)
        assert torch.equal(data.sample(1).boxes, annotated.boxes)
