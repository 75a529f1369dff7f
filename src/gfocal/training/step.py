"""One training step: start reading here."""

from __future__ import annotations

import torch
from torch import nn

from gfocal.criteria.gfl import Criterion
from gfocal.structures import Batch, Losses
from gfocal.training.distributed import Devices


def training_step(
    model: nn.Module,
    criterion: Criterion,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    devices: Devices,
    clip_norm: float = 0.0,
) -> Losses:
    """Predict, compare with the ground truth, and move the weights a little. Returns the losses, not waited for."""
    with devices.accumulating(model):
        outputs = model(batch.images)
        losses = criterion(outputs, batch.targets, batch.sizes)
        devices.backward(losses.total)
        if clip_norm:
            devices.clip(model, clip_norm)
        optimizer.step()
        optimizer.zero_grad()
    return losses
