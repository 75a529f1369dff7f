"""What the figures read from trained detectors: what they say at points whose ground truth is known.

A detector is given as the path that ``gfocal.load`` takes, or as it is; images as a dataset's path, or as they
are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from gfocal.assigners.atss import assign_atss
from gfocal.criteria.dense import centerness
from gfocal.data.dataset import ImageData, Sample
from gfocal.data.discovery import read_data, splits
from gfocal.data.loading import Collate, Item
from gfocal.data.preprocess import normalize, resize, resized_shape, scale_xyxy
from gfocal.errors import DataError
from gfocal.models.detector import Detector
from gfocal.models.model_file import load_model
from gfocal.ops.boxes import distances_to_edges, iou
from gfocal.ops.points import inside_own_padding
from gfocal.structures import Batch, HeadOutputs

Model = Detector | str | Path
Data = ImageData | str | Path


def model_of(model: Model, device: torch.device | str = "cpu") -> Detector:
    """A detector, loaded from its file where it is not one already."""
    return model.eval().to(device) if isinstance(model, Detector) else load_model(model, device)


def data_of(data: Data, model: Detector, split: str | None = None) -> ImageData:
    """Annotated images with the detector's classes; of a path with splits, val (else test) if none is named.

    Raises:
        DataError: they cannot be read, or have other classes.
    """
    if isinstance(data, str | Path):
        if split is None:
            there = splits(data)
            split = next((name for name in ("val", "test", *there) if name in there), None)
        return read_data(data, split, names=model.names)
    if tuple(data.names) != tuple(model.names):
        raise DataError(
            f"the images have the classes {', '.join(data.names)}, the detector {', '.join(model.names)}: "
            "give images of its own classes"
        )
    return data


def evenly(data: ImageData, at_most: int) -> range:
    """Indices of all images, or of at most so many at even distances."""
    return range(0, len(data), max(1, -(-len(data) // at_most)))


@dataclass(frozen=True)
class PointReadings:
    """What a detector says at points of many images, and what is true there. N points."""

    positive: Tensor  # (N,) bool: picked by ATSS, else background
    class_score: Tensor  # (N,) 0..1: of the object's class; of background, the highest of any class
    quality: Tensor  # (N,) 0..1: of the separate branch; NaN where there is none
    iou: Tensor  # (N,) 0..1: of the predicted box with its ground truth; of background, with the ground truth it overlaps most
    centerness: Tensor  # (N,) 0..1: the label; NaN for background
    point: Tensor  # (N,) index of the point in its image
    image: Tensor  # (N,) index of the image in the data

    def select(self, keep: Tensor) -> PointReadings:
        """Some of the points, by a boolean mask or indices."""
        return PointReadings(**{field.name: getattr(self, field.name)[keep] for field in fields(self)})

    def cpu(self) -> PointReadings:
        """The same on the CPU."""
        return PointReadings(**{field.name: getattr(self, field.name).cpu() for field in fields(self)})


def read_points(
    model: Detector, data: ImageData, at_most: int = 200, background: int | None = 40, seed: int = 0
) -> PointReadings:
    """All positives of up to ``at_most`` images, and ``background`` other points of each, drawn at random.

    ``background`` of None takes all of them. Positives are those of ATSS, also for a detector that was trained with
    another assigner, so that detectors are evaluated at the same points.

    Raises:
        DataError: no image has a positive.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for index, batch, outputs in each_output(model, data, at_most):
        one = readings_of(model, batch, outputs, index)
        others = torch.nonzero(~one.positive).flatten()
        if background is not None:
            others = others[torch.randperm(len(others), generator=generator)[:background]]
        found.append(one.select(torch.cat((torch.nonzero(one.positive).flatten(), others))))
    if not any(bool(one.positive.any()) for one in found):
        raise DataError("no point is positive in any of these images: the figure needs images with objects")
    return PointReadings(
        **{field.name: torch.cat([getattr(one, field.name) for one in found]) for field in fields(PointReadings)}
    )


@torch.inference_mode()
def each_output(model: Detector, data: ImageData, at_most: int) -> Iterator[tuple[int, Batch, HeadOutputs]]:
    """Index, network input and output of each image, one at a time, on the model's device."""
    device = next(model.parameters()).device
    for index in evenly(data, at_most):
        batch = batch_of(model, *data.read(index)).to(device)
        yield index, batch, model(batch.images)


def batch_of(model: Detector, pixels: Tensor, sample: Sample) -> Batch:
    """One image as the detector sees it, with its ground truth; crowd regions are no ground truth."""
    settings = model.input_settings
    old = (int(pixels.shape[1]), int(pixels.shape[2]))
    new = resized_shape(*old, settings.short_side, settings.long_side)
    boxes = sample.boxes * scale_xyxy(old, new)
    image = normalize(resize(pixels, new, settings.antialias), settings)
    return Collate(settings.multiple)([Item(image, boxes, sample.labels, sample.crowd, old, sample.image_id)])


def readings_of(model: Detector, batch: Batch, outputs: HeadOutputs, image: int) -> PointReadings:
    """Readings at every point of one image that takes part in training."""
    points = outputs.points
    taking_part = inside_own_padding(points, batch.sizes)
    gt_index = assign_atss(points, batch.targets, taking_part).gt_index[0]  # (P,)
    kept = torch.nonzero(taking_part[0]).flatten()
    owner = gt_index[kept]
    positive = owner >= 0
    place, valid = points.select(kept), batch.targets.valid[0]
    boxes = model.box_coder.boxes(outputs.box_logits[0, kept], place)  # (N, 4)
    ground_truth = batch.targets.boxes[0, owner.clamp(min=0)]
    scores = outputs.cls_logits[0, kept].float().sigmoid()
    of_class = scores.gather(1, batch.targets.labels[0, owner.clamp(min=0)].unsqueeze(1)).squeeze(1)
    overlaps = iou(boxes.unsqueeze(1), batch.targets.boxes[0]) * valid  # (N, G)
    said = outputs.quality_logits
    nothing = torch.full_like(of_class, torch.nan)
    readings = PointReadings(
        positive=positive,
        class_score=torch.where(positive, of_class, scores.amax(1)),
        quality=nothing if said is None else said[0, kept].float().sigmoid(),
        iou=torch.where(positive, iou(boxes, ground_truth), overlaps.amax(1)),
        centerness=torch.where(positive, centerness(distances_to_edges(place.xy, ground_truth)), nothing),
        point=kept,
        image=torch.full_like(kept, image),
    )
    return readings.cpu()


def correlation(x: Tensor, y: Tensor) -> float:
    """Pearson's coefficient; NaN where one of the two does not vary."""
    x, y = x.double() - x.double().mean(), y.double() - y.double().mean()
    return float((x * y).sum() / (x.square().sum() * y.square().sum()).sqrt())
