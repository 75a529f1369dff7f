"""Frames of detections and of ground truth on one image: none is hidden where they coincide."""

import torch

from gfocal.data.dataset import Sample
from gfocal.evaluation.detections import ScoredDetections
from gfocal.evaluation.error_analysis import FalsePositive, ImageMistakes
from gfocal.visualize.drawing import class_color
from gfocal.visualize.mistakes import FALSE_POSITIVE, MISSED, TRUE_POSITIVE, draw_mistakes
from gfocal.visualize.predictions import GROUND_TRUTH, draw_predictions

GRAY = torch.full((3, 300, 300), 128, dtype=torch.uint8)
BOX = (60.0, 60.0, 240.0, 240.0)


def test_a_false_positive_hides_neither_true_positives_nor_missed_objects():
    wrong = FalsePositive(BOX, 0, 0.6, "classification", 1)
    for one, color in (
        (ImageMistakes(1, 1.0, (BOX,), (wrong,), (), ()), TRUE_POSITIVE),
        (ImageMistakes(1, 1.0, (), (wrong,), ((BOX, 1),), ()), MISSED),
    ):
        drawn = draw_mistakes(GRAY, one, ("a", "b"), min_side=300)
        side = [drawn.getpixel((x, y)) for x in range(58, 66) for y in range(100, 200)]
        assert side.count(color) >= 40, "seen along the edge"
        assert side.count(FALSE_POSITIVE) >= 40


def test_ground_truth_is_seen_where_a_detection_lies_on_it():
    sample = Sample(1, None, torch.tensor([BOX]), torch.tensor([0]), torch.tensor([False]), (300, 300))
    found = ScoredDetections(torch.tensor([BOX]), torch.tensor([0.9]), torch.tensor([0]))
    drawn, _ = draw_predictions(GRAY, sample, found, ("a",))
    side = [drawn.getpixel((60, y)) for y in range(80, 220)]
    assert side.count(GROUND_TRUTH) > 30
    assert side.count(class_color(0)) > 30
