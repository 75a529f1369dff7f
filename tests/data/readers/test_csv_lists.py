"""Tables of Kaggle's competitions: ids for file names, several numbers in a cell, negatives without numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from annotated_sets import content, image, reasons, write
from hypothesis import given
from hypothesis import strategies as st

from gfocal.data.discovery import detect_format, read_data
from gfocal.data.readers.csv_columns import NO_CLASSES
from gfocal.data.readers.csv_lists import ORDER_FITS, ListedImage, ListedObject, choose_order
from gfocal.data.validation import MALFORMED
from gfocal.errors import DataError

IDS = ("0a1", "0b2", "0c3")


def make(root: Path, text: str, *names: str, folder: str = "train") -> Path:
    for name in names or tuple(f"{one}.jpg" for one in IDS):
        image(root / folder / name)
    write(root / "train.csv", text)
    return root / "train.csv"


def test_wheat_heads(tmp_path: Path) -> None:
    """global-wheat-detection: image_id without suffix, bbox of x, y, width, height, no class."""
    rows = 'image_id,width,height,bbox,source\n0a1,100,80,"[30.0, 20.0, 50.5, 36.0]",usask_1\n'
    rows += '0a1,100,80,"[10, 5, 12, 12]",usask_1\n0b2,100,80,"[60.0, 1.0, 40.0, 79.0]",arvalis_1\n'
    file = make(tmp_path, rows)
    assert detect_format(tmp_path) == detect_format(file) == "csv"
    data = read_data(file)
    assert data.names == ("object",)
    assert content(data) == {
        "0a1": [("object", [30, 20, 80.5, 56], False), ("object", [10, 5, 22, 17], False)],
        "0b2": [("object", [60, 1, 100, 80], False)],
    }
    assert {ORDER_FITS, NO_CLASSES} <= set(reasons(data))


@pytest.mark.parametrize("texts", [('"[10,1,100,79]"', '"10,20,30,40"'), ("[10 1 100 79]", "(10.0 20 30 40)")])
def test_corners_in_a_cell(tmp_path: Path, texts: tuple[str, str]) -> None:
    """The bbox column of datumaro's image_csv_det assets: xyxy in brackets, with commas or spaces."""
    first, second = texts
    file = make(tmp_path, f"image_name,label_name,bbox\n0a1.jpg,dog,{first}\n0b2.jpg,cat,{second}\n")
    assert content(read_data(file)) == {
        "0a1": [("dog", [10, 1, 100, 79], False)],
        "0b2": [("cat", [10, 20, 30, 40], False)],
    }


def test_the_order_of_four_numbers_is_never_guessed(tmp_path: Path) -> None:
    text = 'image_id,label,bbox\n0a1,dog,"[10, 20, 30, 40]"\n'
    file = make(tmp_path, text)
    with pytest.raises(
        DataError,
        match=r"x, y, width, height or xmin, ymin, xmax, ymax: of 1 boxes 0 do.* 0 as.*bbox_xywh or bbox_xyxy",
    ):
        read_data(file)
    for column, box in (("bbox_xywh", [10, 20, 40, 60]), ("bbox_xyxy", [10, 20, 30, 40])):
        write(file, text.replace("bbox", column))
        assert content(read_data(file)) == {"0a1": [("dog", box, False)]}
    # Neither: one box fits as corners alone, the other one as width and height alone.
    write(file, text + '0b2,dog,"[60, 20, 90, 70]"\n0b2,dog,"[60, 20, 30, 10]"\n')
    with pytest.raises(DataError, match="of 3 boxes 1 do not fit their images as the former, and 1 as the latter"):
        read_data(file)
    # The size of the image file decides where the table does not state it.
    write(file, text + '0b2,dog,"[60, 20, 90, 70]"\n')
    assert content(read_data(file))["0b2"] == [("dog", [60, 20, 90, 70], False)]


@given(
    st.lists(st.tuples(st.integers(0, 98), st.integers(0, 78), st.integers(1, 99), st.integers(1, 79)), min_size=1),
    st.sampled_from(("xywh", "xyxy")),
)
def test_a_chosen_order_is_that_of_the_boxes(boxes: list[tuple[int, int, int, int]], order: str) -> None:
    """Boxes inside their images are read in their own order, or refused."""
    inside = [(x, y, min(x + w, 100), min(y + h, 80)) for x, y, w, h in boxes]
    given = [(a, b, c - a, d - b) if order == "xywh" else (a, b, c, d) for a, b, c, d in inside]
    images = [ListedImage("a", (80, 100), [ListedObject(box)]) for box in given]
    try:
        chosen = choose_order(images, lambda name: None, "t.csv")
    except DataError:
        return
    assert chosen == (order, True)


