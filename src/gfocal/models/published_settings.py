"""How a detector was published: values for its loss and decoding, which ``gfocal.build`` maps to functions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gfocal.ops.decoding import DecodeSettings


@dataclass(frozen=True, kw_only=True)
class PublishedSettings:
    """What a preset's paper states about training and decoding; a config's ``[method]`` may change some of it."""

    # Whose loss: of GFL, of the other dense detectors (``gfocal.criteria.dense``), or one of
    # SSD's, SAPD's and NanoDet-Plus's own.
    criterion: Literal["gfl", "dense", "ssd", "sapd", "nanodet"] = "dense"
    assigner: Literal["atss", "fcos", "max_iou", "fovea", "ssd", "sapd", "dsla"]
    quality: Literal["none", "branch", "guided", "joint"]  # how the head predicts the quality of a box (figure 6)
    measure: Literal["iou", "centerness"] = "iou"  # what the quality is
    beta: float = 2.0  # of QFL
    gamma: float = 2.0  # of the Focal Loss
    alpha: float = 0.25  # of the Focal Loss: weight of positives
    box_loss: Literal["giou", "log_iou", "smooth_l1", "gaussian"] = "giou"
    smooth_l1_beta: float = 0.0  # where the square becomes a line; 0: plain L1
    cls_weight: float = 1.0
    box_weight: float = 2.0
    dfl_weight: float = 0.0  # 0: no DFL
    count_images: bool = False  # the class loss is divided by positives plus images
    decode: DecodeSettings = field(default_factory=DecodeSettings)
    # Of an auxiliary part: the first epoch, from 0, in which it no longer trains the rest; None: there is no part.
    detach_epoch: int | None = None
