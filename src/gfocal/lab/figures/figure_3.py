"""Figures 3, 13 and 14: predicted edge distributions on images, of ambiguous and of sharp edges.

Chosen by the detector's own uncertainty: among true positives, those whose most uncertain edge has the largest
standard deviation, and those with the smallest; in bins, so that pyramid levels are comparable.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torchvision.ops import box_iou

from gfocal.data.dataset import ImageData
from gfocal.errors import DataError
from gfocal.lab.figures.canvas import Table
from gfocal.lab.figures.contact_sheet import Tile, save_contact_sheet
from gfocal.lab.figures.trained import evenly_spaced
from gfocal.models.detector import Detector
from gfocal.models.predict import detect_batch
from gfocal.structures import Detections
from gfocal.visualize.edges import draw_edge_distributions

SIDES = ("left", "top", "right", "bottom")


@dataclass(frozen=True)
class ShownEdges:
    """One detection, and the standard deviation of its most uncertain edge."""

    image: int  # index in the data
    kind: str  # "ambiguous" or "sharp"
    found: Detections  # of length 1
    std_in_bins: float  # of the most uncertain edge


def edges_in_images(
    model: Detector,
    data: ImageData,
    count: int = 3,
    at_most: int = 200,
    score_threshold: float = 0.3,
    iou_threshold: float = 0.5,
) -> list[ShownEdges]:
    """``count`` ambiguous detections and as many sharp ones, each in another image.

    Raises:
        DataError: the detector has no edge distributions, or finds no object in these images.
    """
    ranked: list[tuple[float, int, Detections]] = []
    for index in evenly_spaced(data, at_most):
        image, sample = data.read(index)
        found = detect_batch(model, [image], score_threshold)[0].to("cpu")
        if not found.edges.shape[-1]:
            raise DataError("figure 3 needs a detector with edge distributions; a Dirac edge has none")
        overlap = torch.where(found.labels[:, None] == sample.labels, box_iou(found.boxes, sample.boxes), 0.0)
        if not overlap.numel():
            continue
        for k in torch.nonzero(overlap.amax(1) >= iou_threshold).flatten().tolist():
            std = float((found.edge_std[k] / found.bin_sizes[k]).max())
            ranked.append((std, index, found.select(torch.tensor([k]))))
    if not ranked:
        raise DataError("figure 3: the detector finds no object in these images")
    ranked.sort(key=lambda row: row[0])
    chosen: list[ShownEdges] = []
    for kind, order in (("ambiguous", ranked[::-1]), ("sharp", ranked)):
        for std, index, one in order:
            if sum(shown.kind == kind for shown in chosen) == count:
                break
            if index not in [shown.image for shown in chosen]:
                chosen.append(ShownEdges(index, kind, one, std))
    return chosen


def draw_edges_in_images(shown: list[ShownEdges], path: Path, data: ImageData) -> None:
    """Draw as PNG: a row of ambiguous objects, a row of sharp ones."""
    rows, titles = [], []
    for kind, title in (("ambiguous", "most uncertain edges"), ("sharp", "least uncertain edges")):
        row = []
        for one in (one for one in shown if one.kind == kind):
            image = draw_edge_distributions(data.read(one.image)[0], one.found, crop=True, min_side=240)
            caption = (
                f"{one.found.class_names[0]} {float(one.found.scores[0]):.2f}, up to ±{one.std_in_bins:.1f} bins"
            )
            row.append(Tile(image, caption))
        if row:
            rows.append(row)
            titles.append(title)
    save_contact_sheet(rows, path, title="Predicted distribution of each edge", row_titles=titles)


def edges_in_images_table(shown: list[ShownEdges]) -> Table:
    """One row per edge: image, kind, class, score, side, position and std in pixels, and its probabilities."""
    rows = [
        (
            one.image,
            one.kind,
            one.found.class_names[0],
            float(one.found.scores[0]),
            side,
            float(one.found.boxes[0, s]),
            float(one.found.edge_std[0, s]),
            float(one.found.bin_sizes[0, s]),
            *one.found.edges[0, s].tolist(),
        )
        for one in shown
        for s, side in enumerate(SIDES)
    ]
    num_bins = shown[0].found.edges.shape[-1] if shown else 0
    head = ["image", "kind", "class", "score", "side", "position_px", "std_px", "bin_px"]
    head += [f"p{i}" for i in range(num_bins)]
    return {name: [row[i] for row in rows] for i, name in enumerate(head)}
