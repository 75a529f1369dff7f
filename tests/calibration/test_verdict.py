"""What eval says of a measured coverage, in each case, and the commands that it names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gfocal.calibration.chance import Chance, Verdict
from gfocal.calibration.coverage import Coverage
from gfocal.calibration.verdict import Origin, advise, describe_scores, is_lower

ORIGIN = Origin("split val of photos", 25, 126, 0.3)


def coverage(nominal: float, verdict: Verdict, half: float = 0.09) -> Coverage:
    chance = Chance(nominal - half, min(nominal + half, 1.0), verdict, 1.0)
    return Coverage(nominal, nominal, nominal, 20.0, 18.0, 25.0, 63, chance)


def advice(*verdicts: Verdict, threshold: float | tuple[float, ...] = 0.3, half: float = 0.09) -> tuple[str, ...]:
    boxes = [coverage(nominal, one, half) for nominal, one in zip((0.5, 0.9), verdicts, strict=False)]
    return advise(boxes, 20, threshold, ORIGIN, "best.safetensors", "photos")


def test_what_was_compared_is_said_first():
    for verdicts in (("within", "within"), ("within", "below"), ("above", "above")):
        assert advice(*verdicts)[0] == (
            "the ranges: where 95% of such measurements lie (63 boxes in 20 images here, 126 in the calibration) if "
            "images and annotations are like those of the calibration"
        )


def test_few_boxes_within_chance_are_no_proof():
    assert "no difference from 90% that is smaller than about 9%" in advice("within", "within")[1]
    chances = (
        coverage(0.5, "within", 0.2),
        coverage(0.9, "within", 0.03),
    )  # there are many boxes: 90% is what counts
    assert len(advise(chances, 20, 0.3, ORIGIN, "m", "d")) == 1
    assert len(advice("within", "within", half=0.02)) == 1


def test_edges_far_off_among_good_ones_are_annotations_to_look_at():
    _, why, command = advice("within", "below")
    assert why.startswith(
        "50% hold and 90% do not: most edges are as good as in the calibration, and some are far off"
    )
    assert "(gfocal check photos --model best.safetensors)" in why
    assert command.startswith(
        "for intervals that hold for them: gfocal calibrate best.safetensors IMAGES, with other"
    )


def test_all_edges_off_are_images_of_another_kind():
    _, why, command = advice("below", "below")
    assert why.startswith("edges are off by more than in the calibration, near and far: images of another kind")
    assert "gfocal calibrate best.safetensors IMAGES" in command


def test_lower_scores_than_those_of_the_calibration_come_first():
    _, why, command = advice("below", "below", threshold=0.1)
    assert why.startswith("the calibration was of detections with higher scores")
    assert command == "with the threshold in use: gfocal calibrate best.safetensors IMAGES"


def test_more_than_promised():
    _, why, command = advice("within", "above")
    assert why.startswith("intervals are wider than these images need")
    assert "split val of photos" in why
    assert command.startswith("for narrower ones: gfocal calibrate best.safetensors IMAGES")


def test_nothing_without_coverage():
    assert advise([], 0, 0.3, ORIGIN, "m", "d") == ()
    assert advise([replace(coverage(0.9, "within"), chance=None)], 5, 0.3, ORIGIN, "m", "d") == ()


@pytest.mark.parametrize(
    ("used", "calibrated", "wanted"),
    [
        (0.3, 0.3, False),
        (0.2, 0.3, True),
        (0.4, 0.3, False),
        ((0.4, 0.2), (0.4, 0.3), True),
        ((0.5, 0.3), (0.4, 0.3), False),
        ((0.5, 0.2), 0.3, True),
        (0.3, (0.3, 0.1), False),
        (0.3, (0.3, 0.5), True),
    ],
)
def test_lower_is_of_any_class(used: float | tuple[float, ...], calibrated: float | tuple[float, ...], wanted: bool):
    assert is_lower(used, calibrated) is wanted


def test_the_threshold_is_named():
    assert describe_scores(0.3) == "with scores above 0.3"
    assert describe_scores((0.25, 0.5)) == "above the model's thresholds, 0.25 to 0.50 by class"
    assert describe_scores(()) == "above the model's thresholds"
