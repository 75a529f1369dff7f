"""YOLO text labels, with and without a yaml."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gfocal.data.dataset import FileData
from gfocal.data.outlines import OUTLINE
from gfocal.data.readers.yolo import NO_LABELS, SPLIT_LOST, SPLIT_MOVED, read_yolo, yolo_splits
from gfocal.errors import DataError


def image(path: Path, width: int = 100, height: int = 80, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height)).save(path, **options)
    return path


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def reasons(data: FileData) -> Counter[tuple[str, str]]:
    return Counter((p.reason, p.action) for p in data.problems)


def files(data: FileData) -> list[str]:
    return [s.path.name for s in data.samples if s.path is not None]


def one_image(root: Path, lines: str) -> FileData:
    image(root / "images" / "train" / "a.png")
    text(root / "labels" / "train" / "a.txt", lines)
    text(root / "data.yaml", "train: images/train\nnames: [cat, dog]\n")
    return read_yolo(root, "train")


def test_boxes_polygons_and_background(tmp_path: Path) -> None:
    for name in ("b", "empty", "missing"):
        image(tmp_path / "images" / "train" / f"{name}.jpg")
    text(tmp_path / "labels" / "train" / "empty.txt", "")
    polygon = "0 0.1 0.2 0.5 0.1 0.3 0.75"
    text(tmp_path / "labels" / "train" / "b.txt", f"1 0.5 0.5 0.2 0.5\n\n{polygon}\n1.0 0.1 0.1 0.1 0.1\n")
    text(tmp_path / "data.yaml", "train: images/train\nnames: {0: cat, 1: dog}\n")
    data = read_yolo(tmp_path / "data.yaml", "train")
    assert data.names == ("cat", "dog")
    assert data.category_ids == (0, 1)
    assert files(data) == ["b.jpg", "empty.jpg", "missing.jpg"]
    assert [s.image_id for s in data.samples] == [1, 2, 3]
    expected = torch.tensor([[40.0, 20, 60, 60], [10, 8, 50, 60], [5, 4, 15, 12]])
    torch.testing.assert_close(data.samples[0].boxes, expected)
    assert data.samples[0].labels.tolist() == [1, 0, 1]
    assert not data.samples[0].crowd.any()
    assert [len(s.labels) for s in data.samples[1:]] == [0, 0]
    assert reasons(data) == {(OUTLINE, "kept"): 1, (NO_LABELS, "kept"): 1}
    assert {problem.record.partition(",")[0] for problem in data.problems} == {"1 line", "1 of 3 images"}


def test_fractions_are_of_the_upright_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image(tmp_path / "images" / "a.jpg", 100, 80, exif=exif)
    text(tmp_path / "labels" / "a.txt", "0 0.5 0.5 1 1")
    text(tmp_path / "data.yaml", "train: images\nnames: [cat]\n")
    data = read_yolo(tmp_path)
    assert data.samples[0].boxes.tolist() == [[0, 0, 80, 100]]
    assert data.read(0)[0].shape == (3, 100, 80)


def test_pixels_in_place_of_fractions_are_not_clipped(tmp_path: Path) -> None:
    """The second box covers the whole image, if 30 is taken for 30 widths of it."""
    data = one_image(tmp_path, "0 50 40 20 20\n0 20 20 30 60\n0 10 20 30 40 50 60")
    assert len(data.samples[0].labels) == 0
    (reason, action), (left_out, _) = [key for key in reasons(data) if key != (OUTLINE, "kept")]
    assert "are these pixels?" in reason
    assert action == "dropped"
    assert "not trained on" in left_out
    assert data.untrained == {1}


def test_invalid_lines_are_dropped(tmp_path: Path) -> None:
    lines = [
        "0 0.5 0.5 0.2 0.2",
        "0 0.5 0.5 0.2",
        "0 0.5 0.5 0.2 0.2 -0.9",
        "cat 0.5 0.5 0.2 0.2",
        "0,0.5,0.5,0.2,0.2",
        "2 0.5 0.5 0.2 0.2",
        "-1 0.5 0.5 0.2 0.2",
        "0.5 0.5 0.5 0.2 0.2",
        "nan 0.5 0.5 0.2 0.2",
        "0 nan 0.5 0.2 0.2",
        "0 0.1 0.1 nan 0.2 0.3 0.9",
        "0 320 240 50 60",
        "0 1.5 0.5 0.2 0.2",
        "0 0.5 0.5 0 0.2",
        "0 0.5 0.5 -0.2 0.2",
        "0 1.0 0.5 0.2 0.2",
        "0 0.5 0.5 0.2 0.2",
        "1 0.5 0.5 0.2 0.2",
    ]
    data = one_image(tmp_path, "\n".join(lines))
    expected = torch.tensor([[40.0, 32, 60, 48], [90, 32, 100, 48], [40, 32, 60, 48]])
    torch.testing.assert_close(data.samples[0].boxes, expected)
    assert data.samples[0].labels.tolist() == [0, 0, 1]
    assert reasons(data) == {
        ("neither a box nor a polygon", "dropped"): 2,
        ("line is not only numbers", "dropped"): 2,
        ("unknown class: ids are 0..1", "dropped"): 4,
        ("box is not finite", "dropped"): 2,
        ("box is not in fractions of the image, as YOLO's are: are these pixels?", "dropped"): 1,
        ("box is outside the image", "dropped"): 1,
        ("box has no area", "dropped"): 1,
        ("box is inverted", "dropped"): 1,
        ("box exceeds the image", "clipped"): 1,
        ("duplicate box of the same class", "dropped"): 1,
        (OUTLINE, "kept"): 1,
    }
    assert all("line " in p.record and p.file.endswith("a.txt") for p in data.problems if p.reason != OUTLINE)
    assert len({p.record for p in data.problems}) == len(data.problems)


def test_splits_by_any_spelling_lists_of_folders_and_path(tmp_path: Path) -> None:
    root = tmp_path / "sets" / "mine"
    for place in ("images/one/a", "images/two/deep/b", "images/val/c"):
        image(root / f"{place}.png")
        text(root / f"{place.replace('images', 'labels')}.txt", "0 0.5 0.5 0.2 0.2")
    content = "train: [images/one, images/two]\nvalid: images/val\ntest:\nnames: [cat]\n"
    beside = text(root / "data.yaml", content)
    relative = text(tmp_path / "yamls" / "data.yaml", f"path: ../sets/mine\n{content}")
    absolute = text(tmp_path / "other.yml", f"path: {root}\n{content}")
    gone = text(root / "gone.yaml", f"path: ../datasets/of/somebody\n{content}")
    for yaml in (beside, relative, absolute, gone):
        assert yolo_splits(yaml) == ["train", "val"]
        assert files(read_yolo(yaml, "train")) == ["a.png", "b.png"]
        for split in ("val", "valid", "validation"):
            assert files(read_yolo(yaml, split)) == ["c.png"]
        with pytest.raises(DataError, match="no split 'test'; there are: train, val"):
            read_yolo(yaml, "test")
        with pytest.raises(DataError, match="several splits, choose one"):
            read_yolo(yaml)


def test_missing_split(tmp_path: Path) -> None:
    image(tmp_path / "images" / "train" / "a.png")
    text(tmp_path / "labels" / "train" / "a.txt", "0 0.5 0.5 0.2 0.2")
    yaml = text(
        tmp_path / "data.yaml", "train: images/train\nvalid: [images/train, images/vla]\ntest: no.txt\nnames: [cat]\n"
    )
    for split, named in (("val", "val: images/vla "), ("valid", "val: images/vla "), ("test", "test: no.txt ")):
        with pytest.raises(DataError, match=f"^{yaml}: {named}not found below {tmp_path}; fix the entry or 'path:'"):
            read_yolo(tmp_path, split)
    data = read_yolo(tmp_path, "train")
    assert [str(p) for p in data.problems] == [
        f"{yaml}: val: images/vla: another split that does not exist (skipped)",
        f"{yaml}: test: no.txt: another split that does not exist (skipped)",
    ]
    # Without a split what is meant is train, not the only one that is there.
    text(yaml, "train: images/tarin\nval: images/train\nnames: [cat]\n")
    with pytest.raises(DataError, match="train: images/tarin not found"):
        read_yolo(tmp_path)


def test_exports_with_paths_one_folder_too_high(tmp_path: Path) -> None:
    image(tmp_path / "set" / "train" / "images" / "a.png")
    text(tmp_path / "set" / "train" / "labels" / "a.txt", "0 0.5 0.5 0.2 0.2")
    text(
        tmp_path / "set" / "data.yaml",
        "train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['cat']\n",
    )
    data = read_yolo(tmp_path / "set", "train")
    assert len(data.samples[0].labels) == 1
    assert reasons(data) == {("another split that does not exist", "skipped"): 1}


def test_text_lists_of_images(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("a", "b", "c"):
        image(root / "images" / f"{name}.png")
        text(root / "labels" / f"{name}.txt", "0 0.5 0.5 0.2 0.2")
    image(tmp_path / "secret.png")
    lines = [
        "./images/b.png",
        f"{root}/images/a.png",
        "images/b.png",
        "../secret.png",
        "/etc/x.png",
        "images/no.png",
    ]
    text(root / "train.txt", "\n".join(lines) + "\n\n")
    text(root / "data.yaml", "train: train.txt\nnames: [cat]\n")
    data = read_yolo(root, "train")
    assert files(data) == ["a.png", "b.png"]
    assert reasons(data) == {
        ("image is listed twice", "dropped"): 1,
        ("file name leads out of the data folder", "dropped"): 2,
        ("image file is missing", "dropped"): 1,
    }


def test_yaml_entries_do_not_lead_out_of_the_data_folder(tmp_path: Path) -> None:
    image(tmp_path / "elsewhere" / "a.png")
    for entry in ("../elsewhere", str(tmp_path / "elsewhere")):
        text(tmp_path / "set" / "data.yaml", f"train: {entry}\nnames: [cat]\n")
        with pytest.raises(DataError, match=r"none of its splits .*fix 'path:'"):
            read_yolo(tmp_path / "set", "train")


def test_labels_beside_the_images(tmp_path: Path) -> None:
    image(tmp_path / "train" / "a.png")
    text(tmp_path / "train" / "a.txt", "0 0.5 0.5 0.2 0.2")
    text(tmp_path / "data.yaml", "train: train\nnames: [cat]\n")
    assert len(read_yolo(tmp_path, "train").samples[0].labels) == 1
    image(tmp_path / "images" / "b.png")
    text(tmp_path / "images" / "b.txt", "0 0.5 0.5 0.2 0.2")
    text(tmp_path / "data.yaml", "train: images\nnames: [cat]\n")
    assert len(read_yolo(tmp_path, "train").samples[0].labels) == 1


def test_label_files_without_image_are_reported(tmp_path: Path) -> None:
    text(tmp_path / "labels" / "train" / "gone.txt", "0 0.5 0.5 0.2 0.2")
    text(tmp_path / "labels" / "train" / "classes.txt", "cat\ndog\n")
    data = one_image(tmp_path, "0 0.5 0.5 0.2 0.2")
    assert reasons(data) == {("annotation of an image that is not listed", "dropped"): 1}
    assert data.problems[0].file.endswith("gone.txt")


def test_unreadable_image_is_dropped(tmp_path: Path) -> None:
    text(tmp_path / "images" / "train" / "text.png", "no image")
    data = one_image(tmp_path, "0 0.5 0.5 0.2 0.2")
    assert files(data) == ["a.png"]
    assert reasons(data) == {("image is unreadable", "dropped"): 1}


def test_no_label_files_is_an_error(tmp_path: Path) -> None:
    image(tmp_path / "images" / "a.png")
    text(tmp_path / "data.yaml", "train: images\nnames: [cat]\n")
    with pytest.raises(DataError, match=r"none of 1 images has a label file.*labels.a\.txt"):
        read_yolo(tmp_path, "train")


@pytest.mark.parametrize("places", [("images/{}", "labels/{}"), ("{}/images", "{}/labels")])
def test_folders_without_a_yaml(tmp_path: Path, places: tuple[str, str]) -> None:
    for split in ("train", "valid"):
        image(tmp_path / places[0].format(split) / "a.png")
        text(tmp_path / places[1].format(split) / "a.txt", "1 0.5 0.5 0.2 0.2")
    assert yolo_splits(tmp_path) == ["train", "val"]
    with pytest.raises(DataError, match="no class names"):
        read_yolo(tmp_path, "train")
    assert read_yolo(tmp_path, "val", names=["cat", "dog"]).names == ("cat", "dog")
    text(tmp_path / "classes.txt", "ant\nbee\n")
    data = read_yolo(tmp_path, "train")
    assert data.names == ("ant", "bee")
    assert data.samples[0].labels.tolist() == [1]


def test_names_choose_the_order_and_indices_may_have_gaps(tmp_path: Path) -> None:
    image(tmp_path / "images" / "a.png")
    text(tmp_path / "labels" / "a.txt", "5 0.5 0.5 0.2 0.2\n2 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2")
    text(tmp_path / "data.yaml", "train: images\nnames: {5: cat, '2': dog}\n")
    data = read_yolo(tmp_path, "train")
    assert (data.names, data.category_ids) == (("dog", "cat"), (2, 5))
    assert data.samples[0].labels.tolist() == [1, 0]
    assert reasons(data) == {("unknown class: ids are 2, 5", "dropped"): 1}
    data = read_yolo(tmp_path, "train", names=["cat", "dog"])
    assert (data.names, data.category_ids) == (("cat", "dog"), (5, 2))
    assert data.samples[0].labels.tolist() == [0, 1]
    with pytest.raises(DataError, match=r"\['dog', 'cat'\].*\['cat', 'cow'\]"):
        read_yolo(tmp_path, "train", names=["cat", "cow"])


def test_data_may_lack_expected_classes(tmp_path: Path) -> None:
    one_image(tmp_path, "1 0.5 0.5 0.2 0.2")
    data = read_yolo(tmp_path, "train", names=["owl", "dog", "cat"])
    assert (data.names, data.category_ids) == (("owl", "dog", "cat"), (2, 1, 0))
    assert data.samples[0].labels.tolist() == [1]


@pytest.mark.parametrize(
    ("entry", "is_told"),
    [
        ("../train/images", False),  # as exports have it
        ("train/images", False),
        ("/content/drive/sets/train/images", True),
        ("..\\..\\sets\\train\\images", True),
        ("../../train/images", False),
    ],
)
def test_splits_of_a_moved_yaml_are_found_beside_it(tmp_path: Path, entry: str, is_told: bool) -> None:
    image(tmp_path / "set" / "train" / "images" / "a.png")
    text(tmp_path / "set" / "train" / "labels" / "a.txt", "1 0.5 0.5 0.2 0.2")
    text(tmp_path / "set" / "data.yaml", f"train: {entry}\nval: ../valid/images\nnames: [cat, dog]\n")
    data = read_yolo(tmp_path / "set", "train")
    assert files(data) == ["a.png"]
    told = {(SPLIT_MOVED, "kept"): 1} if is_told else {}
    assert reasons(data) == {**told, (SPLIT_LOST, "skipped"): 1}


def test_a_yaml_never_leads_out_of_its_folder(tmp_path: Path) -> None:
    image(tmp_path / "train" / "images" / "a.png")
    text(tmp_path / "train" / "labels" / "a.txt", "1 0.5 0.5 0.2 0.2")
    for entry in ("../train/images", str(tmp_path / "train" / "images"), "..", "../..", "/"):
        text(tmp_path / "set" / "data.yaml", f"train: {entry}\nnames: [cat, dog]\n")
        with pytest.raises(DataError, match="none of its splits"):
            read_yolo(tmp_path / "set", "train")


@settings(max_examples=100, deadline=None)
@given(content=st.text(alphabet="01.5 -enaif\n\t_,", max_size=80))
def test_any_text_gives_valid_boxes(content: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    data = one_image(tmp_path_factory.getbasetemp() / "yolo_law", content)
    boxes = data.samples[0].boxes
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert len(boxes) + sum(p.action == "dropped" for p in data.problems) == sum(
        bool(line.strip()) for line in content.splitlines()
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("names: [cat\ntrain: images\n", "broken yaml at line 2, column 6"),
        ("just words", "not a YOLO data file"),
        ("train: images", "'names' must be"),
        ("train: images\nnames: {cat: 0}", "'names' must be"),
        ("names: [cat]", "no train, val or test"),
        ("names: [cat]\ntrain: nowhere", "train: nowhere"),
        ("a: !!python/object/apply:os.system ['true']", "yaml"),
    ],
)
def test_unusable_yaml(tmp_path: Path, content: str, message: str) -> None:
    image(tmp_path / "images" / "a.png")
    yaml = text(tmp_path / "data.yaml", content)
    with pytest.raises(DataError, match=message) as caught:
        read_yolo(yaml, "train")
    assert str(caught.value).startswith(str(yaml))


def test_long_untrusted_texts_are_shortened_in_messages(tmp_path: Path) -> None:
    deep = "{a: " * 90 + "x" + "}" * 90
    yaml = text(tmp_path / "data.yaml", f"names: [cat]\ntrain: {deep}\nval: {deep}\npath: {deep}\n")
    with pytest.raises(DataError, match="none of its splits") as caught:
        read_yolo(yaml)
    assert len(str(caught.value).replace(str(tmp_path), "")) <= 600


def test_wrong_number_of_classes_is_reported(tmp_path: Path) -> None:
    one_image(tmp_path, "0 0.5 0.5 0.2 0.2")
    text(tmp_path / "data.yaml", "train: images/train\nnc: 3\nnames: [cat, dog]\n")
    assert reasons(read_yolo(tmp_path, "train")) == {("nc is not the number of names", "kept"): 1}