def test_starfish_in_frames_of_videos(tmp_path: Path) -> None:
    """tensorflow-great-barrier-reef: a list of Python's dicts for each frame; frames are named by two columns."""
    text = (
        "video_id,sequence,video_frame,sequence_frame,image_id,annotations\n"
        "0,1,16,0,0-16,\"[{'x': 55, 'y': 21, 'width': 30, 'height': 32}, "
        "{'x': 1, 'y': 2, 'width': 3, 'height': 4}]\"\n"
        "1,1,16,0,1-16,[]\n"
    )
    for video in (0, 1):
        image(tmp_path / "train_images" / f"video_{video}" / "16.jpg", 100 + video)
    write(tmp_path / "train.csv", text)
    data = read_data(tmp_path / "train.csv")
    assert [(sample.size, sample.boxes.tolist()) for sample in data.samples] == [
        ((80, 100), [[55, 21, 85, 53], [1, 2, 4, 6]]),
        ((80, 101), []),
    ]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ('[{""xmin"": 1, ""ymin"": 2, ""xmax"": 30, ""ymax"": 40, ""class"": ""cat""}]', ["cat", [1, 2, 30, 40]]),
        ('[{""bbox"": [60, 2, 30, 40], ""label"": ""cat""}]', ["cat", [60, 2, 90, 42]]),
        ("[[60, 2, 30, 40]]", ["object", [60, 2, 90, 42]]),
        ("[60.0, 2, 30, 40]", ["object", [60, 2, 90, 42]]),
    ],
)
def test_lists_of_objects(tmp_path: Path, cell: str, expected: list[object]) -> None:
    data = read_data(make(tmp_path, f'image_id,annotations\n0a1,"{cell}"\n0b2,[]\n0c3,\n'))
    assert content(data) == {"0a1": [(*expected, False)], "0b2": [], "0c3": []}


@pytest.mark.parametrize(
    "cell", ["[{'x': 1}]", "[__import__('os')]", "[" * 5000, "dog", "[None]", "{'x': 1,", "[{'x': 'a'}]"]
)
def test_a_list_that_cannot_be_read_is_no_background(tmp_path: Path, cell: str) -> None:
    good = "[{'x': 1, 'y': 2, 'width': 3, 'height': 4}]"
    data = read_data(make(tmp_path, f'image_id,annotations\n0a1,"{good}"\n0b2,"{cell}"\n'))
    assert reasons(data)[MALFORMED] == 1
    assert data.untrained == {sample.image_id for sample in data.samples if sample.path and sample.path.stem == "0b2"}


def test_prediction_strings_with_classes(tmp_path: Path) -> None:
    """siim-covid19-detection and vinbigdata: class confidence xmin ymin xmax ymax; none 1 0 0 1 1 is no object."""
    text = "image_id,PredictionString\n0a1,opacity 1 10.5 20 50 60 opacity 1 60 20 90 60\n0b2,none 1 0 0 1 1\n0c3,\n"
    data = read_data(make(tmp_path, text))
    boxes = [("opacity", [10.5, 20, 50, 60], False), ("opacity", [60, 20, 90, 60], False)]
    assert content(data) == {"0a1": boxes, "0b2": [], "0c3": []}
    # In siim's own table the column is called label, beside one of boxes without classes.
    boxes_column = "\"[{'x': 10.5, 'y': 20, 'width': 39.5, 'height': 40}]\""
    write(
        tmp_path / "train.csv",
        f"id,image,boxes,label\n1,0a1,{boxes_column},opacity 1 10.5 20 50 60\n2,0b2,,none 1 0 0 1 1\n",
    )
    assert content(read_data(tmp_path / "train.csv")) == {"0a1": boxes[:1], "0b2": []}


def test_prediction_strings_without_classes(tmp_path: Path) -> None:
    """global-wheat and rsna submissions: confidence x y width height."""
    data = read_data(make(tmp_path, "image_id,PredictionString\n0a1,1.0 10 20 50 60 0.5 60 20 40 60\n0b2,\n"))
    assert content(data) == {
        "0a1": [("object", [10, 20, 60, 80], False), ("object", [60, 20, 100, 80], False)],
        "0b2": [],
    }
    bad = make(tmp_path, "image_id,PredictionString\n0a1,1.0 10 20 50\n0b2,1.0 10 20 50 60\n")
    assert reasons(read_data(bad))[MALFORMED] == 1


def test_negatives_without_numbers(tmp_path: Path) -> None:
    """rsna-pneumonia (patientId, Target) and vinbigdata (No finding): rows without a box."""
    text = "patientId,x,y,width,height,Target\n0a1,,,,,0\n0b2,26.0,15.0,21.0,37.0,1\n0c3,NaN,NaN,NaN,NaN,0\n"
    data = read_data(make(tmp_path, text))
    assert content(data) == {"0a1": [], "0b2": [("object", [26, 15, 47, 52], False)], "0c3": []}
    text = (
        "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n"
        "0a1,No finding,14,R11,,,,\n0b2,Cardiomegaly,3,R10,10,20,50,60\n0c3,Cardiomegaly,3,R9,,,,\n"
    )
    data = read_data(make(tmp_path, text))
    assert data.names == ("Cardiomegaly",)
    assert content(data)["0a1"] == []
    # An object without a box is no negative.
    assert data.untrained == {sample.image_id for sample in data.samples if sample.path and sample.path.stem == "0c3"}
    assert data.untrained


def test_corners_with_sides(tmp_path: Path) -> None:
    """x1, y1, w, h of datumaro's image_csv_det assets."""
    file = make(tmp_path, "image_name,label_name,x1,y1,w,h\n0a1.jpg,dog,10,20,30,40\n")
    assert content(read_data(file)) == {"0a1": [("dog", [10, 20, 40, 60], False)]}


@pytest.mark.parametrize("cell", ["9" * 5000 + "x", "1 " * 5000 + "x", "[" * 5000 + "1", "1e" * 5000, "." * 9000])
def test_a_long_cell_takes_no_longer(tmp_path: Path, cell: str) -> None:
    """Cells for which a pattern with nested repeats would not end."""
    data = read_data(make(tmp_path, f'image_id,label,bbox\n0a1,dog,"[60, 20, 30, 40]"\n0b2,dog,"{cell}"\n'))
    assert reasons(data)[MALFORMED] == 1
