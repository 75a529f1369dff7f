"""Moving average of the weights: evaluated and saved in their place, if the settings of a run ask for one."""

from __future__ import annotations

import copy

import torch
from torch import nn


class WeightAverage:
    """A second model whose weights are the moving average of the first one's.

    With a ``decay`` that of update u is min(decay, u / (u + warmup)): the first random weights are soon forgotten.

    With a ``share`` s, 0 < s <= 1/2, in its place it is s (u - 1) / (1 - s + s (u - 1)): polynomial-decay averaging
    (Shamir and Zhang 2013, with eta = 1/s - 2). The averaged weights are then, in the mean, s (u - 1) updates old:
    the same share of a run of any length, which need not be known; with 1/2 it is the mean of all.
    """

    def __init__(self, model: nn.Module, decay: float, warmup: int = 200, share: float = 0.0) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay lies in 0 <= decay < 1, not {decay}")
        if not 0 <= share <= 0.5:
            raise ValueError(f"share lies in 0..0.5, not {share}")
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.warmup, self.share, self.updates = decay, warmup, share, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take one step towards the weights of ``model``; counters are copied."""
        self.updates += 1
        pairs = list(zip(_tensors(self.model), _tensors(model), strict=True))
        mine = [mine for mine, _ in pairs if mine.is_floating_point()]
        theirs = [theirs for mine, theirs in pairs if mine.is_floating_point()]
        torch._foreach_lerp_(mine, theirs, 1 - self.decay_at(self.updates))
        for counter, new in pairs:
            if not counter.is_floating_point():
                counter.copy_(new)

    def decay_at(self, update: int) -> float:
        """Decay of an update, counted from 1."""
        if not self.share:
            return min(self.decay, update / (update + self.warmup))
        return self.share * (update - 1) / (1 - self.share + self.share * (update - 1))


def _tensors(model: nn.Module) -> list[torch.Tensor]:
    return [*model.parameters(), *model.buffers()]
