"""What a reader could misunderstand is said: xml, tables and lines of text; see ``test_nothing_silent``."""

from __future__ import annotations

from pathlib import Path

from silent_sets import (
    BOTH,
    CSV,
    CSV_LISTS,
    CSV_SIDES,
    CVAT,
    CVAT_VIDEO,
    DARKNET,
    HULL,
    KITTI,
    LABEL_STUDIO_YOLO,
    MOT,
    OPENIMAGES,
    OUT,
    SECOND,
    UNNAMED,
    VISDRONE,
    VOC,
    WIDERFACE,
    YOLO,
    Change,
    ValidSet,
    assert_said,
    each_change,
)

BOX = '<box label="cat" occluded="0" xtl="10" ytl="10" xbr="30" ybr="40"></box>'  # of CVAT
BNDBOX = "<bndbox><xmin>10</xmin><ymin>10</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"  # of VOC
LINE = "0 0.2 0.3125 0.2 0.375"

CASES = {
    "cvat": (
        CVAT,
        [
            Change('xtl="10" ', "", "shape 1: box 'cat': image has an object whose box"),
            Change('xtl="10"', 'xtl="?"', "shape 1: box 'cat': image has an object whose box"),
            Change('xtl="10"', 'xtl="50"', "shape 1: box 'cat': 50 10 30 40: box is inverted", SECOND),
            Change('xtl="10"', 'rotation="15" xtl="10"', "1 boxes: rotated box", HULL),
            Change('xtl="10"', 'rotation="left" xtl="10"', "shape 1: box 'cat': image has an object whose box"),
            Change(BOX, '<sphere label="cat"/>', "<sphere>: image has a shape of an unknown kind"),
            Change(BOX, '<points label="cat"/>', "points 'cat': image has objects without a box"),
            Change(BOX, '<polygon label="cat" points="10,10;30;20,40"/>', "polygon 'cat': image has an object"),
            Change(BOX, '<polygon label="cat" points="10,10,1;30,40,1"/>', "polygon 'cat': image has an object"),
            Change(
                BOX,
                '<mask label="cat" rle="5,900" left="0" top="0" width="10" height="8"/>',
                "mask 'cat': image has an object",
            ),
            Change(
                'ybr="40"></box>',
                'ybr="40"><attribute name="ignored">maybe</attribute></box>',
                "ignored 'maybe': flag that",
                BOTH,
            ),
            Change('label="cat" ', "", "box '': object without a class", UNNAMED),
            Change('width="100"', 'width="120"', "a.png: stated 120x80, file 100x80", BOTH),
            Change('name="b.png"', 'name="a.png"', "a.png: image is listed twice", BOTH),
            Change('name="b.png" ', "", "image 2, no name: record of an image without", BOTH),
            Change(
                "</image>\n<image",
                '</image><image id="5" name="c.png"/>\n<image',
                "1 images: images without objects",
                BOTH,
            ),
            Change("<annotations>", '<!DOCTYPE a [<!ENTITY x "y">]><annotations>', "EntitiesForbidden"),
        ],
    ),
    "cvat-video": (
        CVAT_VIDEO,
        [
            Change('frame="0" outside="0"', 'frame="0" outside="perhaps"', "track 0: outside 'perhaps'"),
            Change('frame="0" outside="0"', 'frame="0" outside="true"', "", SECOND),
            Change('frame="0" ', "", "track '0': a shape without a frame number"),
            Change(
                '<box frame="1" outside="1"',
                '<box frame="2" outside="1"',
                "track 1: frames 0 and 2: frame is between",
                BOTH,
            ),
            Change('xtl="10" ', "", "box 'cat': image has an object whose box"),
        ],
    ),
    "voc": (
        VOC,
        [
            Change("<xmin>10</xmin>", "", "object 1 (cat): not a box of finite numbers", SECOND),
            Change("<xmin>10</xmin>", "<xmin>?</xmin>", "object 1 (cat): not a box of finite numbers", SECOND),
            Change("<xmin>10</xmin>", "<xmin>50</xmin>", "object 1 (cat): 50 10 30 40: box is inverted", SECOND),
            Change("<xmin>10</xmin>", "<xmin>nan</xmin>", "object 1 (cat): nan 10 30 40: box is not finite", SECOND),
            Change("<bndbox>", "<point>", "broken xml"),
            Change("<name>cat</name>", "", "object 1 (no name): unknown class", SECOND),
            Change("<difficult>0", "<difficult>maybe", "object 1 (cat): difficult 'maybe': flag that", BOTH),
            Change("<difficult>0", "<difficult>2", "object 1 (cat): difficult '2': flag that", BOTH),
            Change(
                "</bndbox>", "</bndbox><bndbox><xmin>1</xmin></bndbox>", "object 1 (cat): object with several", BOTH
            ),
            Change(
                "</bndbox>",
                "</bndbox><attributes><attribute><name>rotation</name><value>15</value></attribute></attributes>",
                "object 1 (cat): rotated box",
                HULL,
            ),
            Change(
                "</bndbox>",
                "</bndbox><attributes><attribute><name>rotation</name><value>left</value></attribute></attributes>",
                "object 1 (cat): rotation that is not a number",
                BOTH,
            ),
            Change(BNDBOX, "<robndbox><cx>20</cx></robndbox>", "object 1 (cat): not a box", SECOND),
            Change(BNDBOX, "<polygon><x1>1</x1><y1>1</y1><x2>5</x2></polygon>", "object 1 (cat)", SECOND),
            Change(
                "<object><name>cat", "<objects><object><name>cat</name></object></objects><item><name>cat", "a.xml"
            ),
            Change("<width>100", "<width>120", "a.png: stated 120x80, file 100x80", BOTH),
            Change("<annotation>", "<annotations>", "broken xml"),
        ],
    ),
    "yolo": (
        YOLO,
        [
            Change(LINE, "0 0.2 0.3125 0.2", "line 1: 0 0.2 0.3125 0.2: neither a box nor a polygon", SECOND),
            Change(LINE, "0.2 0.3125 0.2 0.375", "line 1: 0.2 0.3125 0.2 0.375: unknown class", SECOND),
            Change(LINE, f"{LINE} 7.5", "line 1: 0 0.2 0.3125 0.2 0.375 7.5: neither a box", SECOND),
            Change("1 0.5", "\n1 0.5", "", BOTH),
            Change(LINE, f"{LINE} 0.9", "1 line: sixth column", BOTH),
            Change(LINE, f"{LINE} 0.9 0.1 0.2", "line 1: 0 0.2 0.3125 0.2 0.375 0.9 0.1 0.2: neither a box", SECOND),
            Change(
                LINE,
                "0 0.1 0.125 0.3 0.125 0.3 0.5 0.1 0.5",
                "1 line, first /labels/train/a.txt, line 1: object drawn",
                BOTH,
            ),
            Change(LINE, "5 0.2 0.3125 0.2 0.375", "line 1: 5 0.2 0.3125 0.2 0.375: unknown class", SECOND),
            Change(
                LINE, "0,0.2,0.3125,0.2,0.375", "line 1: 0,0.2,0.3125,0.2,0.375: line is not only numbers", SECOND
            ),
            Change(LINE, "cat 0.2 0.3125 0.2 0.375", "line 1: cat 0.2 0.3125 0.2 0.375: line is not only", SECOND),
            Change(LINE, "0 20 25 20 30", "box is not in fractions of the image", SECOND),
            Change(LINE, "0 0.2 0.3125 -0.2 0.375", "line 1: 30 10 10 40: box is inverted", SECOND),
            Change(LINE, "0 0.2 nan 0.2 0.375", "line 1: 10 nan 30 nan: box is not finite", SECOND),
            Change("[cat, dog]", "[cat, cat]", "2 classes are named 'cat'", BOTH, "data.yaml"),
            Change("[cat, dog]", "{0: cat, 1: dog, 01: owl}", "each index once", OUT, "data.yaml"),
            Change("names", "nc: 3\nnames", "nc 3, 2 names", BOTH, "data.yaml"),
            Change("names", "kpt_shape: [2, 3]\nnames", "", BOTH, "data.yaml"),
        ],
    ),
    "darknet": (
        DARKNET,
        [
            Change(LINE, "0 0.2 0.3125 0.2", "line 1: 0 0.2 0.3125 0.2: image has objects that could not be read"),
            Change(LINE, f"{LINE} 0.9", "line 1: 0 0.2 0.3125 0.2 0.375 0.9: image has objects that could not"),
            Change(LINE, "5 0.2 0.3125 0.2 0.375", "line 1: 5 0.2 0.3125 0.2 0.375: image has objects that could"),
            Change(LINE, "0 20 25 20 30", "box is not in fractions of the image", SECOND),
            Change("cat\ndog", "cat\ncat", "'cat', 2 times: class name occurs twice", BOTH, "obj.names"),
            Change("classes = 2", "classes = 3", "classes = 3: classes is not the number of names", BOTH, "obj.data"),
            Change("b.png", "c.png", "c.png, no label file: image was not annotated", BOTH, "train.txt"),
            Change("b.png", "a.png", "a.png: image is listed twice", BOTH, "train.txt"),
        ],
    ),
    "labelstudio-yolo": (
        LABEL_STUDIO_YOLO,
        [
            Change(LINE, "0 0.2 0.3125 0.2", "line 1: 0 0.2 0.3125 0.2: image has objects that could not be read"),
            Change(LINE, f"{LINE} 0.9", "line 1: 0 0.2 0.3125 0.2 0.375 0.9: image has objects that could not"),
            Change(LINE, "0 0.1 0.125 0.3 0.125 0.3 0.5 0.1 0.5", "1 polygons: object drawn as an outline", BOTH),
            Change(LINE, f"{LINE} 0.2 0.3 2", "1 lines: lines of a box and keypoints", BOTH),
            Change(LINE, "5 0.2 0.3125 0.2 0.375", "line 1: 5 0.2 0.3125 0.2 0.375: image has objects that could"),
            Change('"name": "dog"', '"name": "cat"', "'cat', 2 times: class name occurs twice", BOTH, "notes.json"),
            Change(
                "cat\ndog", "dog\ncat", "classes.txt: dog, cat: classes.txt has another order", BOTH, "classes.txt"
            ),
        ],
    ),
    "csv": (
        CSV,
        [
            Change("10,10,30,40,0", "10,10,30,40", "line 2: a.png,100,80,cat,10,10,30,40: row with too few", SECOND),
            Change("10,10,30,40,0", "10,10,30,40,0,7", "line 2: a.png,100,80,cat,10,10,30,40,0,7: row with", SECOND),
            Change("10,10,30,40", ",10,30,40", "line 2: a.png,100,80,cat,,10,30,40,0: not a box", SECOND),
            Change("10,10,30,40", "?,10,30,40", "line 2: a.png,100,80,cat,?,10,30,40,0: not a box", SECOND),
            Change("10,10,30,40", "50,10,30,40", "line 2: 50 10 30 40: box is inverted", SECOND),
            Change("cat,10,10", ",10,10", "line 2: a.png,100,80,,10,10,30,40,0: unknown class", SECOND),
            Change("10,10,30,40,0", "10,10,30,40,maybe", "line 2: difficult 'maybe': flag that", BOTH),
            Change("10,10,30,40,0", "10,10,30,40,2", "line 2: difficult '2': flag that", BOTH),
            Change("a.png,100", "a.png,120", "a.png: stated 120x80, file 100x80", BOTH),
            Change("b.png", "a.png", "b.png", [*BOTH, [5.0, 5.0, 25.0, 25.0]]),
            Change("b.png", "", "row without a file name", BOTH),
            Change("xmax", "right2", "no annotated images found"),
        ],
    ),
    "csv-sides": (
        CSV_SIDES,
        [
            Change("10,10,20,30,0", "10,10,20,30,15", "column 'angle': 1 row, first line 2: column of angles", BOTH),
            Change("10,10,20,30", "10,10,-20,30", "line 2: 10 10 -10 40: box is inverted", SECOND),
        ],
    ),
    "csv-lists": (
        CSV_LISTS,
        [
            Change("[10, 10, 20, 30]", "[10, 10, 20]", "line 2", SECOND),
            Change("[10, 10, 20, 30]", "[10, 10, 20, 30, 5]", "line 2", SECOND),
            Change("[10, 10, 20, 30]", "10 10 20 x", "line 2", SECOND),
            Change("[10, 10, 20, 30]", "[10, 10, -20, 30]", "line 2: 10 10 -10 40: box is inverted", SECOND),
            Change("a,cat", "c,cat", "c", SECOND),
        ],
    ),
    "kitti": (
        KITTI,
        [
            Change(
                "Car 0.00 0 0.00 10 10 30 40 1 1 1 0 0 0 0",
                "Car 0.00 0 0.00 10 10 30",
                "line 1: Car 0.00 0 0.00 10 10 30: not a box",
                OUT,
            ),
            Change(
                "Car 0.00", "Police car 0.00", "line 1: Police car 0.00 0 0.00 10 10 30 40 1 1 1 0 0 0 0: not a box"
            ),
            Change("40 1 1 1 0 0 0 0", "40 1 1 1 0 0 0 0 0.9", "labels have a 16th column", BOTH),
            Change("40 1 1 1 0 0 0 0", "40 1 1 1 0 0 0 0 0.9 5", "1 lines, first line 1: lines have another", BOTH),
            Change("40 1 1 1 0 0 0 0", "40 1 1 1", "1 lines, first line 1: lines have another", BOTH),
            Change("10 10 30 40", "10 ? 30 40", "line 1: Car 0.00 0 0.00 10 ? 30 40 1 1 1 0 0 0 0: not a box"),
            Change("10 10 30 40", "50 10 30 40", "line 1 (Car): 50 10 30 40: box is inverted", SECOND),
            Change("Car 0.00", "0 0.00", "starts with a number"),
        ],
    ),
    "visdrone": (
        VISDRONE,
        [
            Change("1,1,0,0", "1,1,0", "line 1: 10,10,20,30,1,1,0: not a box"),
            Change("1,1,0,0", "1,1,0,0,0", "line 1: 10,10,20,30,1,1,0,0,0: not a box"),
            Change("30,1,1,0,0", "30,1,12,0,0", "line 1: 10,10,20,30,1,12,0,0: not a box"),
            Change("30,1,1,0,0", "30,0.7,1,0,0", "line 1: score 0.7"),
            Change("10,10,20,30", "10,10,-20,30", "line 1: 10 10 -10 40: box is inverted", SECOND),
            Change("10,10,20,30", "10;10;20;30", "not a box"),
        ],
    ),
    "widerface": (
        WIDERFACE,
        [
            Change("a.png\n2", "a.png\n1", "not the name of an image"),
            Change("a.png\n2", "a.png\n3", "has count 3, and 2 lines"),
            Change("a.png\n2", "a.png\n0", "has count 0, and a face"),
            Change("a.png\n2", "a.png\ntwo", "not the count of faces"),
            Change("10 10 20 30 0 0 0 0 0 0", "10 10 20 30 0 0 0 0", "has count 2, and 0 lines"),
            Change("10 10 20 30 0 0 0 0", "10 10 20 30 0 0 0 5", "line 3: invalid 5: flag that", BOTH),
            Change("10 10 20 30", "10 10 -20 30", "line 3: 10 10 -10 40: box is inverted", SECOND),
            Change("b.png", "a.png", "a.png: image is listed twice", BOTH),
        ],
    ),
    "mot": (
        MOT,
        [
            Change("20,30,1,1,1", "20,30", "line 1: not frame,id,left,top"),
            Change("20,30,1,1,1", "20,30,1,1", "line 1: not frame,id,left,top"),
            Change("20,30,1,1,1", "20,30,1,1,1,0,0", "line 1: not frame,id,left,top"),
            Change("20,30,1,1,1", "20,30,1,99,1", "line 1: class 99: not a box", OUT),
            Change("20,30,1,1,1", "20,30,0.7,1,1", "1 rows, first line 1: seventh column is neither", BOTH),
            Change("20,30,1,1,1", "-20,30,1,1,1", "line 1: 10 10 -10 40: box is inverted", SECOND),
            Change("20,30,1,1,1", "20,?,1,1,1", "not frame,id,left,top"),
            Change("1,1,10", "1.5,1,10", "line 1: not frame,id,left,top"),
            Change(
                "2,1,5",
                "7,1,5",
                "1 frames: frames without a row between frames with rows: images without objects",
                BOTH,
            ),
        ],
    ),
    "openimages": (
        OPENIMAGES,
        [
            Change("0.5,0\n", "0.5\n", "line 2: 7 cells, the header has 8", SECOND),
            Change("0.5,0\n", "0.5,0,9\n", "line 2: 9 cells, the header has 8", SECOND),
            Change("0.1,0.3", "?,0.3", "line 2: a,/m/c,1,?,0.3,0.125,0.5,0: not a box"),
            Change("0.1,0.3", "0.3,0.1", "line 2: 30 10 10 40: box is inverted", SECOND),
            Change("0.1,0.3,0.125,0.5", "10,30,10,40", "box is not in fractions of the image", SECOND),
            Change("0.5,0\n", "0.5,-1\n", "1 row, first line 2: IsGroupOf is neither 0 nor 1", BOTH),
            Change("a,/m/c", "a,", "line 2: a,,1,0.1,0.3,0.125,0.5,0: not a box"),
            Change("a,/m/c", ",/m/c", "line 2: no ImageID", SECOND),
            Change("b,/m/c,1,0.05,0.25,0.0625,0.3125,0\n", "", "b.png: image was not annotated", BOTH),
        ],
    ),
}


@each_change(CASES)
def test_one_change_of_a_valid_dataset_is_said(valid: ValidSet, change: Change, tmp_path: Path) -> None:
    assert_said(valid, tmp_path, change)
