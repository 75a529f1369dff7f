"""Objects found in an image, as numpy arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Detections:
    """Objects found in one image, best first, with the distribution behind each box edge.

    Bin k of side s of detection i lies ``k * bin_sizes[i, s]`` pixels from ``points[i]``, outwards.
    """

    boxes: Floats  # (N, 4) xyxy in pixels of the original image
    scores: Floats  # (N,) in 0..1: the expected IoU of the box with an object of its class
    labels: npt.NDArray[np.int64]  # (N,)
    edges: Floats  # (N, 4, K) probabilities; sides left, top, right, bottom; K = 0: no distribution
    points: Floats  # (N, 2) pixels of the original image
    bin_sizes: Floats  # (N, 4) pixels of the original image per bin
    names: tuple[str, ...]  # of the model's classes, indexed by label
    size: tuple[int, int]  # height and width of the original image

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def class_names(self) -> list[str]:
        """Name of the class of each detection."""
        return [self.names[label] for label in self.labels]

    @property
    def edge_std(self) -> Floats:
        """Standard deviation of each edge. (N, 4), pixels of the original image; NaN without distributions."""
        if not self.edges.shape[-1]:
            return np.full_like(self.boxes, np.nan)
        bins = np.arange(self.edges.shape[-1], dtype=np.float32)
        mean = (self.edges * bins).sum(-1, keepdims=True)
        spread = (self.edges * (bins - mean) ** 2).sum(-1)
        return np.sqrt(spread.clip(0)) * self.bin_sizes

    def to_dicts(self) -> list[dict[str, Any]]:
        """``name``, ``label``, ``score``, ``box`` and, with distributions, ``edge_std`` of each, as plain numbers."""
        std = self.edge_std
        rows = [
            {"name": name, "label": int(label), "score": float(score), "box": box.tolist()}
            for name, label, score, box in zip(self.class_names, self.labels, self.scores, self.boxes, strict=True)
        ]
        if not self.edges.shape[-1]:
            return rows
        return [row | {"edge_std": one.tolist()} for row, one in zip(rows, std, strict=True)]
