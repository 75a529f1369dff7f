"""The viewer of an evaluation: detections beside the ground truth, of all images or of some."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gfocal.data.dataset import ImageData, Sample
from gfocal.errors import ImageError
from gfocal.evaluation.coco_ap import ScoredBoxes
from gfocal.evaluation.detections import ScoredDetections
from gfocal.evaluation.evaluate import Evaluation
from gfocal.evaluation.matching import Ints
from gfocal.structures import Detections
from gfocal.structures.detected import COVERAGE
from gfocal.visualize.viewer.pack import (
    Annotated,
    PackedImage,
    choose_side,
    pack_calibration,
    pack_image,
    pack_pixels,
)
from gfocal.visualize.viewer.viewer_page import ViewerFile, ViewerSettings, WrittenViewer, write_viewer

LOWEST_SCORE = 0.1  # of detections on the page, unless a threshold is lower: most of the others are false


@dataclass(frozen=True)
class EvaluatedImages:
    """What was evaluated."""

    data: ImageData
    detections: Mapping[int, ScoredBoxes]  # by image id
    evaluation: Evaluation

    def settings(self, title: str) -> ViewerSettings:
        """Of a page about these images, at the thresholds in use."""
        found = (one.calibration for one in self.detections.values() if isinstance(one, Detections))
        calibration = next((one for one in found if one is not None), None)
        names = self.evaluation.boxes.names
        packed = pack_calibration(calibration, len(names))
        return ViewerSettings(title, names, self.evaluation.thresholds, packed, COVERAGE)

    def pack(self, image_ids: Sequence[int] | None, side: int) -> Iterator[PackedImage]:
        """The images of these ids, None for all, with pixels of a longer side of at most ``side``.

        One that cannot be read is shown without its pixels.
        """
        boxes = self.evaluation.boxes
        order = np.argsort(boxes.image, kind="stable")
        ends = np.searchsorted(boxes.image[order], np.arange(len(boxes.image_ids) + 1))
        place_of = {int(image_id): k for k, image_id in enumerate(boxes.image_ids)}
        index_of = {int(self.data.sample(i).image_id): i for i in range(len(self.data))}
        for image_id in index_of if image_ids is None else image_ids:
            place = place_of[image_id]
            yield self._pack(index_of[image_id], place, order[ends[place] : ends[place + 1]], side)

    def _pack(self, index: int, place: int, of_image: Ints, side: int) -> PackedImage:
        """The image at ``index`` of the data, at ``place`` in the evaluation, with its detections ``of_image``."""
        boxes, matching = self.evaluation.boxes, self.evaluation.matching
        lowest = min([LOWEST_SCORE, *self.evaluation.thresholds])
        kept = of_image[boxes.score[of_image] >= lowest]
        ground_truth = np.flatnonzero(boxes.gt_image == place)
        local = {int(d): i for i, d in enumerate(kept)}
        annotated = Annotated(
            boxes=torch.as_tensor(boxes.gt_box[ground_truth]),
            labels=torch.as_tensor(boxes.gt_label[ground_truth]),
            crowd=torch.as_tensor(boxes.crowd[ground_truth]),
            detection=torch.tensor([local.get(int(d), -1) for d in matching.detection_index[ground_truth]]),
            kinds=torch.as_tensor(self.evaluation.errors.kind[kept]),
        )
        sample = self.data.sample(index)
        found = _select(self.detections.get(sample.image_id), boxes.row[kept])
        try:
            image, _ = self.data.read(index)
        except ImageError:
            return pack_image(_name(sample), found, sample.size or _extent(sample), annotated)
        size = (int(image.shape[1]), int(image.shape[2]))
        return pack_image(_name(sample), found, size, annotated) | {"jpeg": pack_pixels(image, side)}


def write_evaluation_viewer(
    file: ViewerFile, images: EvaluatedImages, title: str, advance: Callable[[int], Any] = lambda _: None
) -> WrittenViewer:
    """Write the page of all images; ``advance`` is called with 1 after each. The folder must exist."""

    def packed() -> Iterator[PackedImage]:
        for one in images.pack(None, side):
            yield one
            advance(1)

    side = file.side or choose_side(len(images.data), file.max_bytes)
    return write_viewer(file.path, images.settings(title), packed(), file.max_bytes)


def _name(sample: Sample) -> str:
    return f"image {sample.image_id}" if sample.path is None else Path(sample.path).name


def _extent(sample: Sample) -> tuple[int, int]:
    """A height and width that hold the ground truth, for an image whose own are unknown."""
    corners = sample.boxes[:, 2:].amax(0).tolist() if len(sample.boxes) else [1, 1]
    return math.ceil(corners[1]), math.ceil(corners[0])


def _select(found: Any, rows: Ints) -> Any:
    """The detections of some rows."""
    index = torch.as_tensor(rows)
    if isinstance(found, Detections):
        return found.to("cpu").select(index)
    if found is None:
        return ScoredDetections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    return ScoredDetections(*(torch.as_tensor(x).cpu()[index] for x in (found.boxes, found.scores, found.labels)))
