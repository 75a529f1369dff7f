"""A detector over a dataset: detections of every image, and their AP."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from gfocal.data.dataset import ImageData, Sample
from gfocal.data.loading import evaluation_loader
from gfocal.evaluation.coco_ap import CocoResult, ScoredBoxes, coco_ap
from gfocal.models.detector import Detector
from gfocal.models.predict import predict
from gfocal.ops.boxes import area
from gfocal.ops.decoding import DecodeSettings
from gfocal.structures import Batch, Detections


def detect_all(
    model: Detector, batches: Iterable[Batch], on_batch: Callable[[int], object] | None = None
) -> dict[int, Detections]:
    """Detections by image id; ``on_batch`` is called with the number of images of each batch that is done."""
    found: dict[int, Detections] = {}
    for batch, detections in predict(model, batches):
        found.update(zip(batch.image_ids, detections, strict=True))
        if on_batch is not None:
            on_batch(len(batch.image_ids))
    return found


class Scored(NamedTuple):
    """What an evaluation reads of the detections of an image."""

    boxes: Tensor  # (N, 4)
    scores: Tensor  # (N,)
    labels: Tensor  # (N,)
    edge_std: Tensor | None = None  # (N, 4) pixels, where it was asked for


def as_rows(found: Mapping[int, ScoredBoxes], edge_std: bool = False) -> Tensor:
    """Detections as numbers that processes can send each other.

    (N, 8) float64: upper and lower 32 bits of the image id, which has more than a float64 holds, label, score, box;
    with ``edge_std`` (N, 12), and the standard deviations of ``Detections``.
    """
    rows = [torch.zeros(0, 12 if edge_std else 8, dtype=torch.float64)]
    for image_id, one in found.items():
        number = torch.full_like(one.labels, image_id)
        head = torch.stack([number >> 32, number & 0xFFFFFFFF, one.labels], 1).double()
        columns = [head, one.scores.double().unsqueeze(1), one.boxes.double()]
        if edge_std:
            assert isinstance(one, Detections)
            columns.append(one.edge_std.double())
        rows.append(torch.cat(columns, 1).cpu())
    return torch.cat(rows)


def from_rows(rows: Tensor) -> dict[int, Scored]:
    """What ``as_rows`` was made of, by image id in ascending order; each image's detections in their order."""
    if not len(rows):
        return {}
    numbers = (rows[:, 0].long() << 32) | rows[:, 1].long()
    order = numbers.argsort(stable=True)
    image_ids, counts = numbers[order].unique_consecutive(return_counts=True)
    parts = rows[order, 2:].split(counts.tolist())
    return {
        image_id: Scored(
            boxes=part[:, 2:6].float(),
            scores=part[:, 1].float(),
            labels=part[:, 0].long(),
            edge_std=part[:, 6:].float() if part.shape[1] > 6 else None,
        )
        for image_id, part in zip(image_ids.tolist(), parts, strict=True)
    }


def evaluated(model: Detector, data: ImageData, batch_size: int = 1) -> CocoResult:
    """The COCO numbers of a model on a dataset, by this process alone."""
    batches = evaluation_loader(data, model.input_settings, batch_size)
    return average_precision(data, detect_all(model, batches))


def average_precision(data: ImageData, found: Mapping[int, ScoredBoxes]) -> CocoResult:
    """The COCO numbers of detections on a dataset."""
    samples = [data.sample(i) for i in range(len(data))]
    return coco_ap(samples, found, data.names, [gt_areas(sample) for sample in samples])


def nothing_found(result: CocoResult, settings: DecodeSettings) -> str:
    """Why an evaluation counted no detection at all, in a line; empty where it counted some."""
    if result.num_detections:
        return ""
    return (
        f"nothing was found: no score is above the model's threshold of {settings.score_threshold:g} "
        "(normal in the first epochs)"
    )


def gt_areas(sample: Sample) -> Tensor:
    """Area of each ground-truth box's object: of its outline where the data states it, else of the box. (G,)"""
    of_boxes = area(sample.boxes.double())
    if sample.areas is None:
        return of_boxes
    return torch.where(sample.areas.isnan(), of_boxes, sample.areas)
