"""Made-up detections whose errors have a known law, and a calibration of made-up numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gfocal.calibration.matched import TruePositives, match_detections
from gfocal.data.dataset import Sample
from gfocal.structures import Detections
from gfocal.structures.calibration import Calibration, ScoreCurve, SpreadRule, keep_order_statistics

NUM_BINS, CELL, GRID = 9, 100, 4  # an image has 4 x 4 cells, of which each has one box at most
SIZE = (CELL * GRID, CELL * GRID)


@dataclass(frozen=True)
class Annotated:
    """Images without pixels."""

    samples: tuple[Sample, ...]
    names: tuple[str, ...] = ("a", "b")
    files = None

    @property
    def category_ids(self) -> tuple[int, ...]:
        return tuple(range(1, len(self.names) + 1))

    def __len__(self) -> int:
        return len(self.samples)

    def sample(self, index: int) -> Sample:
        return self.samples[index]

    def read(self, index: int) -> tuple[Tensor, Sample]:
        raise NotImplementedError

    def at_epoch(self, epoch: int) -> Annotated:
        return self


def detections(
    boxes: Tensor, scores: Tensor, labels: Tensor, edges: Tensor | None = None, size: tuple[int, int] = SIZE
) -> Detections:
    """Detections of two classes; their distributions are one bin each unless given."""
    if edges is None:
        edges = torch.nn.functional.one_hot(torch.full((len(boxes), 4), 3), NUM_BINS).float()
    return Detections(
        boxes=boxes.float(),
        scores=scores.float(),
        labels=labels.long(),
        edges=edges.float(),
        points=((boxes[:, :2] + boxes[:, 2:]) / 2).float(),
        bin_sizes=torch.full((len(boxes), 4), 4.0),
        names=("a", "b"),
        size=size,
    )


def scenes(
    num_images: int, per_image: int = 8, seed: int = 0, hard: float = 1.0, rare: float = 0.5
) -> tuple[Annotated, dict[int, Detections]]:
    """Annotated images and their detections, whose edges err in proportion to the deviation of their distribution.

    A share ``rare`` of the objects is of class b, whose errors are ``hard`` times as large. A quarter of the
    detections finds nothing, with lower scores.
    """
    generator = torch.Generator().manual_seed(seed)
    samples, found = [], {}
    for image_id in range(num_images):
        cells = torch.randperm(GRID * GRID, generator=generator)[: per_image + per_image // 3]
        corner = torch.stack([cells % GRID, cells // GRID], 1) * CELL + 25.0
        boxes = torch.cat([corner, corner + 40 + 10 * torch.rand(len(cells), 2, generator=generator)], 1)
        labels = (torch.rand(len(cells), generator=generator) < rare).long()
        std = 0.3 + torch.rand(len(cells), 4, generator=generator)  # in bins
        bins = torch.arange(NUM_BINS)
        edges = (-((bins - 4.3) ** 2) / (2 * std.unsqueeze(-1) ** 2)).softmax(-1)
        errors = torch.randn(len(cells), 4, generator=generator) * std * (1 + (hard - 1) * labels).unsqueeze(1)
        scores = 0.5 + 0.45 * torch.rand(len(cells), generator=generator)
        scores[per_image:] -= 0.35
        order = scores.argsort(descending=True)
        found[image_id] = detections(boxes[order] + errors[order], scores[order], labels[order], edges[order])
        no_crowd = torch.zeros(per_image, dtype=torch.bool)
        samples.append(Sample(image_id, None, boxes[:per_image], labels[:per_image], no_crowd, SIZE))
    return Annotated(tuple(samples)), found


def true_positives(num_images: int, per_image: int = 8, seed: int = 0) -> TruePositives:
    """Those of ``scenes``."""
    data, found = scenes(num_images, per_image, seed)
    return match_detections(data, found, 0.3)[0]


def calibration(weights: str = "", num_classes: int = 2, count: int = 300) -> Calibration:
    """One of made-up numbers, with a guarantee and a curve for each class."""
    generator = torch.Generator().manual_seed(0)
    ratios = torch.rand(count, 4, generator=generator).double() * 3
    curve = ScoreCurve((0.1, 0.5, 0.9), (0.05, 0.4, 0.8))
    curves = dict.fromkeys(range(-1, num_classes), curve)
    correlation = torch.eye(4) * 0.7 + 0.3
    return Calibration(
        spread=SpreadRule(),
        std_factor=1.2,
        correlation=tuple(tuple(float(v) for v in row) for row in correlation.double().fill_diagonal_(1).tolist()),
        boxes=keep_order_statistics(ratios.amax(1)),
        edges=tuple(keep_order_statistics(ratios[:, side]) for side in range(4)),
        boxes_of_class={label: keep_order_statistics(ratios.amax(1) * (label + 1)) for label in range(num_classes)},
        iou_curves=curves,
        precision_curves=curves,
        num_images=50,
        num_boxes=count,
        iou_threshold=0.5,
        score_threshold=0.3,
        is_fitted=False,
        data="made up",
        weights=weights,
    )
