"""True positives and scores that a calibration is made from: matched as COCO does."""

from __future__ import annotations

import pytest
import torch

from calibrations import SIZE, Annotated, detections, scenes
from gfocal.calibration.matched import match_detections
from gfocal.data.dataset import Sample

BOX = [10.0, 10.0, 50.0, 50.0]
FAR = [200.0, 200.0, 260.0, 260.0]


def annotated(boxes: list[list[float]], labels: list[int], crowd: list[bool] | None = None) -> Annotated:
    is_crowd = torch.tensor(crowd or [False] * len(boxes), dtype=torch.bool)
    corners, classes = torch.tensor(boxes).reshape(-1, 4), torch.tensor(labels, dtype=torch.int64)
    sample = Sample(7, None, corners, classes, is_crowd, SIZE)
    return Annotated((sample,))


def found(boxes: list[list[float]], scores: list[float], labels: list[int]):
    return {7: detections(torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.tensor(labels))}


def test_the_best_of_several_on_one_object_is_right():
    near = [12.0, 10.0, 50.0, 51.0]
    positives, scored = match_detections(annotated([BOX], [0]), found([near, BOX], [0.9, 0.8], [0, 0]), 0.3)
    assert positives.scores.tolist() == pytest.approx([0.9])
    assert positives.errors.tolist() == [[2.0, 0.0, 0.0, 1.0]]
    assert scored.is_right.tolist() == [True, False]
    assert scored.iou[1] == 0
    assert scored.iou[0] == pytest.approx(38 * 40 / (40 * 40 + 38))


def test_a_wrong_class_or_place_is_no_true_positive():
    positives, scored = match_detections(annotated([BOX], [0]), found([BOX, FAR], [0.9, 0.8], [1, 0]), 0.3)
    assert len(positives) == 0
    assert positives.edges.shape == (0, 4, 0)
    assert scored.is_right.tolist() == [False, False]


def test_thresholds_are_of_true_positives_alone_and_may_be_of_each_class():
    data = annotated([BOX, FAR], [0, 1])
    several = found([BOX, FAR], [0.5, 0.4], [0, 1])
    assert match_detections(data, several, 0.45)[0].labels.tolist() == [0]
    positives, scored = match_detections(data, several, (0.6, 0.3))
    assert positives.labels.tolist() == [1]
    assert len(scored) == 2


def test_detections_on_crowd_regions_do_not_count():
    data = annotated([BOX, FAR], [0, 0], [False, True])
    positives, scored = match_detections(data, found([BOX, FAR], [0.9, 0.8], [0, 0]), 0.3)
    assert len(positives) == len(scored) == 1


def test_images_without_objects_count_by_their_false_positives():
    positives, scored = match_detections(annotated([], []), found([BOX], [0.9], [0]), 0.3)
    assert len(positives) == 0
    assert scored.is_right.tolist() == [False]


def test_nothing_found_at_all():
    for several in ({}, found([], [], [])):
        positives, scored = match_detections(annotated([BOX], [0]), several, 0.3)
        assert len(positives) == len(scored) == 0


def test_objects_end_at_the_border_of_the_image():
    positives, _ = match_detections(
        annotated([[-10.0, 5.0, 420.0, 390.0]], [0]), found([[0.0, 5.0, 400.0, 390.0]], [0.9], [0]), 0.3
    )
    assert positives.errors.tolist() == [[0.0, 0.0, 0.0, 0.0]]


def test_rows_are_those_of_the_detections():
    data, several = scenes(5, seed=3)
    positives, scored = match_detections(data, several, 0.3)
    assert len(positives) >= 30
    for row in range(len(positives)):
        own = several[int(positives.image[row])]
        place = int((own.boxes.double() - positives.boxes[row]).abs().sum(1).argmin())
        assert torch.equal(own.edges[place], positives.edges[row])
        assert torch.equal(own.points[place], positives.points[row])
        assert torch.equal(own.bin_sizes[place], positives.bin_sizes[row])
        assert positives.sizes[row].tolist() == list(SIZE)
    assert int(scored.is_right.sum()) >= len(positives)
    assert positives.select(positives.labels == 1).labels.unique().tolist() == [1]
