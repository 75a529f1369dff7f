"""Optimizers, and the learning rate over a run: [optimizer] and [schedule] of a config."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from gfocal.text import pluralize


@dataclass(frozen=True)
class OptimizerSettings:
    """Which optimizer, and its numbers."""

    kind: Literal["sgd", "adamw"] = "sgd"
    """sgd with momentum, or adamw."""
    lr: float = 0.01
    """Learning rate at ``lr_batch`` images per step, greater than 0; scaled to the actual number: see
    ``scale_learning_rate``."""
    lr_batch: int = 16
    """Images per step, over all processes, that ``lr`` is meant for; at least 1."""
    momentum: float = 0.9
    """Of sgd, 0 <= momentum < 1."""
    weight_decay: float = 1e-4
    """At least 0."""
    decay_norms: bool = True
    """Whether weight decay applies to norms and biases too, as in the published configs."""
    backbone_lr: float = 1.0
    """The backbone's learning rate as a factor of the rest's, at least 0."""
    layer_decay: float = 1.0
    """Each backbone stage's learning rate as a factor of the next one's, 0 < layer_decay <= 1."""
    clip_norm: float = 0.0
    """Norm that gradients are scaled down to where theirs is larger; 0: no clipping."""

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
    """The learning rate over a run, as a factor of its full value."""

    kind: Literal["step", "cosine"] = "step"
    """step: a tenth after each milestone; cosine: half a cosine from 1 to ``final_lr_factor``."""
    milestones: tuple[int, ...] = (8, 11)
    """Of step: epochs after which the learning rate falls to a tenth."""
    final_lr_factor: float = 0.01
    """Of cosine: factor at the end of the run, 0..1."""
    warmup_steps: int = 500
    """Optimizer steps of linear warm-up, at least 0; a fifth of the run at most, see ``limit_warmup``."""
    warmup_from: float = 1 / 3
    """Factor at the very first step, 0..1."""

    def __post_init__(self) -> None:
        for name in ("final_lr_factor", "warmup_from"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} lies in 0..1, not {getattr(self, name)}")
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps must be at least 0, not {self.warmup_steps}")


def make_optimizer(model: nn.Module, settings: OptimizerSettings, images_per_step: int) -> torch.optim.Optimizer:
    """Optimizer over the trainable parameters, its learning rate scaled to the number of images per step."""
    lr = scale_learning_rate(settings, images_per_step)
    factors = backbone_lr_factors(model, settings)
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


def scale_learning_rate(settings: OptimizerSettings, images_per_step: int) -> float:
    """The learning rate for so many images per step, over all processes.

    Of sgd in proportion to their number (Goyal et al. 2017, section 2.1), of adamw to its square root, because Adam's
    step does not grow with the gradient (Malladi et al. 2022, who change its betas too).
    """
    ratio = images_per_step / settings.lr_batch
    return settings.lr * (math.sqrt(ratio) if settings.kind == "adamw" else ratio)


def backbone_lr_factors(model: nn.Module, settings: OptimizerSettings) -> dict[str, float]:
    """The learning rate of the backbone's parameters by name, as a factor of the rest's.

    With ``layer_decay`` d the last of S stages has ``backbone_lr``, the one before it d times that, the stem d^S.
    """
    backbone: Any = getattr(model, "backbone", None)
    if backbone is None:
        return {}
    factors = {f"backbone.{name}": settings.backbone_lr for name, _ in backbone.named_parameters()}
    if settings.layer_decay < 1:
        names = {id(parameter): f"backbone.{name}" for name, parameter in backbone.named_parameters()}
        parts = backbone.parts()
        for depth, part in enumerate(parts):
            for parameter in (parameter for module in part for parameter in module.parameters()):
                factors[names[id(parameter)]] *= settings.layer_decay ** (len(parts) - 1 - depth)
    return factors


def limit_warmup(settings: ScheduleSettings, steps: int) -> tuple[ScheduleSettings, str]:
    """A schedule whose warm-up is at most a fifth of a run's steps; and a line about it, empty if nothing changed."""
    most = steps // 5
    if settings.warmup_steps <= most:
        return settings, ""
    line = f"takes {pluralize(most, 'step')}, a fifth of this run's {steps}, instead of {settings.warmup_steps}"
    if not most:
        line = f"of {settings.warmup_steps} steps is left out in a run of {steps}"
    return replace(settings, warmup_steps=most), f"warm-up {line}"


def lr_factor(step: int, steps_per_epoch: int, epochs: int, settings: ScheduleSettings) -> float:
    """Factor of the learning rate at a step, counted from 0 over the whole run."""
    progress = min(step / max(steps_per_epoch * epochs, 1), 1.0)
    return warmup_factor(step, settings) * schedule_factor(step // steps_per_epoch, progress, settings)


def warmup_factor(step: int, settings: ScheduleSettings) -> float:
    """Factor of the warm-up at a step: 1 after it."""
    if step >= settings.warmup_steps:
        return 1.0
    return settings.warmup_from + (1 - settings.warmup_from) * step / settings.warmup_steps


def schedule_factor(epoch: float, progress: float, settings: ScheduleSettings) -> float:
    """Factor of the schedule after so many epochs, which are the fraction ``progress``, 0..1, of the run."""
    if settings.kind == "step":
        return 0.1 ** sum(epoch >= at for at in settings.milestones)
    if settings.kind == "cosine":
        return settings.final_lr_factor + (1 - settings.final_lr_factor) * (1 + math.cos(math.pi * progress)) / 2
    raise ValueError(f"the schedule is step or cosine, not {settings.kind!r}")


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to a factor of its initial one."""
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
        group["lr"] = group["initial_lr"] * factor
