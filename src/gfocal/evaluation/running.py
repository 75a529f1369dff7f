"""A detector over a data set: detections of every picture, and their AP."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from gfocal.data.samples import ImageData
from gfocal.decoding import DecodeSettings, decode
from gfocal.distributions import GeneralDistribution
from gfocal.evaluation.coco_ap import CocoResult, coco_ap
from gfocal.structures import Batch, Detections


@torch.inference_mode()
def detect_all(
    model: nn.Module,
    batches: Iterable[Batch],
    names: tuple[str, ...],
    distribution: GeneralDistribution,
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
    return coco_ap([data.sample(i) for i in range(len(data))], found, data.names)
