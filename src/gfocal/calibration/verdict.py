"""What a measured coverage means, and what to do about it, in sentences for the terminal, the page and the json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gfocal.calibration.chance import LEVEL
from gfocal.calibration.coverage import Coverage
from gfocal.structures.calibration import Calibration
from gfocal.structures.detected import COVERAGE
from gfocal.text import pluralize

LOWER_SCORES = (
    "the calibration was of detections with higher scores, whose edges are better: nothing is promised of the others"
)
WIDE = 0.05  # of a range: half its width, from which more boxes are worth while


@dataclass(frozen=True)
class Origin:
    """What a calibration was made from."""

    data: str  # in a line
    num_images: int
    num_boxes: int
    score_threshold: float | tuple[float, ...]

    @classmethod
    def of(cls, made: Calibration) -> Origin:
        """Of a calibration."""
        return cls(made.data, made.num_images, made.num_boxes, made.score_threshold)


def describe_scores(threshold: float | Sequence[float]) -> str:
    """Which detections were counted."""
    if not isinstance(threshold, Sequence):
        return f"with scores above {threshold:g}"
    if not threshold:
        return "above the model's thresholds"
    return f"above the model's thresholds, {min(threshold):.2f} to {max(threshold):.2f} by class"


def advise(
    boxes: Sequence[Coverage],
    num_images: int,
    score_threshold: float | Sequence[float],
    origin: Origin,
    model_name: str,
    data_name: str,
) -> tuple[str, ...]:
    """What was compared with what, what the verdicts mean, and what can be done.

    Args:
        boxes: coverage of all four edges, at some coverages; without any there is nothing to say.
        num_images: in which these boxes are.
        score_threshold: of the detections that were counted.
        origin: what the calibration was made from.
        model_name: for commands, as the next.
        data_name: of the images that were evaluated.
    """
    known = [one for one in boxes if one.chance is not None]
    if not known:
        return ()
    count = f"{pluralize(known[0].count, 'box', 'boxes')} in {pluralize(num_images, 'image')}"
    ranges = (
        f"the ranges: where {LEVEL:.0%} of such measurements lie ({count} here, {origin.num_boxes:,} in the "
        "calibration) if images and annotations are like those of the calibration"
    )
    verdicts = {one.chance.verdict for one in known if one.chance is not None}
    if "below" in verdicts:
        if is_lower(score_threshold, origin.score_threshold):
            return (ranges, LOWER_SCORES, f"with the threshold in use: gfocal calibrate {model_name} IMAGES")
        check = f"gfocal check {data_name} --model {model_name}"
        return (ranges, _explain_below(known, check), _recalibrate(model_name, "intervals that hold for them"))
    if "above" in verdicts:
        return (
            ranges,
            "intervals are wider than these images need: they are easier than those of the calibration "
            f"({origin.data}), and what was promised holds",
            _recalibrate(model_name, "narrower ones"),
        )
    usual = min(known, key=lambda one: abs(one.nominal - COVERAGE))
    half = 0.0 if usual.chance is None else (usual.chance.high - usual.chance.low) / 2
    if half <= WIDE:
        return (ranges,)
    return (
        ranges,
        f"so few boxes show no difference from {usual.nominal:.0%} that is smaller than about {half:.0%}: evaluate, "
        "and calibrate, on more annotated images to know it better",
    )


def _explain_below(boxes: Sequence[Coverage], check: str) -> str:
    """Why fewer boxes may be covered than promised; ``check`` is the command that looks for wrong annotations."""
    verdicts = sorted((one.nominal, one.chance.verdict) for one in boxes if one.chance is not None)
    (least, first), (most, _) = verdicts[0], verdicts[-1]
    if first != "below":
        return (
            f"{least:.0%} hold and {most:.0%} do not: most edges are as good as in the calibration, and some are far "
            f"off. Annotations may be wrong ({check}), or the model meets objects that the calibration had few of"
        )
    return (
        "edges are off by more than in the calibration, near and far: images of another kind (camera, light, scene), "
        "or annotators who draw boxes in another way"
    )


def _recalibrate(model_name: str, why: str) -> str:
    """The command, with other images than those that were evaluated: measured on its own it says nothing."""
    return (
        f"for {why}: gfocal calibrate {model_name} IMAGES, with other annotated images like these, that are then not "
        "evaluated"
    )


def is_lower(used: float | Sequence[float], calibrated: float | Sequence[float]) -> bool:
    """Whether detections of lower scores were counted than a calibration was made from, of any class."""
    if not isinstance(used, Sequence) and not isinstance(calibrated, Sequence):
        return used < calibrated
    length = len(used) if isinstance(used, Sequence) else len(calibrated) if isinstance(calibrated, Sequence) else 1
    pairs = zip(_of_each(used, length), _of_each(calibrated, length), strict=False)
    return any(one < other for one, other in pairs)


def _of_each(threshold: float | Sequence[float], length: int) -> Sequence[float]:
    return threshold if isinstance(threshold, Sequence) else [threshold] * length
