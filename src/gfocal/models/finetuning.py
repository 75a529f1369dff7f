"""Fine-tuning: a copy of a trained detector for other classes, and parts of it that are excluded from training."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from gfocal.models.description import build_from_description, describe
from gfocal.models.detector import Detector
from gfocal.models.freezing import BackbonePart

# The convolutions whose outputs are classes, of every head: one for all levels, or SSD's one for each.
CLASS_LAYER = re.compile(r"(^|\.)cls_outs?\.(\d+\.)?(weight|bias)$")


@dataclass(frozen=True)
class Transfer:
    """Which classes of a fine-tuned detector the detector before it knew."""

    known: tuple[str, ...]  # their rows of the class layer are copied
    new: tuple[str, ...]  # start as in an untrained detector

    def __str__(self) -> str:
        total = len(self.known) + len(self.new)
        if total == 1:
            return "knows the class" if self.known else "does not know the class"
        text = f"knows {len(self.known) or 'none'} of your {total} classes"
        if self.known and self.new:
            shown = ", ".join(self.new[:5]) + (", ..." if len(self.new) > 5 else "")
            text += f"; new: {shown}"
        return text


def for_classes(model: Detector, names: Sequence[str]) -> Detector:
    """A copy of a detector for other classes, to be trained: ``for_classes(gfocal.load("runs/old"), ("cat", "owl"))``

    Classes known by name keep their weights, in any order. New ones start at random, with a score of about 0.01
    everywhere. Input size, frozen parts and the settings of decoding stay.

    Raises:
        ValueError: there are no names, or one comes twice.
    """
    names = tuple(names)
    if not names or len(set(names)) != len(names):
        raise ValueError(f"classes need a name each, all different, not {list(names)}")
    about = describe(model) | {"names": list(names)}
    # Of the weights and the data of the model before.
    for key in ("thresholds", "provenance", "renames", "bf16_check", "calibration"):
        about.pop(key, None)
    fresh = build_from_description(about)
    fresh.to(next(model.parameters()).device)
    state = model.state_dict()
    for key, value in fresh.state_dict().items():
        if CLASS_LAYER.search(key):
            copy_class_rows(value, state[key], names, model.names)
        else:
            value.copy_(state[key])
    return fresh.train(model.training)


def compare_classes(names: Sequence[str], before: Sequence[str]) -> Transfer:
    """Which of ``names`` a detector for the classes ``before`` knows."""
    known = tuple(name for name in names if name in before)
    return Transfer(known, tuple(name for name in names if name not in before))


def copy_class_rows(into: torch.Tensor, out_of: torch.Tensor, names: Sequence[str], before: Sequence[str]) -> None:
    """Copy the rows of the classes that both lists name. into (A * C, ...), out_of (A * D, ...), anchor-major."""
    into, out_of = into.unflatten(0, (-1, len(names))), out_of.unflatten(0, (-1, len(before)))
    pairs = [(row, list(before).index(name)) for row, name in enumerate(names) if name in before]
    for row, old in pairs:
        into[:, row].copy_(out_of[:, old])


Part = Literal["none", "stem", "backbone", "neck"]  # ``BackbonePart`` and the neck


def freeze(model: Detector, upto: Part | int) -> None:
    """Freeze a detector from its input up to and including a part, and nothing after it.

    Args:
        model: changed in place. Frozen BatchNorm keeps its statistics too.
        upto: ``none`` trains everything; ``stem``; the stem and a number of the backbone's stages; ``backbone``;
            ``neck``, so that only the head is trained.

    Raises:
        ValueError: the backbone has no such part.
    """
    part: BackbonePart | int = "backbone" if upto == "neck" else upto
    model.backbone.freeze_up_to(part)
    model.freeze_neck(upto == "neck")
