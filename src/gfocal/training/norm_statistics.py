"""BatchNorm statistics for weights that come without: measured on images, and the function stays the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gfocal.data.dataset import ImageData
from gfocal.data.loading import evaluation_loader
from gfocal.models.detector import Detector

MAX_IMAGES, BATCH_SIZE = 128, 8
MIN_VARIANCE = 1e-8  # of a channel that is constant on all images


def restore_statistics(model: Detector, data: ImageData) -> int:
    """Give a network its BatchNorm statistics back, if they were folded into its convolutions.

    They are measured on up to 128 images, spread over the data. See ``measure_statistics``. Returns the number of
    images; 0 where nothing was to be done.
    """
    if not model.has_folded_statistics:
        return 0
    number = min(len(data), MAX_IMAGES)
    if data.files is not None:
        data = data.files.select([i * len(data) // number for i in range(number)])
    loader = evaluation_loader(data, model.input_settings, BATCH_SIZE)
    device = next(model.parameters()).device
    batches = itertools.islice(loader, -(-number // BATCH_SIZE))
    measure_statistics(model, (batch.images.to(device) for batch in batches))
    model.has_folded_statistics = False
    return number


@torch.no_grad()
def measure_statistics(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set mean and variance of every BatchNorm to those of its input, and scale and shift so that nothing changes.

    In evaluation mode the network then computes what it did before; in training mode, where a layer normalizes by
    its batch, it starts from about the same function, in place of one that normalizes a second time what the folded
    weights have normalized already.

    Args:
        model: changed in place; layers that no image reaches in evaluation mode stay as they are.
        batches: normalized images (B, 3, H, W); every pass is in evaluation mode and without gradients.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    moments = {norm: torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in norms}
    handles = [norm.register_forward_pre_hook(_adder(moments[norm])) for norm in norms]
    was_training = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        for images in batches:
            model(images)
    finally:
        for handle in handles:
            handle.remove()
        for module, flag in was_training:
            module.training = flag
    for norm, (count, total, squares) in moments.items():
        if norm.running_mean is None or norm.running_var is None or not count[0]:
            continue
        mean = total / count
        variance = (squares / count - mean**2).clamp(min=MIN_VARIANCE)
        old_mean, old_variance = (one.double().cpu() for one in (norm.running_mean, norm.running_var))
        scale = norm.weight.double().cpu() / (old_variance + norm.eps).sqrt()
        norm.bias.copy_(norm.bias.double().cpu() + scale * (mean - old_mean))
        norm.weight.copy_(scale * (variance + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)


def _adder(moments: Tensor) -> Any:
    """A hook that adds count, sum and sum of squares of each channel of a layer's input to ``moments`` (3, C)."""

    def add(_: nn.Module, inputs: Sequence[Tensor]) -> None:
        values = inputs[0].double()
        sums = (values.sum((0, 2, 3)), values.square().sum((0, 2, 3)))
        moments[0] += values.numel() // values.shape[1]
        moments[1:] += torch.stack(sums).cpu()

    return add
