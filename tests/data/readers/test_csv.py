"""Tables of boxes: the columns that tools and people write, every bad row, splits, and the real one."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gfocal.data.dataset import FileData
from gfocal.data.discovery import detect_format, list_splits, read_data
from gfocal.data.locate import SAME_IMAGE
from gfocal.data.readers.csv import CELLS, FRACTIONS, IDS, NO_FILE, NO_SPLIT, csv_splits, is_csv, read_csv
from gfocal.data.readers.csv_columns import SPELLINGS
from gfocal.data.validation import DUPLICATE, MALFORMED, MISSING, NO_AREA, NO_ROW, SIZE_DIFFERS, UNKNOWN_CLASS
from gfocal.errors import DataError

HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax\n"


def image(path: Path, width: int = 100, height: int = 80) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height)).save(path)
    return path


def table(file: Path, text: str, *images: str, encoding: str = "utf-8") -> Path:
    """A table, with images beside it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode(encoding))
    for name in images:
        image(file.parent / name)
    return file


def content(data: FileData) -> list[tuple[str, list[list[float]], list[str], list[bool]]]:
    """Name, boxes, classes and flags of every image."""
    return [
        (s.path.name, s.boxes.tolist(), [data.names[i] for i in s.labels.tolist()], s.crowd.tolist())
        for s in data.samples
        if s.path is not None
    ]


def reasons(data: FileData) -> Counter[str]:
    return Counter(problem.reason for problem in data.problems)


TWO = [
    ("a.png", [[1, 2, 30, 40], [5, 6, 7.5, 8]], ["dog", "cat"], [False, False]),
    ("b.png", [], [], []),
]


@pytest.mark.parametrize(
    "text",
    [
        # TensorFlow's, with a row for background.
        HEADER + "a.png,100,80,dog,1,2,30,40\na.png,100,80,cat,5,6,7.5,8\nb.png,100,80,,,,,\n",
        # RetinaNet's, without a header.
        "a.png,1,2,30,40,dog\na.png,5,6,7.5,8,cat\nb.png,,,,,\n",
        "\ufeffa.png,1,2,30,40,dog\na.png,5,6,7.5,8,cat\nb.png,,,,,\n",
        # TensorFlow's without its header.
        "b.png,100,80,,,,,\na.png,100,80,dog,1,2,30,40\na.png,100,80,cat,5,6,7.5,8\n",
        # Other names, in another order, with columns that say nothing here.
        "Label Name,X_Max,Y_Max,note,X_Min,Y_Min,Image Path\n"
        "dog,30,40,!,1,2,a.png\ncat,7.5,8,,5,6,a.png\n,,,,,,b.png\n",
        "image,class_name,left,top,right,bottom\na.png,dog,1,2,30,40\na.png,cat,5,6,7.5,8\nb.png,,,,,\n",
        # Width and height instead of the far corner, beside those of the image and without them.
        "image_name,image_width,image_height,label_name,bbox_x,bbox_y,bbox_width,bbox_height\n"
        "a.png,100,80,dog,1,2,29,38\na.png,100,80,cat,5,6,2.5,2\nb.png,100,80,,,,,\n",
        "file,label,x,y,width,height\na.png,dog,1,2,29,38\na.png,cat,5,6,2.5,2\nb.png,,,,,\n",
        # Quotes, spaces, empty lines, cells too many that are empty, the header once more.
        '"filename", "class" ,xmin,ymin,xmax,ymax\n\n"a.png", " dog",1, 2,30,40,,\n'
        "filename,class,xmin,ymin,xmax,ymax\na.png,cat,5,6,7.5,8\n\nb.png,,,,,\n",
        # What spreadsheets save.
        "\ufefffilename;class;xmin;ymin;xmax;ymax\r\na.png;dog;1;2;30;40\r\na.png;cat;5;6;7,5;8,0\r\nb.png;;;;;\r\n",
        "filename\tclass\txmin\tymin\txmax\tymax\na.png\tdog\t1\t2\t30\t40\na.png\tcat\t5\t6\t7.5\t8\nb.png\t\t\t\t\t",
    ],
)
def test_tables_of_tools_and_people(tmp_path: Path, text: str) -> None:
    if text.startswith('"filename", "class" '):
        text = text.replace('"class" ', '"class"')
    for encoding in ("utf-8", "utf-16"):
        data = read_csv(table(tmp_path / "my.csv", text, "a.png", "b.png", encoding=encoding))
        assert content(data) == TWO
        assert (data.names, data.category_ids, data.problems) == (("cat", "dog"), (1, 2), [])
        assert [sample.image_id for sample in data.samples] == [1, 2]
        assert all(sample.areas is None for sample in data.samples)
    assert is_csv(tmp_path)
    assert detect_format(tmp_path) == detect_format(tmp_path / "my.csv") == "csv"
    assert content(read_data(tmp_path)) == TWO


