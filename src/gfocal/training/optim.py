"""Optimizers and the learning rate over a run."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from gfocal.models.backbone import Backbone
from gfocal.text import counted


@dataclass(frozen=True)
class OptimizerSettings:
    """Which optimizer, and its numbers."""

    kind: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.01  # at ``lr_batch`` images per step; scaled in proportion to the actual number
    lr_batch: int = 16
    momentum: float = 0.9  # of sgd
    weight_decay: float = 1e-4
    decay_norms: bool = True  # whether norms and biases decay too, as in the published config
    backbone_lr: float = 1.0  # the backbone's learning rate, as a factor of the rest's
    layer_decay: float = 1.0  # each stage's rate, as a factor of the next one's; the stem has the least
    clip_norm: float = 0.0  # gradients are scaled down to this norm; 0: never

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be greater than 0, not {self.lr}")
        if self.lr_batch < 1:
            raise ValueError(f"lr_batch must be at least 1, not {self.lr_batch}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum lies in 0 <= momentum < 1, not {self.momentum}")
        for name in ("weight_decay", "backbone_lr", "clip_norm"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay lies in 0 < layer_decay <= 1, not {self.layer_decay}")


@dataclass(frozen=True)
class ScheduleSettings:
    """The learning rate as a factor of its full value."""

    kind: Literal["step", "cosine"] = "step"
    milestones: tuple[int, ...] = (8, 11)  # epochs after which the rate is a tenth, of ``step``
    final_lr_factor: float = 0.01  # where ``cosine`` ends
    warmup_steps: int = 500  # at most a fifth of a run, see ``capped``
    warmup_from: float = 1 / 3  # factor of the very first step

    def __post_init__(self) -> None:
        for name in ("final_lr_factor", "warmup_from"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} lies in 0..1, not {getattr(self, name)}")
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps must be at least 0, not {self.warmup_steps}")


def make_optimizer(model: nn.Module, settings: OptimizerSettings, images_per_step: int) -> torch.optim.Optimizer:
    """Optimizer over the trainable parameters, its rate scaled to the number of images per step."""
    lr = settings.lr * images_per_step / settings.lr_batch
    factors = rate_factors(model, settings)
    groups: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = settings.decay_norms or parameter.dim() > 1
            key = (name.startswith("backbone."), factors.get(name, 1.0), decays)
            groups.setdefault(key, []).append(parameter)
    parameters = [
        {"params": group, "lr": lr * factor, "weight_decay": settings.weight_decay if decays else 0.0}
        for (_, factor, decays), group in groups.items()
    ]
    if settings.kind == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=settings.momentum, fused=True)
    if settings.kind == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, fused=True)
    raise ValueError(f"the optimizer is sgd or adamw, not {settings.kind!r}")


def rate_factors(model: nn.Module, settings: OptimizerSettings) -> dict[str, float]:
    """The learning rate of the backbone's parameters by name, as a factor of the rest's.

    With ``layer_decay`` d the last of S stages has ``backbone_lr``, the one before it d times that, the stem d^S.
    """
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        return {}
    factors = {f"backbone.{name}": settings.backbone_lr for name, _ in backbone.named_parameters()}
    if settings.layer_decay < 1 and isinstance(backbone, Backbone):
        names = {id(parameter): f"backbone.{name}" for name, parameter in backbone.named_parameters()}
        parts = backbone.parts()
        for depth, part in enumerate(parts):
            for parameter in (parameter for module in part for parameter in module.parameters()):
                factors[names[id(parameter)]] *= settings.layer_decay ** (len(parts) - 1 - depth)
    return factors


def capped(settings: ScheduleSettings, steps: int) -> tuple[ScheduleSettings, str]:
    """A schedule whose warm-up is at most a fifth of a run's steps, and the note that it was shortened, if it was."""
    most = steps // 5
    if settings.warmup_steps <= most:
        return settings, ""
    taken = (
        f"takes {counted(most, 'step')}, a fifth of this run's {steps},"
        if most
        else f"has no place in {steps} steps,"
    )
    note = f"warm-up {taken} instead of {settings.warmup_steps}"
    return replace(settings, warmup_steps=most), f"note: {note}"


def lr_factor(step: int, steps_per_epoch: int, epochs: int, settings: ScheduleSettings) -> float:
    """Factor of the learning rate at a step, counted from 0 over the whole run."""
    if step < settings.warmup_steps:
        warmup = settings.warmup_from + (1 - settings.warmup_from) * step / settings.warmup_steps
    else:
        warmup = 1.0
    if settings.kind == "step":
        epoch = step // steps_per_epoch
        return warmup * 0.1 ** sum(epoch >= at for at in settings.milestones)
    if settings.kind == "cosine":
        progress = min(step / max(steps_per_epoch * epochs, 1), 1.0)
        return warmup * (
            settings.final_lr_factor + (1 - settings.final_lr_factor) * (1 + math.cos(math.pi * progress)) / 2
        )
    raise ValueError(f"the schedule is step or cosine, not {settings.kind!r}")


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's rate to a factor of the one it was made with."""
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
        group["lr"] = group["initial_lr"] * factor
