"""A detector over a data set: detections of every picture, and their AP."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gfocal.boxes import area
from gfocal.data.samples import ImageData, Sample
from gfocal.decoding import DecodeSettings, decode
from gfocal.evaluation.coco_ap import CocoResult, ScoredBoxes, coco_ap
from gfocal.representations import Representation
from gfocal.structures import Batch, Detections


@torch.inference_mode()
def detect_all(
    model: nn.Module,
    batches: Iterable[Batch],
    names: tuple[str, ...],
    distribution: Representation,
    settings: DecodeSettings,
    device: torch.device | str = "cpu",
    on_batch: Callable[[int], object] | None = None,
) -> dict[int, Detections]:
    """Detections by image id; ``on_batch`` is told the number of images of each batch that is done."""
    was_training = model.training
    model.eval()
    found: dict[int, Detections] = {}
    for batch in batches:
        outputs = model(batch.images.to(device, non_blocking=True))
        decoded = decode(outputs, distribution, batch.sizes, batch.original_sizes, names, settings)
        found.update(zip(batch.image_ids, decoded, strict=True))
        if on_batch is not None:
            on_batch(len(batch.image_ids))
    model.train(was_training)
    return found


class Scored(NamedTuple):
    """What an evaluation reads of the detections of a picture."""

    boxes: Tensor  # (N, 4)
    scores: Tensor  # (N,)
    labels: Tensor  # (N,)


def as_rows(found: Mapping[int, ScoredBoxes]) -> Tensor:
    """Detections as numbers that processes can send each other. (N, 7) float64: image id, label, score, box"""
    rows = [torch.zeros(0, 7, dtype=torch.float64)]
    for image_id, one in found.items():
        head = torch.stack([torch.full_like(one.labels, image_id), one.labels], 1).double()
        rows.append(torch.cat([head, one.scores.double().unsqueeze(1), one.boxes.double()], 1).cpu())
    return torch.cat(rows)


def from_rows(rows: Tensor) -> dict[int, Scored]:
    """What ``as_rows`` was made of, by image id in ascending order; each image's detections in their order."""
    if not len(rows):
        return {}
    order = rows[:, 0].argsort(stable=True)
    image_ids, counts = rows[order, 0].long().unique_consecutive(return_counts=True)
    parts = rows[order].split(counts.tolist())
    return {
        image_id: Scored(part[:, 3:].float(), part[:, 2].float(), part[:, 1].long())
        for image_id, part in zip(image_ids.tolist(), parts, strict=True)
    }


def average_precision(data: ImageData, found: Mapping[int, ScoredBoxes]) -> CocoResult:
    """The COCO numbers of detections on a data set."""
    samples = [data.sample(i) for i in range(len(data))]
    return coco_ap(samples, found, data.names, [truth_areas(sample) for sample in samples])


def nothing_found(result: CocoResult, settings: DecodeSettings) -> str:
    """Why an evaluation counted no detection at all, in a line; empty where it counted some."""
    if result.num_detections:
        return ""
    return (
        f"nothing was found: no score is above the model's threshold of {settings.score_threshold:g} "
        "(normal in the first epochs)"
    )


def truth_areas(sample: Sample) -> Tensor:
    """Area of each truth box's object: of its outline where the data states it, else of the box. (G,)"""
    of_boxes = area(sample.boxes.double())
    if sample.areas is None:
        return of_boxes
    return torch.where(sample.areas.isnan(), of_boxes, sample.areas)