def test_every_header_name_belongs_to_one_column() -> None:
    words = [word for spellings in SPELLINGS.values() for word in spellings]
    assert len(words) == len(set(words))
    assert all(word.isalnum() and word == word.lower() for word in words)


def test_further_columns(tmp_path: Path) -> None:
    text = (
        "filename,class,xmin,ymin,xmax,ymax,crowd,difficult,ignore,area,image_id\n"
        "b.png,cat,1,2,30,40,,,,12.5,7\n"
        "b.png,cat,2,2,30,40,1,0,0,0,7\n"
        "b.png,cat,3,2,30,40,0,True,no,nan,7\n"
        "a.png,cat,4,2,30,40,,,yes,inf,9.0\n"
        "a.png,cat,5,2,30,40,0,false,0.0,-3,9\n"
    )
    data = read_csv(table(tmp_path / "t.csv", text, "a.png", "b.png"))
    assert [problem for problem in data.problems if "marked as crowd" not in problem.record] == []
    assert [s.image_id for s in data.samples] == [7, 9]
    assert [s.crowd.tolist() for s in data.samples] == [[False, True, True], [True, False]]
    areas = data.samples[0].areas
    assert areas is not None
    assert areas.dtype == torch.float64
    assert [a if math.isfinite(a) else None for a in areas.tolist()] == [12.5, None, None]
    assert data.samples[1].areas is None


@pytest.mark.parametrize("ids", ["7,7", "x,8", ",8", "7,1e30", "7.5,8"])
def test_invalid_image_ids_are_replaced(tmp_path: Path, ids: str) -> None:
    first, second = ids.split(",")
    text = f"filename,class,xmin,ymin,xmax,ymax,image_id\nb.png,cat,1,2,3,4,{first}\na.png,cat,1,2,3,4,{second}\n"
    data = read_csv(table(tmp_path / "t.csv", text, "a.png", "b.png"))
    assert [(s.image_id, s.path.name) for s in data.samples if s.path] == [(1, "a.png"), (2, "b.png")]
    assert reasons(data) == {IDS: 1}
    mixed = text.replace("b.png,cat,1,2,3,4", "a.png,cat,5,6,7,8")
    data = read_csv(table(tmp_path / "t.csv", mixed))
    assert [s.image_id for s in data.samples] == [7 if first == second else 1]
    assert reasons(data) == Counter({IDS: int(first != second), NO_ROW: 1})


