"""Non-maximum suppression: torchvision's operator, without what ``import torchvision`` imports besides.

The operator lies in a library of its own, which loads in milliseconds; the package around it imports all of
torchvision's networks, datasets and transforms, which takes longer than a light detector needs for dozens of images.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch
from torch import Tensor

LIBRARIES = ("_C_stable", "_C")  # names of torchvision's library, since 0.29 and before
# Up to so many boxes one suppression over boxes that are moved apart by class is faster than one for each class, on a
# CPU and on a GPU; the limits are torchvision's, so that results are its own to the last bit.
MAX_TOGETHER, MAX_TOGETHER_GPU = 1000, 25_000


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices of the boxes (N, 4) that overlap no better one by more than a threshold, best first. (M,) int64"""
    return _operator()(boxes, scores, iou_threshold)


def batched_nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """As ``nms``, within each class: boxes with different labels (N,) do not suppress each other. (M,) int64"""
    if len(boxes) > (MAX_TOGETHER if boxes.device.type == "cpu" else MAX_TOGETHER_GPU):
        kept = torch.zeros_like(labels, dtype=torch.bool)
        for label in labels.unique():
            own = (labels == label).nonzero().squeeze(1)
            kept[own[nms(boxes[own], scores[own], iou_threshold)]] = True
        indices = kept.nonzero().squeeze(1)
        return indices[scores[indices].argsort(descending=True)]
    if not len(boxes):
        return labels.new_empty(0, dtype=torch.int64)
    offsets = labels.to(boxes) * (boxes.max() + 1)
    return nms(boxes + offsets[:, None], scores, iou_threshold)


@lru_cache(maxsize=1)
def _operator() -> Callable[[Tensor, Tensor, float], Tensor]:
    """The operator of torchvision's library; where that does not load alone, of torchvision as a whole."""
    if "torchvision" not in sys.modules:
        for path in _libraries():
            try:
                torch.ops.load_library(path)
                return torch.ops.torchvision.nms
            except (OSError, RuntimeError, AttributeError):
                continue
    from torchvision.ops import nms as whole

    return whole


def _libraries() -> list[Path]:
    """The files that may be torchvision's library; nothing is imported."""
    spec = importlib.util.find_spec("torchvision")
    folders = [] if spec is None else [Path(folder) for folder in spec.submodule_search_locations or ()]
    names = [f"{name}{suffix}" for name in LIBRARIES for suffix in (*EXTENSION_SUFFIXES, ".so", ".pyd")]
    return [folder / name for folder in folders for name in dict.fromkeys(names) if (folder / name).is_file()]
