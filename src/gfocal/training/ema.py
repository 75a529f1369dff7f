"""Exponential moving average of the weights: evaluated and saved in place of the weights, if run.ema_decay > 0."""

from __future__ import annotations

import copy

import torch
from torch import nn


class WeightAverage:
    """A second model whose weights are the moving average of the first one's.

    After u updates the decay is min(decay, u / (u + warmup)): the first random weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float, warmup: int = 200) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay lies in 0 <= decay < 1, not {decay}")
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.warmup, self.updates = decay, warmup, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take one step towards the weights of ``model``; counters are copied."""
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + self.warmup))
        pairs = list(zip(_tensors(self.model), _tensors(model), strict=True))
        mine = [mine for mine, _ in pairs if mine.is_floating_point()]
        theirs = [theirs for mine, theirs in pairs if mine.is_floating_point()]
        torch._foreach_lerp_(mine, theirs, 1 - decay)
        for counter, new in pairs:
            if not counter.is_floating_point():
                counter.copy_(new)


def _tensors(model: nn.Module) -> list[torch.Tensor]:
    return [*model.parameters(), *model.buffers()]
