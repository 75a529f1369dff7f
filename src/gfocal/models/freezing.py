"""Parts of a detector that training leaves alone."""

from __future__ import annotations

from typing import Literal

from gfocal.models.backbone import Backbone
from gfocal.models.detector import Detector

Part = Literal["none", "stem", "backbone", "neck"]


def freeze(model: Detector, upto: Part | int) -> None:
    """Freeze a detector from the picture's side up to and with a part, and nothing behind it.

    Args:
        model: changed in place. Frozen BatchNorm keeps its statistics too.
        upto: ``none`` trains everything; ``stem``; the stem and a number of the backbone's stages; ``backbone``;
            ``neck``, then the head alone is trained.

    Raises:
        ValueError: the backbone has no such part.
    """
    backbone = model.backbone
    everything = upto in ("backbone", "neck")
    if isinstance(backbone, Backbone):
        stages = len(backbone.parts()) - 1
        if isinstance(upto, int) and not 0 <= upto <= stages:
            raise ValueError(f"{backbone.name} has {stages} stages to freeze, not {upto}")
        frozen = upto if isinstance(upto, int) else stages if everything else 0
        backbone.freeze(frozen, backbone.norm_eval, upto == "stem" or everything, backbone.norms_fixed)
    elif upto not in ("none", "backbone", "neck"):
        raise ValueError(
            f"the backbone of {model.built_from['preset']} is frozen as a whole (backbone) or not (none)"
        )
    else:
        backbone.requires_grad_(not everything)
    model.freeze_neck(upto == "neck")