def test_every_bad_row_is_reported_and_the_rest_is_read(tmp_path: Path) -> None:
    text = HEADER + (
        "a.png,100,80,dog,1,2,30,40\n"
        "a.png,100,80,dog,1,2,30\n"  # 3
        "a.png,100,80,dog,1,2,30,40,50\n"
        ",100,80,dog,1,2,30,40\n"
        "a.png,100,80,,1,2,30,40\n"
        "a.png,100,80,dog,,,,\n"
        "a.png,100,80,dog,1,2,30,x\n"  # 8
        "a.png,100,80,dog,5,6,5,40\n"
        "a.png,100,80,dog,1,2,30,40\n"
        "../../a.png,100,80,dog,1,2,30,40\n"  # 11
        "/etc/a.png,100,80,dog,1,2,30,40\n"
        "../../a.png,100,80,dog,3,4,30,40\n"
        "gone.png,100,80,dog,1,2,30,40\n"
        "b.png,80,100,cat,1,2,30,40\n"
        "a.png,100,80,dog,nan,2,30,40\n"
        "./a.png,100,80,cat,60,2,90,40\n"
    )
    data = read_csv(table(tmp_path / "in" / "t.csv", text, "a.png", "b.png", "forgotten.png", ".hidden.png"))
    assert content(data) == [
        ("a.png", [[1, 2, 30, 40], [60, 2, 90, 40]], ["dog", "cat"], [False, False]),
        ("b.png", [[1, 2, 30, 40]], ["cat"], [False]),
    ]
    assert reasons(data) == {
        CELLS: 2,
        NO_FILE: 1,
        UNKNOWN_CLASS: 1,
        MALFORMED: 2,
        NO_AREA: 1,
        DUPLICATE: 1,
        SAME_IMAGE: 2,
        MISSING: 1,
        SIZE_DIFFERS: 1,
        "box is not finite": 1,
        NO_ROW: 1,
    }
    told = {problem.record.split(":")[0]: problem.reason for problem in data.problems}
    assert told["line 3"] == CELLS
    assert told["line 8"] == MALFORMED
    assert told["line 11"] == SAME_IMAGE
    assert all(problem.file.endswith(("t.csv", "forgotten.png")) for problem in data.problems)


def test_fractions_are_distinguished_from_pixels(tmp_path: Path) -> None:
    text = "filename,class,xmin,ymin,xmax,ymax\na.png,dog,0,0.25,0.5,1\na.png,dog,0.1,0.25,1.0,1\n"
    data = read_csv(table(tmp_path / "t.csv", text, "a.png"))
    assert data.samples[0].boxes.tolist() == [[0, 20, 50, 80], [10, 20, 100, 80]]
    assert reasons(data) == {FRACTIONS: 1}
    for pixels in (text.replace("0.5,1", "1.5,1"), text.replace("0.25", "0").replace("0.5", "1").replace("0.1", "0")):
        assert FRACTIONS not in reasons(read_csv(table(tmp_path / "t.csv", pixels)))


def test_splits_of_a_column(tmp_path: Path) -> None:
    text = (
        "filename,class,xmin,ymin,xmax,ymax,split\n"
        "a.png,dog,1,2,30,40,TRAIN\nb.png,cat,1,2,30,40,valid\nc.png,cat,1,2,30,40,train\n"
        "d.png,ant,1,2,30,40,extra\nb.png,dog,1,2,30,40,\n"
    )
    file = table(tmp_path / "all.csv", text, *(f"{name}.png" for name in "abcde"))
    for path in (file, tmp_path):
        assert list_splits(path) == ["train", "val", "extra"]
        data = {split: read_data(path, split) for split in ("train", "val", "validation", "extra")}
        assert {name: [row[0] for row in content(one)] for name, one in data.items()} == {
            "train": ["a.png", "c.png"],
            "val": ["b.png"],
            "validation": ["b.png"],
            "extra": ["d.png"],
        }
        assert {one.names for one in data.values()} == {("ant", "cat", "dog")}
        # An image without a row is told, one of another split is not; nor is a row of another split.
        assert reasons(data["train"]) == {NO_ROW: 1, NO_SPLIT: 1}
        with pytest.raises(DataError, match="no split 'test'; there are: train, val, extra"):
            read_data(path, "test")
        with pytest.raises(DataError, match="several splits, choose one"):
            read_data(path)


def make_in_one_folder(root: Path) -> None:
    table(root / "train_labels.csv", HEADER + "a.png,100,80,dog,1,2,30,40\n")
    table(root / "val_labels.csv", HEADER + "b.png,100,80,cat,1,2,30,40\n")
    table(root / "scores.csv", "epoch,loss\n1,2\n")
    image(root / "images" / "a.png")
    image(root / "images" / "b.png")


