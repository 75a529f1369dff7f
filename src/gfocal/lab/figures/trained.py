"""Predictions of trained detectors at points whose ground truth is known.

A detector is given as such or as a path that ``gfocal.load`` takes, images as a dataset or as its path.
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
from gfocal.data.discovery import list_splits, read_data
from gfocal.data.loading import Collate, Item
from gfocal.data.preprocess import resize_to_input, scale_xyxy
from gfocal.errors import DataError
from gfocal.models.detector import Detector
from gfocal.models.model_file import load_model
from gfocal.ops.boxes import distances_to_edges, iou
from gfocal.ops.points import inside_own_padding
from gfocal.structures import Batch, HeadOutputs

Model = Detector | str | Path
Data = ImageData | str | Path


def as_detector(model: Model, device: torch.device | str = "cpu") -> Detector:
    """A detector on a device, loaded if it is given as a path."""
    return model.eval().to(device) if isinstance(model, Detector) else load_model(model, device)


def as_data(data: Data, model: Detector, split: str | None = None) -> ImageData:
    """Annotated images with the detector's classes; if a path has splits and none is named, val, else test.

    Raises:
        DataError: they cannot be read, or have other classes.
    """
    if isinstance(data, str | Path):
        if split is None:
            there = list_splits(data)
            split = next((name for name in ("val", "test", *there) if name in there), None)
        return read_data(data, split, names=model.names)
    if tuple(data.names) != tuple(model.names):
        raise DataError(
            f"the images have the classes {', '.join(data.names)}, the detector {', '.join(model.names)}: "
            "give images of its own classes"
        )
    return data


def evenly_spaced(data: ImageData, at_most: int) -> range:
    """Indices of all images, or of at most ``at_most`` evenly spaced ones."""
    return range(0, len(data), max(1, -(-len(data) // at_most)))


@dataclass(frozen=True)
class PointPredictions:
    """Predictions and ground truth at N points of many images."""

    positive: Tensor  # (N,) bool: assigned to an object by ATSS, else background
    class_score: Tensor  # (N,) 0..1: of the object's class; for background, the highest of all classes
    quality: Tensor  # (N,) 0..1: of the separate branch; NaN where there is none
    iou: Tensor  # (N,) 0..1: of the predicted box with its ground truth; for background, the highest with any
    centerness: Tensor  # (N,) 0..1: the label; NaN for background
    point: Tensor  # (N,) index of the point in its image
    image: Tensor  # (N,) index of the image in the data

    def select(self, keep: Tensor) -> PointPredictions:
        """Some of the points, by a boolean mask or by indices."""
        return PointPredictions(**{field.name: getattr(self, field.name)[keep] for field in fields(self)})

    def cpu(self) -> PointPredictions:
        """The same on the CPU."""
        return PointPredictions(**{field.name: getattr(self, field.name).cpu() for field in fields(self)})


def read_points(
    model: Detector, data: ImageData, at_most: int = 200, background: int | None = 40, seed: int = 0
) -> PointPredictions:
    """All positives of up to ``at_most`` images, and ``background`` random other points of each (None: all).

    Positives are those of ATSS, also for a detector that was trained with another assigner, so that detectors are
    compared at the same points.

    Raises:
        DataError: no image has a positive.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for index, batch, outputs in each_output(model, data, at_most):
        one = read_image_points(model, batch, outputs, index)
        others = torch.nonzero(~one.positive).flatten()
        if background is not None:
            others = others[torch.randperm(len(others), generator=generator)[:background]]
        found.append(one.select(torch.cat((torch.nonzero(one.positive).flatten(), others))))
    if not any(bool(one.positive.any()) for one in found):
        raise DataError("no point is positive in any of these images: the figure needs images with objects")
    return PointPredictions(
        **{field.name: torch.cat([getattr(one, field.name) for one in found]) for field in fields(PointPredictions)}
    )


@torch.inference_mode()
def each_output(model: Detector, data: ImageData, at_most: int) -> Iterator[tuple[int, Batch, HeadOutputs]]:
    """Index, network input and output of each image, one image at a time, on the model's device."""
    device = next(model.parameters()).device
    for index in evenly_spaced(data, at_most):
        batch = make_batch(model, *data.read(index)).to(device)
        yield index, batch, model(batch.images)


def make_batch(model: Detector, pixels: Tensor, sample: Sample) -> Batch:
    """One image as network input, with its ground truth; crowd regions are ignored."""
    settings = model.input_settings
    old = (int(pixels.shape[1]), int(pixels.shape[2]))
    resized = resize_to_input(pixels, settings)
    boxes = sample.boxes * scale_xyxy(old, (int(resized.shape[1]), int(resized.shape[2])))
    return Collate(settings)([Item(resized, boxes, sample.labels, sample.crowd, old, sample.image_id)])


def read_image_points(model: Detector, batch: Batch, outputs: HeadOutputs, image: int) -> PointPredictions:
    """Predictions and ground truth at every point of one image that takes part in training."""
    points = outputs.points
    taking_part = inside_own_padding(points, batch.sizes)
    gt_index = assign_atss(points, batch.targets, taking_part).gt_index[0]  # (P,)
    index = torch.nonzero(taking_part[0]).flatten()
    owner = gt_index[index]
    positive = owner >= 0
    place, valid = points.select(index), batch.targets.valid[0]
    boxes = model.box_coder.boxes(outputs.box_logits[0, index], place)  # (N, 4)
    ground_truth = batch.targets.boxes[0, owner.clamp(min=0)]
    scores = outputs.cls_logits[0, index].float().sigmoid()
    of_class = scores.gather(1, batch.targets.labels[0, owner.clamp(min=0)].unsqueeze(1)).squeeze(1)
    overlaps = iou(boxes.unsqueeze(1), batch.targets.boxes[0]) * valid  # (N, G)
    quality_logits = outputs.quality_logits
    nan = torch.full_like(of_class, torch.nan)
    predictions = PointPredictions(
        positive=positive,
        class_score=torch.where(positive, of_class, scores.amax(1)),
        quality=nan if quality_logits is None else quality_logits[0, index].float().sigmoid(),
        iou=torch.where(positive, iou(boxes, ground_truth), overlaps.amax(1)),
        centerness=torch.where(positive, centerness(distances_to_edges(place.xy, ground_truth)), nan),
        point=index,
        image=torch.full_like(index, image),
    )
    return predictions.cpu()


def correlation(x: Tensor, y: Tensor) -> float:
    """Pearson's correlation coefficient; NaN if one of the two is constant."""
    x, y = x.double() - x.double().mean(), y.double() - y.double().mean()
    return float((x * y).sum() / (x.square().sum() * y.square().sum()).sqrt())
