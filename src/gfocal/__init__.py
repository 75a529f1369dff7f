"""gfocal: Generalized Focal Loss detectors in plain PyTorch.

    import gfocal
    model = gfocal.load("runs/mine")             # or gfocal.create("gfl_r50_fpn", num_classes=80)
    found = model.detect("photo.jpg")
    found.boxes, found.scores, found.class_names, found.edge_std
    for one in found: one.name, one.score, one.box

Names are imported when they are first used, so that ``import gfocal`` is fast and imports nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from gfocal.criteria.gfl import GFLCriterion
    from gfocal.data.discovery import read_data
    from gfocal.data.synthetic.scenes import SyntheticScenes
    from gfocal.evaluation.coco_ap import coco_ap
    from gfocal.interop.any_model import load
    from gfocal.interop.conversions import to_pandas, to_supervision, to_torchvision
    from gfocal.interop.hub import push_to_hub
    from gfocal.models.detector import Detector
    from gfocal.models.model_file import save_model as save
    from gfocal.models.zoo import create
    from gfocal.ops.decoding import decode
    from gfocal.ops.distributions import GeneralDistribution
    from gfocal.structures import Batch, Detection, Detections, HeadOutputs, Losses, Points, Targets
    from gfocal.training.loop import train
    from gfocal.visualize import draw_detections, draw_edge_distributions

_HOME = {
    "Batch": "gfocal.structures",
    "Detection": "gfocal.structures",
    "Detections": "gfocal.structures",
    "Detector": "gfocal.models.detector",
    "GFLCriterion": "gfocal.criteria.gfl",
    "GeneralDistribution": "gfocal.ops.distributions",
    "HeadOutputs": "gfocal.structures",
    "Losses": "gfocal.structures",
    "Points": "gfocal.structures",
    "SyntheticScenes": "gfocal.data.synthetic.scenes",
    "Targets": "gfocal.structures",
    "coco_ap": "gfocal.evaluation.coco_ap",
    "create": "gfocal.models.zoo",
    "decode": "gfocal.ops.decoding",
    "draw_detections": "gfocal.visualize",
    "draw_edge_distributions": "gfocal.visualize",
    "load": "gfocal.interop.any_model",
    "push_to_hub": "gfocal.interop.hub",
    "read_data": "gfocal.data.discovery",
    "save": "gfocal.models.model_file:save_model",
    "to_pandas": "gfocal.interop.conversions",
    "to_supervision": "gfocal.interop.conversions",
    "to_torchvision": "gfocal.interop.conversions",
    "train": "gfocal.training.loop",
}

__all__ = [  # noqa: RUF022 (in the order of use)
    "create",
    "load",
    "save",
    "push_to_hub",
    "train",
    "read_data",
    "SyntheticScenes",
    "Detector",
    "Detections",
    "Detection",
    "GFLCriterion",
    "GeneralDistribution",
    "decode",
    "coco_ap",
    "draw_detections",
    "draw_edge_distributions",
    "to_pandas",
    "to_supervision",
    "to_torchvision",
    "Batch",
    "Targets",
    "Points",
    "HeadOutputs",
    "Losses",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in ("losses", "data", "models", "visualize"):
        return importlib.import_module(f"gfocal.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'gfocal' has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    return getattr(importlib.import_module(module), attribute or name)


def __dir__() -> list[str]:
    return sorted(__all__)
