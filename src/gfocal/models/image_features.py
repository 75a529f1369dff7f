"""What an image looks like to a detector: the means of the maps of its pyramid, from the pass that detects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor

from gfocal.models.detector import Detector
from gfocal.models.inference_copy import inference_network
from gfocal.models.precision import Precision, current_calibration
from gfocal.models.predict import NetworkInput, predict_batch
from gfocal.structures import Detections, HeadOutputs

MAX_FEATURES = 256  # of an image; more channels are projected

B = TypeVar("B", bound=NetworkInput)


def predict_with_features(
    model: Detector,
    batches: Iterable[B],
    score_threshold: float | None = None,
    precision: Precision = "auto",
) -> Iterator[tuple[B, list[Detections], Tensor]]:
    """Each batch with the detections of its images, as ``predict`` gives them, and what the images look like.

    The features are float32 (B, D) on the processor, D at most ``MAX_FEATURES``. Only those of one model
    can be compared.
    """
    settings = model.decode_settings
    if score_threshold is not None:
        settings = replace(settings, score_threshold=score_threshold)
    network = inference_network(model, precision)
    trunk: Callable[[Tensor], Sequence[Tensor]]
    if network is not None:
        trunk, head, dtype, calibration = network.trunk, network.head, network.dtype, network.calibration
    else:
        trunk, head, dtype, calibration = _Trunk(model), model.head, torch.float32, current_calibration(model)
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            watched = _Watched(trunk, head, dtype, batch.sizes)
            yield batch, predict_batch(model, watched, batch, settings, calibration), watched.features.cpu()
    finally:
        model.train(was_training)


class _Trunk:
    """Backbone and neck of a detector as they are."""

    def __init__(self, model: Detector) -> None:
        self.model = model

    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        return self.model.neck(self.model.backbone(images))


class _Watched:
    """A network that keeps the features of its last batch."""

    def __init__(
        self,
        trunk: Callable[[Tensor], Sequence[Tensor]],
        head: Callable[[Sequence[Tensor]], HeadOutputs],
        dtype: torch.dtype,
        sizes: Tensor,
    ) -> None:
        self.trunk, self.head, self.dtype, self.sizes = trunk, head, dtype, sizes
        self.features = torch.zeros(0)

    def __call__(self, images: Tensor) -> HeadOutputs:
        with torch.autocast(images.device.type, enabled=False):
            levels = self.trunk(images.to(self.dtype, memory_format=torch.channels_last))
            self.features = mean_maps(levels, self.sizes.to(images.device), images.shape[2:])
            return self.head(levels)


def mean_maps(levels: Sequence[Tensor], sizes: Tensor, shape: Sequence[int]) -> Tensor:
    """The mean of every channel of every level over the image, without the padding. (B, D) float32

    Args:
        levels: (B, F, h, w) maps of the pyramid; F may differ by level.
        sizes: (B, 2) height and width of each image before padding.
        shape: height and width of the padded batch.
    """
    means = []
    for level in levels:
        inside = _is_inside(level.shape[2:], sizes, shape)
        means.append((level.float() * inside).sum((2, 3)) / inside.sum((2, 3)))
    found = torch.cat(means, 1)
    return found if found.shape[1] <= MAX_FEATURES else found @ _projection(found.shape[1]).to(found.device)


def _is_inside(level: Sequence[int], sizes: Tensor, shape: Sequence[int]) -> Tensor:
    """Which cells of a level lie in the image, not in the padding. (B, 1, h, w) float32"""
    masks = []
    for axis in (0, 1):
        count = (sizes[:, axis] * level[axis] / shape[axis]).ceil().clamp(min=1)
        masks.append(torch.arange(level[axis], device=sizes.device) < count.unsqueeze(1))
    return (masks[0].unsqueeze(2) & masks[1].unsqueeze(1)).unsqueeze(1).float()


@lru_cache(maxsize=4)
def _projection(size: int) -> Tensor:
    """(F, MAX_FEATURES): a random projection, which nearly keeps distances; Johnson and Lindenstrauss 1984."""
    return torch.randn(size, MAX_FEATURES, generator=torch.Generator().manual_seed(0)) / MAX_FEATURES**0.5
