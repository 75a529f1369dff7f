"""Confusion, reliability, mistakes, and all of them together, on a scene that can be counted by hand."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_coco_ap import scene

from gfocal.data.dataset import FileData, Sample
from gfocal.evaluation.curves import confusion_matrix, most_confused, reliability, select_above
from gfocal.evaluation.evaluate import Evaluation, evaluate
from gfocal.evaluation.matching import collect_boxes, compute_overlaps, match

NAMES = ("cat", "dog")
BOXES = [[100.0 * k, 0.0, 100.0 * k + 50, 50.0] for k in range(6)]


def found(rows: list[tuple[list[float], int, float]]) -> SimpleNamespace:
    return SimpleNamespace(
        boxes=torch.tensor([row[0] for row in rows]).reshape(-1, 4),
        labels=torch.tensor([row[1] for row in rows], dtype=torch.int64),
        scores=torch.tensor([row[2] for row in rows]),
    )


def sample(image_id: int, labels: list[int], crowd: int = 0) -> Sample:
    boxes = torch.tensor(BOXES[: len(labels)]).reshape(-1, 4)
    return Sample(image_id, None, boxes, torch.tensor(labels, dtype=torch.int64), torch.arange(len(labels)) < crowd)


def two_images() -> tuple[FileData, dict[int, SimpleNamespace]]:
    """Image 1: a crowd of cats, a dog, a cat, a dog. Image 2: nothing."""
    data = FileData(NAMES, (1, 2), [sample(1, [0, 1, 0, 1], crowd=1), sample(2, [])])
    one = found(
        [
            (BOXES[0], 0, 0.95),  # on the crowd
            (BOXES[1], 1, 0.9),  # the dog
            (BOXES[2], 1, 0.8),  # a cat detected as a dog
            (BOXES[4], 0, 0.7),  # nothing there
            (BOXES[3], 1, 0.2),  # the other dog, unsure
        ]
    )
    return data, {1: one, 2: found([(BOXES[5], 1, 0.4)])}


@pytest.fixture
def evaluation() -> Evaluation:
    data, detections = two_images()
    return evaluate(data, detections, model_thresholds=(0.5, 0.3))


def test_the_confusion_matrix(evaluation: Evaluation) -> None:
    assert evaluation.confusion.tolist() == [[0, 1, 0], [0, 1, 1], [1, 1, 0]]
    assert most_confused(evaluation.confusion, NAMES) == [("cat", "dog", 1)]


def test_a_detection_below_its_threshold_is_not_matched() -> None:
    boxes = collect_boxes(
        [sample(1, [1])], {1: found([(BOXES[0], 0, 0.6), (BOXES[0], 1, 0.5)])}, NAMES
    )  # the cat of 0.6 would match the dog
    selected = select_above(boxes, (0.7, 0.3))
    assert selected.tolist() == [False, True]
    assert confusion_matrix(boxes, compute_overlaps(boxes), selected)[1, 1] == 1


def test_the_confusion_matrix_counts_every_object_and_every_detection_once() -> None:
    samples, detections, names, _, _ = scene(4, 8, 3, 12, 0.0, 1000)
    boxes = collect_boxes(samples, detections, names)
    matrix = confusion_matrix(boxes, compute_overlaps(boxes), np.ones(len(boxes.score), dtype=bool))
    assert matrix[:-1].sum(1).tolist() == boxes.num_ground_truth().tolist()
    assert matrix[:, :-1].sum(0).tolist() == np.bincount(boxes.label, minlength=3).tolist()


def test_a_score_is_above_its_threshold_as_float32() -> None:
    boxes = collect_boxes([sample(1, [0])], {1: found([(BOXES[0], 0, 0.7)])}, NAMES)
    assert boxes.score[0] != 0.7
    assert select_above(boxes, (0.7, 0.0)).tolist() == [False]


def test_scores_against_overlaps() -> None:
    # IoU 1 and 0.5 in the bin of 0.8, 0 in that of 0.1; on the crowd region nothing counts, beside it it does.
    half = [100.0, 0.0, 150.0, 100.0]
    boxes = collect_boxes(
        [sample(1, [0, 1, 1], crowd=1)],
        {1: found([(BOXES[0], 0, 0.9), (BOXES[2], 1, 0.85), (half, 1, 0.81), ([30.0, 0.0, 80.0, 50.0], 0, 0.15)])},
        NAMES,
    )
    pairs = compute_overlaps(boxes)
    measured = reliability(boxes, pairs, match(boxes, pairs))
    assert measured.count.tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 2, 0]
    assert measured.score[8] == pytest.approx(0.83)
    assert measured.iou[[1, 8]].tolist() == pytest.approx([0, 0.75])
    assert np.isnan(measured.iou[0])
    assert measured.error == pytest.approx((2 * 0.08 + 0.15) / 3)


def test_the_worst_image_comes_first_with_all_its_mistakes(evaluation: Evaluation) -> None:
    first, second = evaluation.worst_images(5)
    assert (first.image_id, second.image_id) == (1, 2)
    assert [(w.label, w.kind, w.gt_label) for w in first.false_positives] == [
        (1, "classification", 0),
        (0, "background", None),
    ]
    assert first.true_positives == (tuple(BOXES[1]),)
    assert sorted(first.missed) == [(tuple(BOXES[2]), 0), (tuple(BOXES[3]), 1)]  # one is found below its threshold
    assert first.crowd == (tuple(BOXES[0]),)
    assert first.cost == pytest.approx(0.8 + 0.7 + 2 * 0.5)
    assert second.cost == pytest.approx(0.4)
    assert [one.image_id for one in evaluation.worst_images(1)] == [1]


def test_an_image_without_mistakes_is_not_among_the_worst() -> None:
    data = FileData(NAMES, (1, 2), [sample(1, [0])])
    assert evaluate(data, {1: found([(BOXES[0], 0, 0.9)])}).worst_images(3) == []


def test_false_positives_per_image_at_the_thresholds(evaluation: Evaluation) -> None:
    assert (evaluation.num_true_positives, evaluation.num_false_positives) == (1, 3)
    assert evaluation.fppi == 1.5
    assert evaluation.thresholds_source == "the model's own thresholds"
    assert evaluation.at_thresholds[1].precision == pytest.approx(1 / 3)
    assert evaluation.at_thresholds[1].recall == pytest.approx(1 / 2)


def test_the_curves_are_those_of_both_overlaps() -> None:
    samples, detections, names, _, _ = scene(4, 8, 3, 12, 0.1, 1000)
    evaluation = evaluate(FileData(tuple(names), (1, 2, 3), samples), detections)
    for at50, at75, one in zip(
        evaluation.precision, evaluation.precision75, evaluation.ap.per_class.values(), strict=True
    ):
        assert at50 is not None
        assert at75 is not None
        assert (at50.mean(), at75.mean()) == pytest.approx((one.ap50, one.ap75), abs=1e-9)


def test_without_stored_thresholds_the_best_ones_are_in_use() -> None:
    data, detections = two_images()
    evaluation = evaluate(data, detections)
    assert evaluation.thresholds == evaluation.best_thresholds.scores
    assert evaluation.thresholds_source == "the thresholds of highest F1"
    assert evaluate(data, detections, precision=0.5).thresholds_source == "the thresholds of precision=0.5"


def test_the_numbers_as_json_and_in_a_few_lines(evaluation: Evaluation) -> None:
    numbers = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert numbers["ap50"] == evaluation.ap.ap50 == evaluation.errors.ap50
    assert numbers["errors"]["types"]["classification"]["count"] == 1
    assert numbers["at_thresholds"]["confusion"]["counts"] == evaluation.confusion.tolist()
    assert numbers["at_thresholds"]["false_positives_per_image"] == 1.5
    assert len(numbers["curves"]["precision_at_recall_iou50"]["cat"]) == 101
    assert sum(numbers["reliability"]["count"]) == 5
    assert set(numbers["log_average_miss_rate"]["per_class"]) == set(NAMES)
    lines = evaluation.summary()
    assert lines[0].startswith(f"AP {evaluation.ap.ap:.3f}, 95 % interval 0.")
    assert lines[0].endswith("(bootstrap over 2 images)")
    low, high = numbers["intervals"]["ap"]
    assert low <= numbers["ap"] <= high
    assert lines[1].startswith("most costly error type: classification, 1 error; AP50 +0.")
    assert lines[3] == "at the model's own thresholds: 1 true positive, 1.50 false positives per image"


def test_nothing_at_all() -> None:
    empty = evaluate(FileData(NAMES, (1, 2), [sample(1, [])]), {})
    assert empty.summary() == []
    json.dumps(empty.to_json(), allow_nan=False)
    assert empty.worst_images(3) == []


def test_detections_of_other_classes_are_refused() -> None:
    data, detections = two_images()
    for one in detections.values():
        one.names = NAMES
    evaluate(data, detections)
    next(iter(detections.values())).names = ("cat", "wolf")
    with pytest.raises(ValueError, match=r"classes \['cat', 'wolf'\] cannot be evaluated on \['cat', 'dog'\]"):
        evaluate(data, detections)
