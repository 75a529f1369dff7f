"""The review of annotations by a model: from detections to findings.

The pass over the images is one of evaluation, but down to lower scores, and over their mirror images too: what
differs between the two tells how sure the model is, and their mean is a better edge than either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from gfocal.checks.annotations import describe_box
from gfocal.checks.findings import Finding
from gfocal.checks.proposals import Proposals, combine
from gfocal.checks.suspects import SIDES, Ranking, Suspect, SuspectKind
from gfocal.data.dataset import FileData, ImageData
from gfocal.data.loading import evaluation_loader
from gfocal.data.views import ChangedImages
from gfocal.evaluation.detections import detect_all
from gfocal.models.exported import AnyDetector
from gfocal.models.predict import resolve_threshold
from gfocal.text import pluralize

LOWEST_SCORE = 0.01  # of a detection: what scores less says nothing, not even that something is near
MAX_DETECTIONS = 300  # of an image; those of several classes at one place all count


def mirror_image(image: Tensor) -> Tensor:
    """Left and right exchanged. (3, H, W) -> the same shape"""
    return image.flip(-1)


def map_labels(model_names: Sequence[str], names: Sequence[str]) -> list[int]:
    """The label in a dataset of each class of a model, -1 where it lacks the class.

    For a class-agnostic model the dataset must be seen as of one class, "object".
    """
    place = {name: label for label, name in enumerate(names)}
    return [place.get(name, -1) for name in model_names]


def propose(
    model: AnyDetector,
    data: ImageData,
    batch_size: int = 8,
    num_workers: int = 0,
    on_batch: Callable[[int], object] | None = None,
    mirror: bool = True,
) -> list[Proposals]:
    """What a model finds in each image of a dataset and in its mirror image, in the classes of the dataset.

    ``on_batch`` is called with the number of images of each batch, so that they add up to twice the images. Without
    ``mirror`` the mirror images are left out.
    """
    limits = replace(model.decode_settings, score_threshold=LOWEST_SCORE, max_detections=MAX_DETECTIONS)
    before, model.decode_settings = model.decode_settings, limits
    try:
        found = []
        looked_at: list[ImageData] = [data, ChangedImages(data, mirror_image)] if mirror else [data]
        for images in looked_at:
            batches = evaluation_loader(images, model.input_settings, batch_size, num_workers)
            found.append(detect_all(model, batches, on_batch))
    finally:
        model.decode_settings = before
    labels = map_labels(model.names, data.names)
    ids = [data.sample(index).image_id for index in range(len(data))]
    return [combine(found[0][key], found[1][key] if mirror else None, labels) for key in ids]


def thresholds_of(model: AnyDetector, names: Sequence[str]) -> list[float]:
    """The score of a detection, by label of a dataset: the model's own of each class, else the usual one."""
    own = resolve_threshold(model, None)
    of_model = list(own) if isinstance(own, tuple) else [own] * len(model.names)
    by_name = dict(zip(model.names, of_model, strict=True))
    return [by_name.get(name, 1.0) for name in names]


@dataclass(frozen=True)
class LabelReview:
    """The result of a review, on one dataset of all splits."""

    data: FileData
    split_of: Sequence[str]  # of each image
    ranking: Ranking
    reported: Mapping[SuspectKind, Sequence[Suspect]]
    model: str  # what reviewed, in a line
    num_left_out: int = 0  # images that the model was trained on

    def all_reported(self) -> list[Suspect]:
        """Kind by kind, each by falling evidence."""
        return [one for same in self.reported.values() for one in same]

    def describe(self) -> str:
        """What was reviewed, and by what, in a line."""
        boxes, images = self.ranking.num_boxes, self.ranking.num_images
        text = f"{pluralize(boxes, 'box', 'boxes')} in {pluralize(images, 'image')}, reviewed by {self.model}"
        if self.num_left_out:
            text += f"; {pluralize(self.num_left_out, 'image')} left out, which the model was trained on"
        return text


def as_findings(review: LabelReview) -> list[Finding]:
    """A finding for each suspect that is reported, kind by kind, each by falling evidence."""
    return [_finding(review, one) for one in review.all_reported()]


def _finding(review: LabelReview, one: Suspect) -> Finding:
    sample = review.data.samples[one.image]
    if one.annotation is None:
        corners = " ".join(f"{value:.0f}" for value in one.box)
        record = f"no box ({review.data.names[one.label]}): {corners}"
    else:
        record = describe_box(sample, one.annotation, review.data.names)
    boxes = [one.box] + ([one.detected_box] if one.annotation is not None and one.detected_box else [])
    return Finding(
        code=one.kind,
        file=str(sample.path),
        record=f"{sample.path.name}, {record}" if sample.path is not None else record,
        text=describe_suspect(one, review.data.names),
        split=review.split_of[one.image],
        image=sample.path,
        boxes=tuple(boxes),
    )


def describe_suspect(one: Suspect, names: Sequence[str]) -> str:
    """The evidence against an annotation, in a line."""
    if one.kind == "suspect-class":
        assert one.suggested_label is not None, "a class is suggested"
        other = names[one.suggested_label]
        return f"looks like {other} ({one.score:.2f}), {_times(one.evidence)} as much as like {names[one.label]}"
    if one.kind == "suspect-missing-box":
        return f"{names[one.label]} found with score {one.score:.2f}, and no box is near"
    if one.kind == "suspect-extra-box":
        return f"what is found near scores {one.score:.2f} at most" if one.score > 0 else "nothing is found near"
    assert one.z is not None, "edges have deviations"
    assert one.spread is not None, "edges have deviations"
    side = one.worst_side
    pixels, outward = one.z[side] * one.spread[side], (one.z[side] > 0) == (side >= 2)
    where = "outside" if outward else "inside"
    text = (
        f"{SIDES[side]} edge {abs(pixels):.1f} pixels {where} of where it is expected, {abs(one.z[side]):.1f} spreads"
    )
    others = [SIDES[k] for k in range(4) if k != side and abs(one.z[k]) >= abs(one.z[side]) / 2]
    return text + (f"; also {', '.join(others)}" if others else "")


def _times(evidence: float) -> str:
    ratio = math.exp(evidence)
    return f"{ratio:.0f} times" if ratio >= 1.5 else "about"
