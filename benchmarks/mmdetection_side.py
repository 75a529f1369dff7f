"""MMDetection for ``against_mmdetection.py``: its import without compiled operators, made-up weights, its losses."""

from __future__ import annotations

import importlib
import math
import sys
import types
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, deform_conv2d

NUM_CLASSES = 80
TERMS = {"loss_cls": "cls", "loss_bbox": "box", "loss_dfl": "dfl", "loss_centerness": "quality"}
OPERATORS = "mmcv.ops"
PARTS = ("carafe", "merge_cells", "modulated_deform_conv", "multi_scale_deform_attn", "nms", "roi_align")
# Factor of He's standard deviation for the weights of some layers. Towers without norms leave large numbers behind.
GAINS = {
    "conv_offset": 0.2,  # about a pixel
    "gfl_cls": 1.5,
    "gfl_reg": 3.0,  # uneven distributions
    "conv_cls": 0.15,
    "retina_cls": 0.15,
    "conv_reg": 0.02,
    "retina_reg": 0.02,
}

Maps = list[list[Tensor]]  # of class scores, boxes and perhaps quality: the map (B, A * C, h, w) of every level


def import_mmdetection() -> Path:
    """Make mmdet importable, also beside an mmcv without operators, and return the folder of its configs."""
    try:
        import mmcv
    except ImportError:
        sys.exit("MMDetection is not here: pip install mmdet==3.3.0 mmengine mmcv-lite==2.1.0")
    try:
        importlib.import_module(OPERATORS)
    except ImportError:
        for name in [name for name in sys.modules if name.startswith(OPERATORS)]:
            del sys.modules[name]
        modules = {name: NoOperators(name) for name in (OPERATORS, *(f"{OPERATORS}.{part}" for part in PARTS))}
        for name in (OPERATORS, f"{OPERATORS}.nms"):
            vars(modules[name])["batched_nms"] = suppress
        sys.modules.update(modules)
        mmcv.ops = modules[OPERATORS]
        from mmengine.registry import MODELS

        MODELS.register_module("DCN", module=DeformableV1)
    try:
        import mmdet.models
        from mmengine.registry import init_default_scope
    except (ImportError, AssertionError) as error:  # it asserts the versions that it goes with
        sys.exit(f"MMDetection 3.3.0 cannot be imported: {error}")
    init_default_scope("mmdet")
    return Path(mmdet.__file__).parent / ".mim" / "configs"


class NoOperators(types.ModuleType):
    """A module in which every name is a layer that nobody builds."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (nn.Module,), {})


class DeformableV1(nn.Conv2d):
    """What MMDetection's configs call DCN: 18 learned offsets, none of the taps weighed."""

    def __init__(self, *sizes: int, deform_groups: int = 1, **options: Any) -> None:
        super().__init__(*sizes, **options)
        like = {name: options[name] for name in ("stride", "padding", "dilation")}
        self.conv_offset = nn.Conv2d(self.in_channels, 18 * deform_groups, 3, **like)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')"""
        return deform_conv2d(x, self.conv_offset(x), self.weight, None, self.stride, self.padding, self.dilation)


def suppress(
    boxes: Tensor, scores: Tensor, labels: Tensor, nms_cfg: Any, class_agnostic: bool = False
) -> tuple[Tensor, Tensor]:
    """mmcv's batched_nms by torchvision's."""
    keep = batched_nms(boxes, scores, labels, nms_cfg["iou_threshold"])
    return torch.cat((boxes[keep], scores[keep, None]), -1), keep


def made_up(key: str, shape: Sequence[int]) -> Tensor:
    """Weights drawn from the name of a tensor, so that numbers keep their size through the network."""
    layer, _, leaf = key.rpartition(".")
    if leaf == "num_batches_tracked":
        return torch.zeros((), dtype=torch.int64)
    if leaf == "project":
        return torch.arange(shape[0]).float()
    x = torch.randn(list(shape), generator=torch.Generator().manual_seed(zlib.crc32(key.encode())))
    if leaf == "running_var":
        return (0.1 * x).exp()
    if leaf == "scale" or (leaf == "weight" and len(shape) == 1):
        return (1 + 0.1 * x) * (0.3 if ".bn3" in layer else 1)  # branches of a ResNet stay small beside their sum
    if leaf == "weight":
        gain = next((gain for name, gain in GAINS.items() if layer.endswith(name)), 1.0)
        return x * gain * math.sqrt(2 / math.prod(shape[1:]))
    return 0.05 * x - 3.0 * layer.endswith("_cls")  # biases, running means


def in_their_form(maps: Maps, head: Any) -> Maps:
    """Logits as MMDetection's head gives them: FCOS boxes behind exp, SSD with a background, whose logit is 0."""
    name = type(head).__name__
    if name == "FCOSHead":
        return [maps[0], [m.exp() for m in maps[1]], *maps[2:]]
    if name == "SSDHead":
        split = [m.unflatten(1, (-1, NUM_CLASSES)) for m in maps[0]]
        return [[torch.cat((m, torch.zeros_like(m[:, :, :1])), 2).flatten(1, 2) for m in split], maps[1]]
    return maps


def their_losses(
    head: Any, maps: Maps, counts: list[int], ground_truth: list[Any], metas: list[dict[str, Any]]
) -> tuple[dict[str, Tensor], Tensor]:
    """Loss terms, of each level where they are known; and the class of each point, -1 background, -2 left out."""
    seen: list[Any] = []
    get_targets = head.get_targets

    def spy(*arguments: Any, **options: Any) -> Any:
        seen.append(get_targets(*arguments, **options))
        return seen[-1]

    head.get_targets = spy
    losses = head.loss_by_feat(*in_their_form(maps, head), ground_truth, metas)
    head.get_targets = get_targets
    per_image = type(head).__name__ == "SSDHead"
    terms = {}
    for name, value in losses.items():
        values = torch.stack([v.reshape(()) for v in value]) if isinstance(value, Sequence) else value.reshape(1)
        terms[TERMS[name]] = values.sum(0, keepdim=True) if per_image else values
    targets = seen[0]
    if type(head).__name__ in ("FCOSHead", "FoveaHead"):
        flat = targets[0] if isinstance(targets[0], Tensor) else torch.cat(targets[0])
        levels = flat.split([count * len(ground_truth) for count in counts])
        labels = torch.cat([level.view(len(ground_truth), -1) for level in levels], 1)
        weights = torch.ones_like(labels)
    else:
        first = 1 if type(head).__name__ in ("GFLHead", "ATSSHead") else 0  # behind the anchors
        labels, weights = (torch.cat(list(targets[i]), 1) for i in (first, first + 1))
    return terms, torch.where(weights > 0, torch.where(labels < NUM_CLASSES, labels, -1), -2)