def make_in_split_folders(root: Path) -> None:
    table(root / "train" / "_annotations.csv", HEADER + "a.png,100,80,dog,1,2,30,40\n", "a.png")
    table(root / "valid" / "_annotations.csv", HEADER + "b.png,100,80,cat,1,2,30,40\n", "b.png")


def make_in_annotations(root: Path) -> None:
    table(root / "annotations" / "train.csv", "train/a.png,1,2,30,40,dog\n")
    table(root / "annotations" / "val.csv", "val/b.png,1,2,30,40,cat\n")
    image(root / "images" / "train" / "a.png")
    image(root / "images" / "val" / "b.png")


@pytest.mark.parametrize("make", [make_in_one_folder, make_in_split_folders, make_in_annotations])
def test_splits_of_files_and_folders_have_the_same_classes(tmp_path: Path, make: object) -> None:
    assert callable(make)
    make(tmp_path)
    assert (detect_format(tmp_path), list_splits(tmp_path)) == ("csv", ["train", "val"])
    train, val = read_data(tmp_path, "train"), read_data(tmp_path, "valid")
    assert (train.names, train.problems) == (val.names, val.problems) == (("cat", "dog"), [])
    assert content(train) == [("a.png", [[1, 2, 30, 40]], ["dog"], [False])]
    assert content(val) == [("b.png", [[1, 2, 30, 40]], ["cat"], [False])]
    # One file alone knows of its neighbors, and its split.
    for file in sorted(tmp_path.rglob("*.csv")):
        if file.stem != "scores":
            assert csv_splits(file) == []
            assert read_data(file).names == ("cat", "dog")
    file = next(f for f in tmp_path.rglob("*.csv") if "val" in f.stem or f.parent.name == "valid")
    assert len(read_data(file, "validation")) == 1
    if "val" in file.stem:
        with pytest.raises(DataError, match="this file is of split 'val', not 'train'; give its folder"):
            read_data(file, "train")


def test_a_folder_of_one_table_without_a_split(tmp_path: Path) -> None:
    table(tmp_path / "labels.csv", "a.png,1,2,30,40,dog\n", "a.png")
    assert list_splits(tmp_path) == ["labels"]
    assert len(read_data(tmp_path)) == len(read_data(tmp_path, "labels")) == 1
    assert list_splits(tmp_path / "labels.csv") == []


def test_classes(tmp_path: Path) -> None:
    rows = "".join(f"a.png,{i},2,{i + 20},40,{name}\n" for i, name in enumerate(("10", "9", "x", "2")))
    file = table(tmp_path / "t.csv", "filename,xmin,ymin,xmax,ymax,class\n" + rows, "a.png")
    assert read_csv(file).names == ("2", "9", "10", "x")
    table(tmp_path / "classes.csv", "x,0\nnever seen,1\n9,2\n")
    data = read_csv(file)
    assert data.names == ("x", "never seen", "9", "2", "10")
    assert data.samples[0].labels.tolist() == [4, 2, 0, 3]
    wanted = ["9", "more", "10", "x", "2", "never seen"]
    named = read_csv(file, names=wanted)
    assert (named.names, named.category_ids) == (tuple(wanted), (1, 2, 3, 4, 5, 6))
    assert named.samples[0].labels.tolist() == [2, 0, 3, 4]
    (tmp_path / "classes.csv").write_text("name,number\nx\n")  # no such list
    assert read_csv(file).names == ("2", "9", "10", "x")
    with pytest.raises(DataError, match=r"not expected: \['2', '9', 'x'\]"):
        read_csv(file, names=["10"])


