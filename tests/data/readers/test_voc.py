"""Pascal VOC xml in its two layouts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from gfocal.data.dataset import FileData
from gfocal.data.readers.voc import read_voc
from gfocal.errors import DataError

Object = tuple[str, Sequence[object], int]  # class, corners, difficult


def image(path: Path, width: int = 100, height: int = 80) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height)).save(path)
    return path


def write(file: Path, objects: Sequence[Object] = (), filename: str = "", size: str = "100x80") -> Path:
    tags = ("xmin", "ymin", "xmax", "ymax")
    width, height = size.split("x")
    parts = [f"<filename>{filename or file.stem + '.jpg'}</filename>"]
    parts.append(f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>")
    for name, corners, difficult in objects:
        box = "".join(f"<{t}>{c}</{t}>" for t, c in zip(tags, corners, strict=False))
        parts.append(
            f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{box}</bndbox>"
            "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
            "</object>"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"<annotation>{''.join(parts)}</annotation>")
    return file


def classic(root: Path) -> Path:
    """a (cat), b (dog, difficult cat), c (bird) and d (nothing) in the VOC folders."""
    content: dict[str, list[Object]] = {
        "a": [("cat", (10, 20, 30, 40), 0)],
        "b": [("dog", (1, 1, 100, 80), 0), ("cat", (5.5, 6, 7, 8.25), 1)],
        "c": [("bird", (1, 2, 3, 4), 0)],
        "d": [],
    }
    for stem, objects in content.items():
        write(root / "Annotations" / f"{stem}.xml", objects)
        image(root / "JPEGImages" / f"{stem}.jpg")
    lists = {"train": "b\na\n", "val": "c 1\n\nd -1\n", "trainval": "a\nb\nc\nd\n", "dog_train": "b 1\n"}
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for name, text in lists.items():
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text(text)
    return root


def stems(data: FileData) -> list[str]:
    return [s.path.stem for s in data.samples if s.path is not None]


def reasons(data: FileData) -> Counter[tuple[str, str]]:
    return Counter((p.reason, p.action) for p in data.problems)


def test_folders_of_the_voc_challenge(tmp_path: Path) -> None:
    data = read_voc(classic(tmp_path), "train")
    assert data.names == ("bird", "cat", "dog")  # bird is of the other split: labels of splits agree
    assert data.category_ids == (1, 2, 3)
    assert stems(data) == ["a", "b"]
    assert [s.image_id for s in data.samples] == [1, 2]
    assert data.samples[0].boxes.tolist() == [[10, 20, 30, 40]]
    assert data.samples[1].boxes.tolist() == [[1, 1, 100, 80], [5.5, 6, 7, 8.25]]
    assert data.samples[1].labels.tolist() == [2, 1]
    assert data.samples[1].crowd.tolist() == [False, True]
    assert data.problems == []
    assert data.read(0)[0].shape == (3, 80, 100)


def test_any_spelling_of_splits_and_all_images_without_a_split(tmp_path: Path) -> None:
    classic(tmp_path)
    for split in ("val", "valid", "validation"):
        data = read_voc(tmp_path, split)
        assert stems(data) == ["c", "d"]
        assert [len(s.labels) for s in data.samples] == [1, 0]
    assert stems(read_voc(tmp_path)) == stems(read_voc(tmp_path, "trainval")) == ["a", "b", "c", "d"]
    with pytest.raises(DataError, match=r"no split 'test'; there are: train, val, trainval"):
        read_voc(tmp_path, "test")


def test_names_give_the_order_and_must_contain_every_class(tmp_path: Path) -> None:
    classic(tmp_path)
    data = read_voc(tmp_path, "train", names=["dog", "horse", "cat", "bird"])
    assert data.names == ("dog", "horse", "cat", "bird")
    assert data.samples[1].labels.tolist() == [0, 2]
    with pytest.raises(DataError, match=r"\['bird', 'cat', 'dog'\].*\['dog', 'cat'\].*not expected: \['bird'\]"):
        read_voc(tmp_path, "train", names=["dog", "cat"])


def test_list_with_unknown_and_repeated_names(tmp_path: Path) -> None:
    classic(tmp_path)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a\nnobody\na\n")
    data = read_voc(tmp_path, "train")
    assert stems(data) == ["a"]
    assert [p.record for p in data.problems] == ["line 2: nobody", "line 3: a"]


@pytest.mark.parametrize("ending", [".jpg", ".JPEG", ".xml", ".png 1"])
def test_lists_may_name_files_with_their_suffix(tmp_path: Path, ending: str) -> None:
    classic(tmp_path)
    write(tmp_path / "Annotations" / "a.b.xml", [("cat", (1, 2, 3, 4), 0)])
    image(tmp_path / "JPEGImages" / "a.b.jpg")
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text(f"a{ending}\na.b\na.b.c\n")
    data = read_voc(tmp_path, "train")
    assert stems(data) == ["a.b", "a"]
    assert [p.record for p in data.problems] == ["line 3: a.b.c"]


def test_flat_folder_with_any_spelling_of_suffixes_and_names_with_blanks(tmp_path: Path) -> None:
    for name in ("one.JPG", "two.jpeg", "my image 3.png"):
        image(tmp_path / name)
        write(tmp_path / f"{Path(name).stem}.xml", [("cat", (1, 2, 3, 4), 0)], filename="renamed.jpg")
    data = read_voc(tmp_path)
    assert sorted(s.path.name for s in data.samples if s.path) == ["my image 3.png", "one.JPG", "two.jpeg"]
    assert data.problems == []


def test_flat_split_folders_share_their_classes(tmp_path: Path) -> None:
    for split, name in (("train", "cat"), ("valid", "ant"), ("test", "bee"), ("backup", "zebra")):
        image(tmp_path / split / "a.jpg")
        write(tmp_path / split / "a.xml", [(name, (1, 2, 3, 4), 0)])
    for data in (
        read_voc(tmp_path / "train"),
        read_voc(tmp_path, "train"),
        read_voc(tmp_path / "train", "train"),
    ):
        assert data.names == ("ant", "bee", "cat")
        assert data.samples[0].labels.tolist() == [2]
        assert len(data) == 1
    assert read_voc(tmp_path, "validation").samples[0].labels.tolist() == [0]
    assert len(read_voc(tmp_path)) == 3
    with pytest.raises(DataError, match="no split 'val'"):
        read_voc(tmp_path / "train", "val")
    with pytest.raises(DataError, match="there are: train, val, test"):
        read_voc(tmp_path, "other")


def test_image_of_an_xml_file_has_its_stem_or_the_name_in_it(tmp_path: Path) -> None:
    image(tmp_path / "a.jpg", 100, 80)
    image(tmp_path / "a.png", 50, 40)
    image(tmp_path / "other.jpg")
    one: list[Object] = [("cat", (1, 2, 3, 4), 0)]
    write(tmp_path / "a.xml", one, "a.png", "50x40")
    write(tmp_path / "b.xml", one, "other.jpg")
    data = read_voc(tmp_path)
    assert [s.path.name for s in data.samples if s.path] == ["a.png", "other.jpg"]


def test_problems_of_images(tmp_path: Path) -> None:
    one: list[Object] = [("cat", (1, 2, 3, 4), 0)]
    folder = tmp_path / "set"
    image(tmp_path / "secret.jpg")
    for stem in ("good", "broken", "bomb", "wrong", "other_kind", "lonely"):
        image(folder / f"{stem}.jpg")
    write(folder / "good.xml", one)
    write(folder / "gone.xml", one)
    write(folder / "away.xml", one, "../secret.jpg")
    write(folder / "wrong.xml", one, size="10x8")
    (folder / "broken.xml").write_text("<annotation>\n<object></annotation>")
    (folder / "other_kind.xml").write_text("<html/>")
    (folder / "bomb.xml").write_text(
        '<!DOCTYPE a [<!ENTITY x "xx"><!ENTITY y "&x;&x;">]><annotation><filename>&y;</filename></annotation>'
    )
    data = read_voc(folder)
    assert stems(data) == ["good", "wrong"]
    assert reasons(data) == {
        ("image file is missing", "dropped"): 1,
        ("file name leads out of the data folder", "dropped"): 1,
        ("broken xml", "dropped"): 2,
        ("xml is not a VOC annotation", "dropped"): 1,
        ("image without an xml file", "dropped"): 1,
        ("stated size is not that of the image file", "kept"): 1,
    }
    places = {Path(p.file).name: p.record for p in data.problems}
    assert "line 2" in places["broken.xml"]
    assert "ntit" in places["bomb.xml"]
    assert places["gone.xml"].endswith("gone.jpg")


def test_problems_of_boxes(tmp_path: Path) -> None:
    image(tmp_path / "a.jpg")
    objects: list[Object] = [
        ("cat", (10, 10, 30, 30), 0),
        ("cat", (10, 10, 10, 10), 0),
        ("cat", (30, 10, 10, 30), 0),
        ("cat", (90, 10, 130, 30), 0),
        ("cat", (200, 10, 230, 30), 0),
        ("cat", (10, 10, 30, 30), 0),
        ("cat", (10, 10, 30), 0),
        ("cat", (10, 10, 30, "x"), 0),
        ("cat", (10, 10, 30, "nan"), 0),
        (" ", (10, 10, 30, 30), 0),
    ]
    data = read_voc(write(tmp_path / "a.xml", objects).parent)
    assert data.names == ("cat",)
    assert data.samples[0].boxes.tolist() == [[10, 10, 30, 30], [90, 10, 100, 30]]
    assert reasons(data) == {
        ("box has no area", "dropped"): 1,
        ("box is inverted", "dropped"): 1,
        ("box exceeds the image", "clipped"): 1,
        ("box is outside the image", "dropped"): 1,
        ("duplicate box of the same class", "dropped"): 1,
        ("not a box of finite numbers", "dropped"): 2,
        ("box is not finite", "dropped"): 1,
        ("unknown class", "dropped"): 1,
    }
    assert any("object 2 (cat): 10 10 10 10" in p.record for p in data.problems)


def test_images_and_annotations_folders_without_lists(tmp_path: Path) -> None:
    image(tmp_path / "images" / "a.png")
    write(tmp_path / "annotations" / "a.xml", [("cat", (1, 2, 3, 4), 0)])
    assert stems(read_voc(tmp_path)) == ["a"]


def test_unusable_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read_voc(tmp_path / "missing")
    with pytest.raises(DataError, match="no xml files"):
        read_voc(tmp_path)
    write(tmp_path / "a.xml", [("cat", (1, 2, 3, 4), 0)])
    with pytest.raises(DataError, match=r"no usable image among 0.*missing"):
        read_voc(tmp_path)
    (tmp_path / "a.xml").write_text("<annotation>")
    with pytest.raises(DataError, match=r"no objects in 1 xml files.*a\.xml.*broken xml"):
        read_voc(tmp_path)


@pytest.mark.parametrize(("split", "images", "boxes"), [("train", 205, 2804), ("val", 87, 1137), ("test", 72, 945)])
def test_the_real_blood_cells(shared: Path, split: str, images: int, boxes: int) -> None:
    data = read_voc(shared / "data" / "bccd", split)
    assert len(data) == images
    assert sum(len(s.labels) for s in data.samples) == boxes
    assert data.names == ("Platelets", "RBC", "WBC")
    flat = {"train": ["BloodImage_00343"], "val": ["BloodImage_00338"], "test": []}
    found = [Path(p.file).stem for p in data.problems if p.reason == "box has no area"]
    assert found == flat[split]
    nearly = {"train": 4, "val": 2, "test": 1}
    assert reasons(data)["near-duplicate box of the same class", "kept"] == nearly[split]
    assert len(data.problems) == len(found) + nearly[split]


@pytest.mark.parametrize(("split", "images", "boxes"), [("train", 296, 527), ("test", 67, 143)])
def test_the_real_playing_cards(shared: Path, split: str, images: int, boxes: int) -> None:
    for data in (read_voc(shared / "data" / "cards", split), read_voc(shared / "data" / "cards" / split)):
        assert len(data) == images
        assert sum(len(s.labels) for s in data.samples) == boxes
        assert data.names == ("ace", "jack", "king", "nine", "queen", "ten")
        assert data.problems == []
