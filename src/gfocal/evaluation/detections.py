"""Detections of a model on a dataset, and their AP; how processes exchange them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gfocal.data.dataset import ImageData
from gfocal.data.loading import evaluation_loader
from gfocal.evaluation.coco_ap import MAX_DETECTIONS, CocoResult, ScoredBoxes, coco_ap
from gfocal.models.exported import AnyDetector
from gfocal.models.precision import Precision
from gfocal.models.predict import predict
from gfocal.ops.decoding import DecodeSettings
from gfocal.structures import Batch, Detections
from gfocal.text import pluralize


def detect_all(
    model: AnyDetector,
    batches: Iterable[Batch],
    on_batch: Callable[[int], object] | None = None,
    precision: Precision = "auto",
    compiled: bool = False,
) -> dict[int, Detections]:
    """Detections by image id; ``on_batch`` is called with the number of images of each batch that is done.

    ``precision`` and ``compiled`` are those of ``gfocal.models.predict.predict``.
    """
    found: dict[int, Detections] = {}
    for batch, detections in predict(model, batches, None, precision, compiled):
        found.update(zip(batch.image_ids, detections, strict=True))
        if on_batch is not None:
            on_batch(len(batch.image_ids))
    return found


class ScoredDetections(NamedTuple):
    """The part of the detections of an image that an evaluation reads."""

    boxes: Tensor  # (N, 4)
    scores: Tensor  # (N,)
    labels: Tensor  # (N,)
    edge_std: Tensor | None = None  # (N, 4) pixels, if wanted

    def relabel(self, new_labels: Sequence[int], names: tuple[str, ...]) -> ScoredDetections:
        """With other classes: label i becomes ``new_labels[i]``; those whose new label is negative are left out."""
        labels = torch.tensor(new_labels, dtype=torch.int64)[self.labels]
        keep = labels >= 0
        std = None if self.edge_std is None else self.edge_std[keep]
        return ScoredDetections(self.boxes[keep], self.scores[keep], labels[keep], std)


def take_best(detections: ScoredBoxes, count: int) -> ScoredDetections:
    """The detections of highest score in one image; among equal scores those given first."""
    best = detections.scores.argsort(descending=True, stable=True)[:count].sort().values
    return ScoredDetections(detections.boxes[best], detections.scores[best], detections.labels[best])


def detections_to_rows(detections: Mapping[int, ScoredBoxes], edge_std: bool = False) -> Tensor:
    """Detections as one tensor, for processes to exchange.

    (N, 8) float64: upper and lower 32 bits of the image id, which does not fit into a float64, label, score, box;
    with ``edge_std`` (N, 12), also the standard deviations of ``Detections``.
    """
    rows = [torch.zeros(0, 12 if edge_std else 8, dtype=torch.float64)]
    for image_id, one in detections.items():
        number = torch.full_like(one.labels, image_id)
        head = torch.stack([number >> 32, number & 0xFFFFFFFF, one.labels], 1).double()
        columns = [head, one.scores.double().unsqueeze(1), one.boxes.double()]
        if edge_std:
            assert isinstance(one, Detections)
            columns.append(one.edge_std.double())
        rows.append(torch.cat(columns, 1).cpu())
    return torch.cat(rows)


def rows_to_detections(rows: Tensor) -> dict[int, ScoredDetections]:
    """The reverse of ``detections_to_rows``, by image id in ascending order; the order within an image is kept."""
    if not len(rows):
        return {}
    numbers = (rows[:, 0].long() << 32) | rows[:, 1].long()
    order = numbers.argsort(stable=True)
    image_ids, counts = numbers[order].unique_consecutive(return_counts=True)
    parts = rows[order, 2:].split(counts.tolist())
    return {
        image_id: ScoredDetections(
            boxes=part[:, 2:6].float(),
            scores=part[:, 1].float(),
            labels=part[:, 0].long(),
            edge_std=part[:, 6:].float() if part.shape[1] > 6 else None,
        )
        for image_id, part in zip(image_ids.tolist(), parts, strict=True)
    }


def evaluate_model(model: AnyDetector, data: ImageData, batch_size: int = 1) -> CocoResult:
    """The COCO numbers of a model on a dataset, in this process alone."""
    batches = evaluation_loader(data, model.input_settings, batch_size)
    return average_precision(data, detect_all(model, batches))


def average_precision(data: ImageData, detections: Mapping[int, ScoredBoxes]) -> CocoResult:
    """The COCO numbers of detections on a dataset."""
    samples = [data.sample(i) for i in range(len(data))]
    return coco_ap(samples, detections, data.names)


def explain_limit(data: ImageData, max_detections: int = MAX_DETECTIONS, per_class: bool = True) -> str:
    """How much ground truth a limit of detections puts out of reach, in a line; empty if none.

    The limit is that of each image and class, as COCO has it, or that of each image, as a model has it.
    """
    if data.files is None:  # generated images have a few objects
        return ""
    table = data.files.table
    objects = table if table.stated is None else table.stated
    image = torch.arange(len(table)).repeat_interleave(objects.offsets.diff())
    group = image * len(data.names) + objects.labels if per_class else image
    counts = group[~objects.crowd].bincount()
    total = int(counts.sum())
    beyond = int((counts - max_detections).clamp(min=0).sum())
    if not beyond:
        return ""
    unit = "class and image" if per_class else "image"
    most = int(counts.max())
    return (
        f"{beyond:,} of {pluralize(total, 'object')} cannot be found: only the best {max_detections:,} detections of "
        f"each {unit} count, and an image has up to {most:,} objects{' of a class' * per_class}, so that AP stays "
        f"below 1; 'gfocal eval --max-detections {most}' gives AP with {most:,} too"
    )


def explain_no_detections(result: CocoResult, settings: DecodeSettings) -> str:
    """Why an evaluation has no detections at all, in a line; empty if it has some."""
    if result.num_detections:
        return ""
    return (
        f"no detections: no score is above the model's threshold of {settings.score_threshold:g} "
        "(normal in the first epochs; after the last, train for longer)"
    )
