"""What of a backbone with a stem and stages is excluded from training: the settings, and what they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from torch import nn

BackbonePart = Literal["none", "stem", "backbone"]


@dataclass(frozen=True)
class Freezing:
    """What of a backbone is excluded from training.

    Args:
        frozen_stages: how many leading stages are never trained, the stem with them.
        norm_eval: keep all BatchNorm in evaluation mode while training.
        stem: freeze the stem even without a stage.
        norms: freeze the weights of all BatchNorm, as in networks of the Caffe kind.
    """

    frozen_stages: int = 0
    norm_eval: bool = False
    stem: bool = False
    norms: bool = False

    def settings(self) -> dict[str, Any]:
        """The four by name; ``stem`` is set wherever a stage is frozen."""
        return asdict(replace(self, stem=self.stem or self.frozen_stages > 0))

    def modules(self, parts: Sequence[Sequence[nn.Module]]) -> list[nn.Module]:
        """Those never trained, of the modules of the stem and of each stage."""
        count = 1 + self.frozen_stages if self.stem or self.frozen_stages else 0
        return [module for part in parts[:count] for module in part]


def freezing_up_to(part: BackbonePart | int, before: Freezing, name: str, stages: int) -> Freezing:
    """Freezes the stem, the stem and a number of stages, all, or nothing; the settings of BatchNorm stay.

    Args:
        part: up to where.
        before: the settings it has.
        name: of the network, for the error.
        stages: how many it has.

    Raises:
        ValueError: there are not as many stages.
    """
    if isinstance(part, int) and not 0 <= part <= stages:
        raise ValueError(f"{name} has {stages} stages to freeze, not {part}")
    frozen = part if isinstance(part, int) else stages if part == "backbone" else 0
    return replace(before, frozen_stages=frozen, stem=part in ("stem", "backbone"))


def exclude_from_training(backbone: nn.Module, frozen: Sequence[nn.Module], norms: bool) -> None:
    """Train all of a backbone but its frozen modules and, with ``norms``, the weights of its BatchNorm."""
    backbone.requires_grad_(True)
    for module in frozen:
        module.requires_grad_(False)
    if norms:
        for module in backbone.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.requires_grad_(False)


def keep_statistics(network: nn.Module, frozen: Sequence[nn.Module], all_norms: bool) -> None:
    """Put the frozen modules of a network in evaluation mode, and with ``all_norms`` each of its BatchNorm."""
    for module in frozen:
        module.eval()
    if all_norms:
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
