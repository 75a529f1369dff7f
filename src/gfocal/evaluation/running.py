"""A detector over a data set: detections of every picture, and their AP."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from gfocal.boxes import area
from gfocal.data.samples import ImageData, Sample
from gfocal.decoding import DecodeSettings, decode
from gfocal.evaluation.coco_ap import CocoResult, coco_ap
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


def average_precision(data: ImageData, found: dict[int, Detections]) -> CocoResult:
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
