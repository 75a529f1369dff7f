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
    """Forward, loss, backward, optimizer step. Returns the losses without synchronizing."""
    with devices.accumulate(model):
        outputs = model(batch.images)
        losses = criterion(outputs, batch.targets, batch.sizes)
        devices.backward(losses.total)
        if clip_norm:
            devices.clip_grad_norm(model, clip_norm)
        optimizer.step()
        optimizer.zero_grad()
    return losses
