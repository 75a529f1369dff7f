"""The reader of COCO json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from coco_files import box, dump, image, reasons
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gfocal.data.discovery import read_data
from gfocal.data.readers.coco import read_coco
from gfocal.errors import DataError

ACTIONS = ("dropped", "kept", "clipped", "skipped", "scaled", "left out", "left out of training")


def test_sparse_category_ids_become_labels_in_order_of_id(tmp_path: Path) -> None:
    file = dump(
        tmp_path / "a.json",
        [
            box(1, 7, 90, [10, 20, 30, 40]),
            box(2, 7, 3, [0, 0, 5.5, 6.25]),
            box(3, 7, 17, [1, 1, 9, 9], iscrowd=1),
        ],
    )
    data = read_coco(file)
    assert data.names == ("cat", "dog", "zebra")
    assert data.category_ids == (3, 17, 90)
    assert [s.image_id for s in data.samples] == [1, 7]
    background, sample = data.samples
    assert background.boxes.shape == (0, 4)
    assert background.labels.dtype == torch.int64
    assert background.crowd.dtype == torch.bool
    assert sample.boxes.dtype == torch.float32
    assert sample.boxes.tolist() == [[10, 20, 40, 60], [0, 0, 5.5, 6.25], [1, 1, 10, 10]]
    assert sample.labels.tolist() == [2, 0, 1]
    assert sample.crowd.tolist() == [False, False, True]
    assert sample.size == (80, 100)
    assert sample.path == tmp_path / "a.png"
    assert data.problems == []
    image, again = data.read(1)
    assert image.shape == (3, 80, 100)
    assert (again.path, again.boxes.tolist()) == (sample.path, sample.boxes.tolist())


def test_names_give_the_order_of_labels_and_must_contain_the_classes(tmp_path: Path) -> None:
    file = dump(tmp_path / "a.json", [box(1, 7, 90, [10, 20, 30, 40]), box(2, 7, 3, [1, 2, 3, 4])])
    data = read_coco(file, names=["zebra", "cat", "dog"])
    assert data.names == ("zebra", "cat", "dog")
    assert data.category_ids == (90, 3, 17)
    assert data.samples[1].labels.tolist() == [0, 1]
    with pytest.raises(DataError, match=r"\['cat', 'dog', 'zebra'\].*\['cat', 'horse'\].*horse"):
        read_coco(file, names=["cat", "horse"])


def test_annotations_without_image_or_class_are_dropped(tmp_path: Path) -> None:
    annotations = [
        box(1, 8, 3, [1, 2, 3, 4]),
        box(2, None, 3, [1, 2, 3, 4]),
        box(3, [7], 3, [1, 2, 3, 4]),
        box(4, 7, 4, [1, 2, 3, 4]),
        box(5, 7, {}, [1, 2, 3, 4]),
        "text",
        {},
        {"image_id": 7, "category_id": 3, "bbox": [1, 2]},
    ]
    data = read_coco(dump(tmp_path / "a.json", annotations))
    assert reasons(data) == {
        ("annotation of an image that is not listed", "dropped"): 4,
        ("unknown class", "dropped"): 2,
        ("not a record", "dropped"): 1,
        ("not a box of finite numbers", "dropped"): 1,
        ("all objects of the image were dropped: it is evaluated, and not trained on", "left out of training"): 1,
    }
    assert sum(len(s.labels) for s in data.samples) == 0


def test_images_missing_broken_repeated_or_outside_are_dropped(tmp_path: Path) -> None:
    images = [
        {"id": 1, "file_name": "good.png", "width": 100, "height": 80},
        {"id": 2, "file_name": "missing.png"},
        {"id": 3, "file_name": "text.png"},
        {"id": 1, "file_name": "other.png"},
        {"id": 4, "file_name": "../secret.png"},
        {"id": 5, "file_name": str(tmp_path / "secret.png")},
        {"id": 6, "file_name": "sub/../../secret.png"},
        {"id": 9, "file_name": "..\\secret.png"},
        {"id": 7},
        "text",
        {"id": 8, "file_name": "sub/deep.png"},
    ]
    folder = tmp_path / "set"
    for name in ("good.png", "other.png", "sub/deep.png", "../secret.png"):
        image(folder / name)
    (folder / "text.png").write_text("no image")
    annotations = [box(n, n, 3, [n, 2, 30, 40]) for n in range(1, 10)]
    data = read_coco(dump(folder / "a.json", annotations, images))
    assert [s.path for s in data.samples] == [folder / "good.png", folder / "sub" / "deep.png"]
    assert [s.boxes.tolist() for s in data.samples] == [[[1, 2, 31, 42]], [[8, 2, 38, 42]]]
    assert reasons(data) == {
        ("image file is missing", "dropped"): 1,
        ("image is unreadable", "dropped"): 1,
        ("image id occurs twice", "dropped"): 1,
        ("file name leads out of the data folder", "dropped"): 4,
        ("image without 'id'", "dropped"): 1,
        ("image without 'file_name' (or 'coco_url')", "dropped"): 1,
        ("annotation of an image that is not listed", "dropped"): 1,  # of the entry without file name
    }


def test_size_of_the_file_replaces_a_wrong_stated_size(tmp_path: Path) -> None:
    image(tmp_path / "a.png", 100, 80)
    images = [{"id": 1, "file_name": "a.png", "width": 1000, "height": 800}]
    data = read_coco(dump(tmp_path / "a.json", [box(1, 1, 3, [50, 40, 40, 30])], images))
    assert data.samples[0].boxes.tolist() == [[50, 40, 90, 70]]
    assert data.samples[0].size == (80, 100)
    assert reasons(data) == {("stated size is not that of the image file", "kept"): 1}
    assert "stated 1000x800, file 100x80" in data.problems[0].record


@pytest.mark.parametrize(("stated", "expected"), [((60, 40), (40, 60)), ((40, 60), (60, 40)), ((1, 1), (60, 40))])
def test_rotated_image_is_read_as_it_was_annotated(
    tmp_path: Path, stated: tuple[int, int], expected: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (60, 40)).save(tmp_path / "a.jpg", exif=exif)  # stored lying, to be shown standing
    images = [{"id": 1, "file_name": "a.jpg", "width": stated[0], "height": stated[1]}]
    data = read_coco(dump(tmp_path / "a.json", [box(1, 1, 3, [0, 0, 1000, 1000])], images))
    image, sample = data.read(0)
    assert sample.size == tuple(image.shape[1:]) == expected
    assert sample.boxes.tolist() == [[0, 0, expected[1], expected[0]]]
    assert len([p for p in data.problems if p.action == "kept"]) == (stated == (1, 1))


@pytest.mark.parametrize(
    ("json_place", "image_place"),
    [
        ("a.json", "."),
        ("annotations/instances_val2017.json", "val2017"),
        ("annotations/instances_val2017.json", "images/val2017"),
        ("annotations/instances_val2017.json", "images/val"),
        ("annotations/instances_val.json", "valid"),
        ("annotations/instances_train.json", "images"),
        ("annotations/instances_minival2014.json", "train2017"),
        ("valid/_annotations.coco.json", "valid"),
        ("train.json", "train"),
        ("train.json", "images/train"),
        ("train.json", "images"),
    ],
)
def test_images_are_found_in_the_usual_folders(tmp_path: Path, json_place: str, image_place: str) -> None:
    image(tmp_path / image_place / "a.png")
    images = [{"id": 1, "file_name": "missing.png"}, {"id": 2, "file_name": "a.png"}]
    data = read_coco(dump(tmp_path / json_place, [], images))
    assert [s.path.resolve() for s in data.samples if s.path] == [tmp_path / image_place / "a.png"]
    assert reasons(data) == {("image file is missing", "dropped"): 1}


def test_error_lists_the_searched_folders(tmp_path: Path) -> None:
    file = dump(tmp_path / "annotations" / "instances_val2017.json", [], [{"id": 1, "file_name": "a.png"}])
    with pytest.raises(
        DataError, match=r"move them to one of the folders in which 'a.png' was looked for: .*val2017.*images"
    ) as caught:
        read_coco(file)
    assert "\n" not in str(caught.value)
    image(tmp_path / "elsewhere" / "a.png")
    assert len(read_coco(file, tmp_path / "elsewhere")) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [],\n  "annotations": [}', "line 2, column 19"),
        ("", "line 1, column 1"),
        ("[]", "images, annotations, categories"),
        ('{"images": [], "categories": 3}', "annotations, categories"),
        ('{"images": [], "annotations": [], "categories": []}', "no categories"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "category 1"),
        ('{"images": [], "annotations": [], "categories": [{"id": true, "name": "a"}]}', "category 1"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', "no usable image"),
        ("[" * 100_000, "json"),
    ],
)
def test_unusable_files(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_coco(file)
    assert str(caught.value).startswith(str(file))


def test_one_id_for_two_classes(tmp_path: Path) -> None:
    file = dump(tmp_path / "a.json", [], categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}])
    with pytest.raises(DataError, match="category id 1 is that of 'a' and 'b'"):
        read_coco(file)


def test_missing_file_bytes_and_byte_order_mark(tmp_path: Path) -> None:
    file = dump(tmp_path / "a.json", [])
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert len(read_coco(file)) == 2
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        read_coco(file)
    with pytest.raises(DataError, match="cannot be read"):
        read_coco(tmp_path / "missing.json")


def test_error_without_usable_images_has_the_first_problem(tmp_path: Path) -> None:
    image(tmp_path / "a.png").write_text("broken")
    with pytest.raises(DataError, match=r"no usable image among 1.*a\.png.*unreadable"):
        read_coco(dump(tmp_path / "a.json", [], [{"id": 1, "file_name": "a.png"}]))


def test_string_ids_are_replaced_by_numbers(tmp_path: Path) -> None:
    images = [{"id": "y", "file_name": "b.png"}, {"id": "x", "file_name": "a.png"}]
    for entry in images:
        image(tmp_path / entry["file_name"])
    data = read_coco(dump(tmp_path / "a.json", [box(1, "y", 3, [1, 2, 3, 4])], images))
    assert [(s.image_id, s.path.name if s.path else "", len(s.labels)) for s in data.samples] == [
        (1, "a.png", 0),
        (2, "b.png", 1),
    ]


def test_repeated_class_name_is_reported(tmp_path: Path) -> None:
    categories = [{"id": 0, "name": "fish"}, {"id": 1, "name": "fish"}]
    data = read_coco(dump(tmp_path / "a.json", [], categories=categories))
    assert data.names == ("fish", "fish")
    assert reasons(data) == {("class name occurs twice", "kept"): 1}


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 8),
    st.floats(),
    st.sampled_from(["a.png", "b.png", "", "..", "/", "nul\0", "x" * 5000, "\ud800"]),
)
values = st.one_of(
    scalars, st.lists(scalars, max_size=5), st.dictionaries(st.sampled_from("ab"), scalars, max_size=2)
)


def entries(*keys: str) -> st.SearchStrategy[list[Any]]:
    record = st.dictionaries(st.sampled_from(keys), values, max_size=len(keys))
    return st.lists(st.one_of(record, values), max_size=5)


@settings(max_examples=150, deadline=None)
@given(
    images=entries("id", "file_name", "height", "width"),
    annotations=entries("id", "image_id", "category_id", "bbox", "iscrowd"),
)
def test_any_json_gives_data_or_a_data_error(
    images: list[Any], annotations: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "coco_law"
    image(folder / "a.png")
    file = dump(folder / "a.json", annotations, [{"id": 7, "file_name": "a.png"}, *images])
    data = read_coco(file)
    assert data.samples[-1].path is not None
    assert all(p.action in ACTIONS for p in data.problems)


def test_the_real_coco_images(shared: Path) -> None:
    folder = shared / "data" / "coco_ccby" / "annotations"
    counts = {}
    for split in ("train", "val"):
        data = read_coco(folder / f"instances_{split}2017.json")
        assert data.problems == []
        assert len(data.names) == 80
        assert (data.names[0], data.category_ids[0], data.names[79], data.category_ids[79]) == (
            "person",
            1,
            "toothbrush",
            90,
        )
        counts[split] = (
            len(data),
            sum(len(s.labels) for s in data.samples),
            sum(int(s.crowd.sum()) for s in data.samples),
            sum(len(s.labels) == 0 for s in data.samples),
        )
        image, sample = data.read(0)
        assert tuple(image.shape[1:]) == sample.size
    assert counts == {"train": (35, 312, 4, 0), "val": (45, 405, 6, 2)}


def test_ignore_is_a_crowd_flag_too(tmp_path: Path) -> None:
    file = dump(
        tmp_path / "a.json",
        [
            box(1, 7, 3, [0, 0, 10, 10], ignore=1),
            box(2, 7, 3, [0, 0, 20, 10], ignore=0),
            box(3, 7, 3, [0, 0, 30, 10], ignore=True, iscrowd=0),
            box(4, 7, 3, [0, 0, 40, 10], ignore=0, iscrowd=1),
            box(5, 7, 3, [0, 0, 50, 10]),
        ],
    )
    assert read_coco(file).samples[1].crowd.tolist() == [True, False, True, True, False]


EXPORTED = [
    {"id": 0, "name": "pets", "supercategory": "none"},
    {"id": 1, "name": "cat", "supercategory": "pets"},
    {"id": 2, "name": "dog", "supercategory": "pets"},
]


def export(root: Path, split: str, *categories: int, listed: list[Any] = EXPORTED) -> Path:
    """A split as Roboflow exports it."""
    images = [{"id": 0, "file_name": "a.png", "height": 80, "width": 100}]
    image(root / split / "a.png")
    annotations = [box(i, 0, category, [10 * i, 1, 9, 8]) for i, category in enumerate(categories)]
    return dump(root / split / "_annotations.coco.json", annotations, images, categories=listed)


def test_project_name_listed_as_a_category_is_not_a_class(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        export(tmp_path, split, 2, 1)
    for data in (read_data(tmp_path, "train"), read_data(tmp_path / "valid" / "_annotations.coco.json")):
        assert (data.names, data.category_ids) == (("cat", "dog"), (1, 2))
        assert data.samples[0].labels.tolist() == [1, 0]
        assert [(p.record, p.action) for p in data.problems] == [("category 0: 'pets'", "skipped")]
    # A model that was trained with it as a class keeps it.
    assert read_data(tmp_path, "train", ["cat", "pets", "dog"]).category_ids == (1, 0, 2)


def test_used_supercategory_is_a_class(tmp_path: Path) -> None:
    export(tmp_path, "train", 2, 1)
    export(tmp_path, "valid", 1, 0)  # by the other split: then it is one in both
    file = tmp_path / "train" / "_annotations.coco.json"
    for path, split in ((tmp_path, "train"), (tmp_path, "val"), (file, None), (file.parent, None)):
        data = read_data(path, split)
        assert (data.names, data.problems) == (("pets", "cat", "dog"), [])


@pytest.mark.parametrize(
    "listed",
    [
        [EXPORTED[0], EXPORTED[1], {"id": 2, "name": "dog", "supercategory": "animal"}],
        [{"id": 0, "name": "pets"}, {"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        [{"id": 0, "name": "pets", "supercategory": "pets"}],
    ],
)
def test_category_that_is_not_the_supercategory_of_all_is_a_class(tmp_path: Path, listed: list[Any]) -> None:
    data = read_coco(export(tmp_path, "train", *([1] if len(listed) > 1 else []), listed=listed))
    assert data.names == tuple(entry["name"] for entry in listed)
    assert data.problems == []


def test_data_may_lack_expected_classes(tmp_path: Path) -> None:
    names = ("ant", "zebra", "cat", "dog", "bee")
    data = read_coco(dump(tmp_path / "a.json", [box(1, 7, 90, [0, 0, 5, 5])]), names=names)
    assert data.names == names
    assert data.category_ids == (1, 90, 3, 17, 2)
    assert data.samples[1].labels.tolist() == [1]
