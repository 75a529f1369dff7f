"""Losses of the paper as pure functions, un-reduced, in its symbols.

In reading order:

    gfl.py       QFL, DFL, and GFL above both
    focal.py     the Focal Loss
    varifocal.py  the Varifocal Loss
    sparse.py    QFL, FL and VFL of whole points, where almost all targets are zero
    box.py       the GIoU loss, and the box losses of the other detectors
    divergence.py  of a student's edge distributions from a teacher's
    ssd.py       softmax with a background, and hard negatives
    numerics.py  float32 arithmetic, and powers with a gradient at zero
"""

from __future__ import annotations

from gfocal.losses.box import giou_loss
from gfocal.losses.focal import focal_loss
from gfocal.losses.gfl import distribution_focal_loss, generalized_focal_loss, quality_focal_loss
from gfocal.losses.varifocal import varifocal_loss

__all__ = [
    "distribution_focal_loss",
    "focal_loss",
    "generalized_focal_loss",
    "giou_loss",
    "quality_focal_loss",
    "varifocal_loss",
]