def test_ids_and_order_are_those_of_the_sidecar(tmp_path: Path) -> None:
    table(tmp_path / "t.csv", "a.png,1,2,30,40,dog\na.png,2,2,30,40,cat\n", "a.png")
    (tmp_path / "gfocal.json").write_text('{"names": ["dog", "none", "cat"], "category_ids": [7, 5, 90]}')
    data = read_csv(tmp_path)
    assert (data.names, data.category_ids) == (("dog", "none", "cat"), (7, 5, 90))
    assert data.samples[0].labels.tolist() == [0, 2]
    assert read_csv(tmp_path, names=["cat", "dog", "none"]).category_ids == (90, 7, 5)
    assert read_csv(tmp_path, names=["cat", "owl", "dog", "none"]).category_ids == (90, 1, 7, 5)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty table"),
        ("\n  \n,,\n", "empty table"),
        ("a.png,1,2,3\n", r"its first line \(a.png, 1, 2, 3\) has no file and no class and no xmin"),
        ("filename,xmin,ymin,xmax,ymax\na.png,1,2,3,4\n", "has no class; write a header such as filename,class"),
        ("filename,class,x,y\na.png,dog,1,2\n", "has no xmin, ymin, xmax, ymax"),
        ("filename,class,xmin,ymin,xmax,ymax\n", "no row has a class and a box"),
        ("filename,class,xmin,ymin,xmax,ymax\na.png,,,,,\n", "no row has a class and a box"),
        ("filename,class,xmin,ymin,xmax,ymax\ngone.png,dog,1,2,3,4\n", "images not found"),
        ('filename,class,xmin,ymin,xmax,ymax\n"' + "x" * 200_000, "broken csv: field larger than"),
        (HEADER + "../b.png,100,80,dog,1,2,30,40\n", "images not found"),
    ],
)
def test_files_without_boxes_are_refused(tmp_path: Path, text: str, told: str) -> None:
    file = table(tmp_path / "in" / "t.csv", text, "a.png")
    with pytest.raises(DataError, match=told) as caught:
        read_csv(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_paths(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        read_csv(tmp_path / "gone.csv")
    with pytest.raises(DataError, match=r"no \.csv file with columns"):
        read_csv(tmp_path)
    assert csv_splits(tmp_path) == []
    assert not is_csv(tmp_path)


def test_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = table(tmp_path / "t.csv", "a.png,1,2,30,40,dog\nb.png,1,2,30,40,dog\n", "a.png")
    image(tmp_path / "b.png", 300, 300)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    data = read_csv(file)
    assert [row[0] for row in content(data)] == ["a.png"]
    assert "pixels" in data.problems[0].record


cells = st.one_of(
    st.sampled_from(["a.png", "../x", "", "dog", "1", "30", "nan", "0.5", '"', "1e400"]), st.text(max_size=4)
)


@given(
    rows=st.lists(st.lists(cells, max_size=9), max_size=12), header=st.booleans(), separator=st.sampled_from(",;\t")
)
def test_any_table_gives_data_or_a_data_error(
    rows: list[list[str]], header: bool, separator: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "law of tables"
    text = (HEADER.replace(",", separator) if header else "") + "\n".join(separator.join(row) for row in rows)
    file = table(folder / "t.csv", text.encode("utf-8", "replace").decode(), "a.png")
    try:
        data = read_csv(file)
    except DataError:
        return
    for sample in data.samples:
        assert sample.path == folder / "a.png"
        assert torch.isfinite(sample.boxes).all()
        assert (sample.labels < len(data.names)).all()


def test_real_tables_agree_with_the_xml(shared: Path) -> None:
    root = shared / "data" / "cards"
    for split, images, objects in (("train", 296, 527), ("test", 67, 143)):
        xml, csv = read_data(root, split), read_csv(root, split)
        assert (csv.names, csv.problems, len(csv), len(csv.table.boxes)) == (xml.names, [], images, objects)
        wanted = {
            s.path.name: sorted(zip(s.boxes.tolist(), s.labels.tolist(), strict=True)) for s in xml.samples if s.path
        }
        found = {
            s.path.name: sorted(zip(s.boxes.tolist(), s.labels.tolist(), strict=True)) for s in csv.samples if s.path
        }
        assert found == wanted
        alone = read_data(root / f"{split}_labels.csv")
        assert (alone.names, alone.table.boxes.tolist()) == (csv.names, csv.table.boxes.tolist())
