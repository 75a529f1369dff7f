"""What ends a run early: a loss that is not finite, an epoch in which nothing could be learned."""

from __future__ import annotations

import torch
from torch import Tensor

from gfocal.data.preparation import InputSettings
from gfocal.structures import Losses
from gfocal.words import counted


class NonFiniteLoss(RuntimeError):  # noqa: N818
    """The loss became NaN or infinite; the message names the terms, the step and the pictures."""


class NothingToLearn(RuntimeError):  # noqa: N818
    """No object of a whole epoch met a point of the detector; the message says what to change."""


def check_finite(losses: Losses, image_ids: tuple[int, ...], step: int) -> None:
    """NonFiniteLoss unless the loss of a batch is finite."""
    if torch.isfinite(losses.total.detach()):
        return
    terms = ", ".join(f"{name} {float(value):.4g}" for name, value in losses.terms().items())
    raise NonFiniteLoss(
        f"the loss is not finite at step {step} ({terms}) in the batch of image ids "
        f"{', '.join(map(str, image_ids))}. The last checkpoint is from before this epoch. Ways out: a lower "
        "learning rate, clip_norm, precision 'no'; or look at these pictures' boxes"
    )


def check_learned(num_positives: Tensor, num_images: int, settings: InputSettings) -> None:
    """NothingToLearn unless an epoch had a positive point, by their number over all processes."""
    if num_positives > 0:
        return
    raise NothingToLearn(
        f"nothing was learned: in {counted(num_images, 'picture')} at {settings.short_side} x {settings.long_side} "
        "pixels no object was large enough to be seen by the detector. Ways out: larger pictures (--short-side, "
        "size.short_side and size.long_side of the recipe), or look whether the boxes are those of the pictures"
    )
