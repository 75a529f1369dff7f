"""Detections for tests of the viewer, packed as the page has them."""

from __future__ import annotations

import dataclasses

import torch

from calibrations import calibration, detections
from gfocal.evaluation.error_analysis import ON_BACKGROUND, TRUE_POSITIVE
from gfocal.structures import Detections
from gfocal.structures.calibration import Calibration
from gfocal.visualize.viewer.pack import Annotated, PackedImage, pack_calibration, pack_image, pack_pixels
from gfocal.visualize.viewer.viewer_page import ViewerSettings

SIZE = (300, 400)
HOSTILE = "<b>bold</b> & \"quoted\" </script> 'x'"


def found(seed: int = 0, made: Calibration | None = None, count: int = 6, num_bins: int = 9) -> Detections:
    """Boxes in an image of 300 x 400 with distributions of any shape; scores 0.95, 0.85, ..., classes in turn."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([250.0, 150.0])
    boxes = torch.cat([corner, corner + 60 + 60 * torch.rand(count, 2, generator=generator)], 1)
    edges = (2 * torch.randn(count, 4, num_bins, generator=generator)).softmax(-1)
    scores = 0.95 - 0.1 * torch.arange(count)
    one = detections(boxes, scores, torch.arange(count) % 2, edges, SIZE)
    return dataclasses.replace(one, calibration=made)


def apart(made: Calibration | None = None) -> Detections:
    """Two boxes that do not touch: class a with score 0.9, class b with 0.4, each edge certain but for two bins."""
    boxes = torch.tensor([[40.0, 50.0, 140.0, 150.0], [220.0, 80.0, 360.0, 240.0]])
    edges = torch.zeros(2, 4, 9)
    edges[0, :, 3:5] = 0.5
    edges[1, :, :] = 1 / 9
    one = detections(boxes, torch.tensor([0.9, 0.4]), torch.tensor([0, 1]), edges, SIZE)
    return dataclasses.replace(one, calibration=made)


def packed(
    one: Detections, name: str = "one.jpg", side: int = 128, annotated: Annotated | None = None
) -> PackedImage:
    """The page's data of an image of one gray."""
    image = torch.full((3, *SIZE), 90, dtype=torch.uint8)
    return pack_image(name, one, SIZE, annotated) | {"jpeg": pack_pixels(image, side)}


def annotated() -> Annotated:
    """Ground truth of ``apart``: its first box was found, its second one is on background, and a third is missed."""
    return Annotated(
        boxes=torch.tensor([[42.0, 52.0, 141.0, 149.0], [200.0, 10.0, 260.0, 60.0]]),
        labels=torch.tensor([0, 1]),
        crowd=torch.tensor([False, False]),
        detection=torch.tensor([0, -1]),
        kinds=torch.tensor([TRUE_POSITIVE, ON_BACKGROUND]),
    )


def settings(
    made: Calibration | None = None, names: tuple[str, str] = ("a", "b"), **changes: object
) -> ViewerSettings:
    one = ViewerSettings("Two classes", names, calibration=pack_calibration(made, 2))
    return dataclasses.replace(one, **changes)  # type: ignore[arg-type]


__all__ = ["HOSTILE", "SIZE", "annotated", "apart", "calibration", "found", "packed", "settings"]
