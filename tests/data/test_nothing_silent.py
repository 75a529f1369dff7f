"""What a reader could misunderstand is said: json formats.

Each case changes one thing in a valid dataset (``silent_sets``). Either that is an error, or a problem names it, and
the image is left out where an object of it may be lost.
"""

from __future__ import annotations

from pathlib import Path

from silent_sets import (
    BDD100K,
    BOTH,
    COCO,
    CREATEML,
    CROWDHUMAN,
    FIFTYONE,
    HULL,
    LABEL_STUDIO,
    LABELME,
    MEGADETECTOR,
    OUT,
    SECOND,
    SUPERVISELY,
    UNNAMED,
    VIA,
    VIA_CSV,
    Change,
    ValidSet,
    assert_said,
    each_change,
)

CASES = {
    "coco": (
        COCO,
        [
            Change("[10, 10, 20, 30]", "[10, 10, 20]", "annotation 11: bbox", SECOND),
            Change("[10, 10, 20, 30]", "[10, 10, 20, 30, 15]", "annotation 11: bbox", SECOND),
            Change("[10, 10, 20, 30]", '{"x": 10, "y": 10}', "annotation 11: bbox", SECOND),
            Change(', "bbox": [10, 10, 20, 30]', "", "a.png: image has objects without a box"),
            Change("[10, 10, 20, 30]", "null", "a.png: image has objects without a box"),
            Change('"bbox": [10, 10, 20, 30]', '"segmentation": [[10, 10, 30, 40, 20]]', "a.png: image has objects"),
            Change('"bbox": [10, 10, 20, 30]', '"keypoints": [10, 10, 2]', "a.png: image has objects without a box"),
            Change("[10, 10, 20, 30]", "[30, 40, -20, -30]", "annotation 11: 30 40 10 10: box is inverted", SECOND),
            Change("[10, 10, 20, 30]", "[10, 10, 0, 30]", "annotation 11: 10 10 10 40: box has no area", SECOND),
            Change("[10, 10, 20, 30]", "[110, 10, 20, 30]", "annotation 11: 110 10 130 40: box is outside", SECOND),
            Change("[10, 10, 20, 30]", "[10, 10, NaN, 30]", "annotation 11: 10 10 nan 40: box is not finite", SECOND),
            Change('"iscrowd": 0', '"iscrowd": 2', "annotation 11: iscrowd 2: flag that is a number", BOTH),
            Change('"iscrowd": 0', '"iscrowd": "maybe"', "annotation 11: iscrowd 'maybe': flag that", BOTH),
            Change('"category_id": 1', '"category_id": 7', "annotation 11: category_id 7: unknown class", SECOND),
            Change('"category_id": 1, ', "", "annotation 11: category_id None: unknown class", SECOND),
            Change('"image_id": 1', '"image_id": 9', "annotation 11: image_id 9: annotation of an image", SECOND),
            Change('"iscrowd": 0', '"attributes": {"rotation": 15}', "annotation 11: 15 degrees: rotated box", HULL),
            Change('"iscrowd": 0', '"attributes": {"rotation": "15"}', "annotation 11: 15 degrees: rotated", HULL),
            Change('"iscrowd": 0', '"attributes": {"rotation": "left"}', "annotation 11: rotation 'left'", BOTH),
            Change('"width": 100', '"width": 120', "a.png: stated 120x80, file 100x80", BOTH),
            Change('"file_name": "b.png"', '"file_name": "a.png"', "image 2: a.png: image is listed twice", BOTH),
            Change('"id": 2, "file_name"', '"id": 1, "file_name"', "image 1: b.png: image id occurs twice", BOTH),
            Change('"file_name": "b.png", ', "", "images, entry 2: image without 'file_name'", BOTH),
            Change('"name": "dog"', '"name": "cat"', "2 classes are named 'cat'", BOTH),
            Change('"annotations"', '"objects"', "no annotated images found"),
        ],
    ),
    "labelstudio": (
        LABEL_STUDIO,
        [
            Change('"width": 20, ', "", "result 1: image has an object whose box"),
            Change('"width": 20', '"width": "wide"', "result 1: image has an object whose box"),
            Change('"width": 20', '"width": -20', "result 1: 10 10 -10 40: box is inverted", SECOND),
            Change('"x": 10', '"x": 110', "result 1: 110 10 130 40: box is outside", SECOND),
            Change('"rotation": 0', '"rotation": 15', "1 regions: rotated box", [[2.2, 10.0, 29.3, 44.2], *SECOND]),
            Change('"original_width": 100, "original_height": 80', '"image_rotation": 90', "image was rotated"),
            Change('"rotation": 0', '"rotation": "left"', "result 1: image has an object whose box"),
            Change('"type": "rectanglelabels"', '"type": "videorectangle"', "type 'videorectangle'"),
            Change('"type": "rectanglelabels"', '"type": "keypointlabels"', "result 1: keypoint"),
            Change('"id": "r2"', '"id": "r1"', "", BOTH),
            Change('"rectanglelabels": ["cat"]', '"other": 1', "result 1: object without a class", UNNAMED),
            Change('["cat"]', '["cat", "dog"]', "1 regions: region with several labels", [BOTH[0], *BOTH]),
            Change('"result"', '"results"', "its result is null"),
            Change('"annotations"', '"predictions"', "task 1: image was not annotated"),
            Change('[{"result"', '[{"was_cancelled": true, "result"', "task 1: image was skipped"),
            Change('"original_width": 100', '"original_width": 120', "a.png: stated 120x80, file 100x80", BOTH),
            Change('"image": "b.png"', '"image": "a.png"', "a.png: image is listed twice", BOTH),
            Change('"image": "a.png"', '"text": "some"', "task 1, no image in 'data': record of an image"),
        ],
    ),
    "labelme": (
        LABELME,
        [
            Change("[10, 10], [30, 40]", "[10, 10]", "shape 1: image has an object whose box"),
            Change("[10, 10], [30, 40]", "[10, 10], [30, 40], [12, 15]", "shape 1: image has an object whose box"),
            Change("[10, 10], [30, 40]", "[10, 10, 5], [30, 40, 5]", "shape 1: image has an object whose box"),
            Change("[10, 10], [30, 40]", '[10, "?"], [30, 40]', "shape 1: image has an object whose box"),
            Change('"rectangle"', '"trapezoid"', "shape 1: 'trapezoid': image has a shape of an unknown kind"),
            Change('"rectangle"', '"point"', "shape 1: point 'cat': image has objects without a box"),
            Change('"rectangle"', '"cuboid"', "shape 1: cuboid 'cat': image has objects without a box"),
            Change('"label": "cat", ', "", "shape 1: object without a class", UNNAMED),
            Change('"flags": {}', '"flags": {"difficult": "maybe"}', "shape 1: difficult 'maybe': flag that", BOTH),
            Change("[10, 10], [30, 40]", "[110, 10], [130, 40]", "shape 1: 110 10 130 40: box is outside", SECOND),
            Change('"imageWidth": 100', '"imageWidth": 120', "a.png: stated 120x80, file 100x80", BOTH),
            Change('"imagePath": "b.png"', '"imagePath": "a.png"', "a.png: image is listed twice", BOTH, "b.json"),
            Change('"imagePath": "b.png"', '"imagePath": "a.png"', "b.png: image was not annotated", BOTH, "b.json"),
            Change('"shapes"', '"objects"', "1 files: json is not of LabelMe"),
        ],
    ),
    "via": (
        VIA,
        [
            Change('"width": 20, ', "", "region 0, rect: image has an object whose box"),
            Change('"width": 20', '"width": "?"', "region 0, rect: image has an object whose box"),
            Change('"width": 20', '"width": -20', "region 0, rect: 10 10 -10 40: box is inverted", SECOND),
            Change('"x": 10', '"x": 110', "region 0, rect: 110 10 130 40: box is outside", SECOND),
            Change('"name": "rect"', '"name": "star"', "region 0, star: image has an object whose box"),
            Change('"name": "rect"', '"name": "point"', "region 0, a point: image has objects without a box"),
            Change(
                '"name": "rect"',
                '"name": "polygon", "all_points_x": [10, 30, 20], "all_points_y": [10, 40]',
                "region 0, polygon: image has an object whose box",
            ),
            Change('{"class": "cat"}', "{}", "region 0, rect: object without a class", UNNAMED),
            Change('{"class": "cat"}', '{"class": {"cat": true, "dog": true}}', "region 0: 'cat', 'dog': image has"),
            Change('"class": "cat"', '"class": "cat", "difficult": "maybe"', "region 0: difficult 'maybe'", BOTH),
            Change('"regions"', '"shapes"', "image 'a.png1': record of an image without"),
            Change('"filename": "b.png"', '"filename": "a.png"', "a.png: image is listed twice", BOTH),
        ],
    ),
    "via-csv": (
        VIA_CSV,
        [
            Change("2,0,", "3,0,", "a.png, 2 of 3 regions: image has fewer regions", OUT),
            Change('""width"":20,', "", "region 0, rect: image has an object whose box"),
            Change('""rect""', '""star""', "region 0, star: image has an object whose box"),
            Change("2,0,", "2,", "line 2: 6 cells"),
        ],
    ),
    "createml": (
        CREATEML,
        [
            Change('"x": 20, ', "", "annotation 1: image has an object whose box"),
            Change('"x": 20', '"x": "?"', "annotation 1: image has an object whose box"),
            Change('"width": 20', '"width": -20', "annotation 1: 30 10 10 40: box is inverted", SECOND),
            Change('"x": 20', '"x": 120', "annotation 1: 110 10 130 40: box is outside", SECOND),
            Change('"label": "cat", ', "", "annotation 1: object without a class", UNNAMED),
            Change('"label": "cat"', '"label": "cat", "ignore": "maybe"', "annotation 1: ignore 'maybe'", BOTH),
            Change('"coordinates"', '"polygon"', "annotation 1: image has an object whose box"),
            Change('"annotations"', '"objects"', "entry 1: record of an image without"),
            Change('"image": "b.png"', '"image": "a.png"', "a.png: image is listed twice", BOTH),
        ],
    ),
    "fiftyone": (
        FIFTYONE,
        [
            Change("[0.1, 0.125, 0.2, 0.375]", "[0.1, 0.125, 0.2]", "a: object 1: image has an object whose box"),
            Change("[0.1, 0.125, 0.2, 0.375]", "[0.1, 0.125, 0.2, 0.375, 1]", "a: object 1: image has an object"),
            Change("[0.1, 0.125, 0.2, 0.375]", "[10, 10, 20, 30]", "box is not in fractions of the image", SECOND),
            Change("[0.1, 0.125, 0.2, 0.375]", "[0.3, 0.5, -0.2, -0.375]", "box is inverted", SECOND),
            Change('"bounding_box"', '"points"', "a: object 1: image has an object whose box"),
            Change('"label": 0', '"label": 5', "a: object 1: label 5 is the index of a class"),
            Change('"label": 0, ', "", "a: object 1: object without a class", UNNAMED),
            Change('"label": 0', '"label": 0, "iscrowd": "maybe"', "a: object 1: iscrowd 'maybe': flag that", BOTH),
            Change('"dog"]', '"cat"]', "'cat', 2 times: class name occurs twice", BOTH),
            Change(
                '"b": [{"label": 0, "bounding_box": [0.05, 0.0625, 0.2, 0.25]}]',
                '"c": []',
                "c: image file is missing",
                BOTH,
            ),
            Change(
                '"b": [{"label": 0, "bounding_box": [0.05, 0.0625, 0.2, 0.25]}]',
                '"b": null',
                "b.png: image was not annotated",
                BOTH,
            ),
        ],
    ),
    "supervisely": (
        SUPERVISELY,
        [
            Change("[10, 10], [29, 39]", "[10, 10]", "object 1, rectangle: image has an object whose box"),
            Change("[10, 10], [29, 39]", "[10, 10], [29, 39], [5, 5]", "object 1, rectangle: image has an object"),
            Change("[10, 10], [29, 39]", "[10, 10, 1], [29, 39, 1]", "object 1, rectangle: image has an object"),
            Change('"geometryType": "rectangle"', '"geometryType": "star"', "object 1, star: image has an object"),
            Change('"geometryType": "rectangle"', '"geometryType": "point"', "object 1, point: image has objects"),
            Change('"rectangle"', '"oriented_bbox", "angle": "left"', "object 1, oriented_bbox: image has an object"),
            Change(
                '"tags": [], "points"', '"tags": [{"name": "crowd", "value": "maybe"}], "points"', "'maybe'", BOTH
            ),
            Change('"classTitle": "cat", ', "", "object 1, rectangle: object without a class", UNNAMED),
            Change('"width": 100', '"width": 120', "a.png: stated 120x80, file 100x80", BOTH),
            Change('"title": "dog"', '"title": "cat"', "'cat', 2 times: class name occurs twice", BOTH, "meta.json"),
            Change('"objects"', '"figures"', "not an annotation of Supervisely"),
        ],
    ),
    "megadetector": (
        MEGADETECTOR,
        [
            Change("[0.1, 0.125, 0.2, 0.375]", "[0.1, 0.125, 0.2]", "detection 1: image has an object whose box"),
            Change("[0.1, 0.125, 0.2, 0.375]", "[0.1, 0.125, 0.2, 0.375, 0]", "detection 1: image has an object"),
            Change("[0.1, 0.125, 0.2, 0.375]", "[10, 10, 20, 30]", "box is not in fractions of the image", SECOND),
            Change('"conf": 0.9, ', "", "detection 1: image has an object whose box"),
            Change('"conf": 0.9', '"conf": 90', "detection 1: image has an object whose box"),
            Change('"conf": 0.9', '"conf": 0.1', "1 detections below 0.2: detections below", SECOND),
            Change('"category": "1"', '"category": "9"', "1 detections of category 9", SECOND),
            Change('"2": "person"', '"2": "animal"', "'animal': class name occurs twice", BOTH),
            Change('"detections"', '"boxes"', "no detections: image was not annotated"),
            Change('"file": "images/b.png"', '"file": "images/a.png"', "a.png: image is listed twice", BOTH),
        ],
    ),
    "bdd100k": (
        BDD100K,
        [
            Change('"x1": 10, ', "", "label 1, car: image has an object whose box"),
            Change('"x1": 10', '"x1": null', "label 1, car: image has an object whose box"),
            Change('"x1": 10', '"x1": 50', "label 1, car: 50 10 30 40: box is inverted", SECOND),
            Change('"box2d": {"x1": 10', '"box3d": {"x1": 10', "label 1, car: image has objects without a box"),
            Change('"box2d": {"x1": 10', '"poly2d": {"x1": 10', "label 1, car: image has an object whose box"),
            Change('"attributes": {}', '"attributes": {"crowd": "maybe"}', "label 1, car: crowd 'maybe': flag", BOTH),
            Change('"category": "car", ', "", "label 1, no category: object without a class", UNNAMED),
            Change(
                '"name": "b.png", "labels"',
                '"name": "b.png", "boxes"',
                "1 images: images without the list of labels are background",
                BOTH,
            ),
            Change('"name": "b.png"', '"name": "a.png"', "a.png: image is listed twice", BOTH),
            Change('"name": "a.png", ', "", "entry 1: record of an image without"),
        ],
    ),
    "crowdhuman": (
        CROWDHUMAN,
        [
            Change("[10, 10, 20, 30]", "[10, 10, 20]", "line 1, object 1: not a box of finite numbers"),
            Change("[10, 10, 20, 30]", "[10, 10, 20, 30, 1]", "line 1, object 1: not a box of finite numbers"),
            Change(
                "[10, 10, 20, 30]", "[10, 10, -20, 30]", "line 1, object 1: 10 10 -10 40: box is inverted", SECOND
            ),
            Change('"fbox": [10', '"hbox": [10', "line 1, object 1: not a box of finite numbers"),
            Change('"tag": "person", ', "", "line 1, object 1: not a box of finite numbers"),
            Change('"extra": {}', '"extra": {"ignore": "maybe"}', "line 1, object 1: ignore 'maybe': flag", BOTH),
            Change('"extra": {}', '"extra": {"ignore": 2}', "line 1, object 1: ignore 2: flag", BOTH),
            Change('"gtboxes"', '"boxes"', "a: image was not annotated"),
            Change('"ID": "b"', '"ID": "a"', "a: image is listed twice", BOTH),
            Change('"ID": "b", ', "", "line 2: no ID"),
        ],
    ),
}


@each_change(CASES)
def test_one_change_of_a_valid_dataset_is_said(valid: ValidSet, change: Change, tmp_path: Path) -> None:
    assert_said(valid, tmp_path, change)
