"""gfocal beside MMDetection 3.3.0, number by number: networks, assignments, losses, gradients, detections.

    python benchmarks/against_mmdetection.py KEYS [--models gfl_r101_dcn fcos ...] [--size 800 1216]

KEYS is a folder with a list keys_<model>.json of each checkpoint: tensor name -> [shape, dtype]. Weights are made up
from the names, written as a checkpoint, loaded by MMDetection and imported by gfocal. mmdet 3.3.0 must be importable;
beside mmcv-lite, which has no compiled operators, torchvision's stand in for the two that are needed.

Losses are compared on MMDetection's own head outputs (SSD: random ones), for three batches of two images: the
second smaller, so that it is padded more; both of a size; the second without objects. Three things differ on purpose:

* FCOS and FoveaBox of MMDetection take points beyond an image's own padding for background; gfocal leaves them out.
  The rows "as it is" show by how much. The others have gfocal told that nothing is padded.
* An empty image counts as one positive in every normalizer of gfocal's class losses and in no other; what
  MMDetection has is in ``Case.empty``. The comparison takes this out.
* FoveaBox of MMDetection cuts boxes one pixel before an image's right and lower border. gfocal is told to do so.

SSD's default boxes agree to 1/16000 pixel, no further. Which of two that overlap a box equally is its best one may
therefore differ, on boxes whose corners lie on a coarse grid; the batches here have no such tie.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gfocal.build import build_criterion
from gfocal.config.config import MethodSettings
from gfocal.interop.mmdet import import_checkpoint
from gfocal.models.detector import Detector
from gfocal.models.ssd import CHANNELS as SSD_CHANNELS
from gfocal.models.zoo import create
from gfocal.ops.decoding import decode
from gfocal.ops.points import inside_own_padding
from gfocal.structures import HeadOutputs, Points, Targets, pad_targets
from mmdetection_side import NUM_CLASSES, TERMS, Maps, import_mmdetection, made_up, their_losses


@dataclass(frozen=True)
class Case:
    """A detector as MMDetection calls it."""

    config: str
    keys: str | None = None
    method: MethodSettings = field(default_factory=MethodSettings)
    has_padding: bool = True  # whether points beyond an image's own padding are told from background
    # Loss term -> what empty images and the like add to its number of positives, there and here, where they differ.
    empty: dict[str, tuple[int, int]] = field(default_factory=dict)
    cut: int = 0  # pixels before an image's border at which boxes are cut


FCOS = "fcos_r50-caffe_fpn_gn-head"
CASES = {
    "gfl_r50": Case("gfl/gfl_r50_fpn_1x_coco.py", "gfl_r50"),
    "gfl_r101": Case("gfl/gfl_r101_fpn_ms-2x_coco.py", "gfl_r101"),
    "gfl_r101_dcn": Case("gfl/gfl_r101-dconv-c3-c5_fpn_ms-2x_coco.py", "gfl_r101_dcn"),
    "gfl_x101": Case("gfl/gfl_x101-32x4d_fpn_ms-2x_coco.py", "gfl_x101"),
    "gfl_x101_dcn": Case("gfl/gfl_x101-32x4d-dconv-c4-c5_fpn_ms-2x_coco.py", "gfl_x101_dcn"),
    "atss": Case("atss/atss_r50_fpn_1x_coco.py", "atss_r50", empty={"quality": (1, 0)}),
    "retinanet": Case("retinanet/retinanet_r50_fpn_1x_coco.py", "retinanet_r50", empty={"box": (1, 0)}),
    "fovea": Case(
        "foveabox/fovea_r50_fpn_4xb4-1x_coco.py", "fovea_r50", has_padding=False, empty={"cls": (2, 3)}, cut=1
    ),
    "fcos": Case(f"fcos/{FCOS}_1x_coco.py", "fcos_r50", has_padding=False, empty={"cls": (0, 1)}),
    "fcos_center": Case(
        f"fcos/{FCOS}-center_1x_coco.py", "fcos_r50", MethodSettings(assigner="fcos_center"), False, {"cls": (0, 1)}
    ),
    "ssd512": Case("ssd/ssd512_coco.py"),
}
# MMDetection cuts the sides of SSD's default boxes to whole pixels.
SSD_SIDES = (20, 51, 133, 215, 296, 378, 460, 542)
# Largest difference that passes, of each kind of number.
BARS = {"logits": 1e-3, "scores": 1e-4, "boxes": 1e-2, "points assigned": 0.0, "losses": 1e-5, "gradient norms": 1e-4}


@dataclass(frozen=True)
class Batch:
    """Two images and their ground truth; each box of an image has a class of its own, so that a class names a box."""

    sizes: Tensor  # (B, 2)
    shape: tuple[int, int]  # of the batch
    targets: Targets

    @property
    def metas(self) -> list[dict[str, Any]]:
        """What MMDetection is to know of each image."""
        return [
            {
                "img_shape": (h, w),
                "pad_shape": tuple(
                    min(-(-side // 32) * 32, limit) for side, limit in zip((h, w), self.shape, strict=True)
                ),
                "batch_input_shape": self.shape,
                "ori_shape": (h // 2, w // 2),
                "scale_factor": (w / (w // 2), h / (h // 2)),
            }
            for h, w in self.sizes.tolist()
        ]

    @property
    def ground_truth(self) -> list[Any]:
        """The ground truth as MMDetection has it."""
        from mmengine.structures import InstanceData

        rows = zip(self.targets.boxes, self.targets.labels, self.targets.valid, strict=True)
        return [InstanceData(bboxes=boxes[valid], labels=labels[valid]) for boxes, labels, valid in rows]


def batch_of(shape: tuple[int, int], second: tuple[int, int], empty: bool = False) -> Batch:
    """Boxes from 6 to 700 pixels, every second one on whole pixels, where distances tie."""
    generator = torch.Generator().manual_seed(1)
    boxes = []
    for height, width in (shape, second):
        sides = torch.tensor([6, 7, 12, 24, 40, 64, 100, 150, 220, 330, 480, 700.0]).unsqueeze(1)
        spans = (sides * (0.8 + 0.4 * torch.rand(12, 2, generator=generator))).minimum(
            torch.tensor([width, height]) * 0.95
        )
        corner = torch.rand(12, 2, generator=generator) * (torch.tensor([width, height]) - spans)
        some = torch.cat((corner, corner + spans), -1)
        some[::2] = some[::2].round()
        boxes.append(some)
    if empty:
        boxes[1] = boxes[1][:0]
    labels = [torch.randperm(NUM_CLASSES, generator=generator)[: len(some)] for some in boxes]
    return Batch(torch.tensor([shape, second]), shape, pad_targets(boxes, labels))


def as_outputs(maps: Maps, points: Points, bins: int) -> HeadOutputs:
    """MMDetection's maps as gfocal's outputs."""
    flat = [torch.cat([m.permute(0, 2, 3, 1).flatten(1) for m in kind], 1) for kind in maps]
    count = len(points.xy)
    return HeadOutputs(flat[0].unflatten(1, (count, -1)), flat[1].unflatten(1, (count, 4, bins)), points, *flat[2:])


def largest(ours: Tensor, theirs: Tensor) -> float:
    """Largest relative difference of numbers that have a meaning each."""
    difference = (ours - theirs).abs() / theirs.abs().clamp(min=1e-12)
    return torch.where(ours == theirs, 0.0, difference).max().item()


def of_level(ours: Tensor, theirs: Tensor, counts: list[int]) -> float:
    """Largest difference beside the largest number of its level. (B, P, ...)"""
    pairs = zip(ours.double().split(counts, 1), theirs.double().split(counts, 1), strict=True)
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)


class Comparison:
    """One detector on both sides, and what was found: kind of number -> largest difference, and where."""

    def __init__(self, name: str, configs: Path, keys: Path) -> None:
        from mmdet.registry import MODELS
        from mmengine.config import Config

        self.case = CASES[name]
        self.found: dict[str, tuple[float, str]] = {}
        config = Config.fromfile(configs / self.case.config).model
        config.backbone.init_cfg = None
        self.theirs = MODELS.build(config).eval()
        self.head = self.theirs.bbox_head
        if self.case.keys is None:
            self.model = create("ssd512_vgg16", NUM_CLASSES, pretrained=False, sides=SSD_SIDES)
        else:
            self.model = self.imported(json.loads((keys / f"keys_{self.case.keys}.json").read_text()))
        self.criterion = build_criterion(self.model, self.case.method)

    def imported(self, keys: dict[str, Any]) -> Detector:
        """One checkpoint into both."""
        state = {key: made_up(key, shape) for key, (shape, _) in keys.items()}
        self.theirs.load_state_dict(state)
        with tempfile.TemporaryDirectory() as folder:
            torch.save({"meta": {}, "state_dict": state}, Path(folder) / "made_up.pth")
            return import_checkpoint(Path(folder) / "made_up.pth").model

    def note(self, kind: str, difference: float, where: str) -> None:
        """Keep the largest difference of a kind."""
        difference = math.inf if math.isnan(difference) else difference
        self.found[kind] = max(self.found.get(kind, (-1.0, "")), (difference, where))

    @torch.no_grad()
    def network(self, batch: Batch) -> tuple[Maps, Points]:
        """Compare logits and detections. Returns MMDetection's logits and gfocal's points."""
        images = torch.randn(len(batch.sizes), 3, *batch.shape, generator=torch.Generator().manual_seed(2))
        for image, (height, width) in zip(images, batch.sizes.tolist(), strict=True):
            image[:, height:] = image[:, :, width:] = 0
        ours = self.model(images)
        is_rgb = self.theirs.data_preprocessor._channel_conversion
        outs = self.head(self.theirs.extract_feat(images if is_rgb else images.flip(1)))
        maps = [list(kind) for kind in outs]
        if type(self.head).__name__ == "FCOSHead":
            maps[1] = [m.log() for m in maps[1]]
        theirs = as_outputs(maps, ours.points, self.model.box_coder.num_bins)
        for kind in ("cls_logits", "box_logits", "quality_logits")[: len(maps)]:
            self.note("logits", of_level(getattr(ours, kind), getattr(theirs, kind), ours.points.counts), kind)
        originals = torch.tensor([meta["ori_shape"] for meta in batch.metas])
        sizes = batch.sizes - self.case.cut  # an image smaller by that, in both scales
        model = self.model
        mine = decode(
            ours, model.box_coder, sizes, originals * sizes / batch.sizes, model.names, model.decode_settings
        )
        others = self.head.predict_by_feat(*outs, batch_img_metas=batch.metas, rescale=True)
        for one, other in zip(mine, others, strict=True):
            where = f"{len(one)} and {len(other)} detections"
            count = min(len(one), len(other))
            self.note("scores", (one.scores[:count] - other.scores[:count]).abs().max().item(), where)
            apart = (one.boxes[:, None] - other.bboxes[None]).abs().amax(-1)
            apart[one.labels[:, None] != other.labels[None]] = torch.inf
            self.note("boxes", max(apart.amin(0).max().item(), apart.amin(1).max().item()), where)
        return maps, ours.points

    def losses(self, batch: Batch, maps: Maps, points: Points, where: str, kind: str = "") -> None:
        """Compare assignment, losses and gradients on the same logits."""
        leaves = [[[m.detach().clone().requires_grad_() for m in group] for group in maps] for _ in range(2)]
        ours = self.criterion(
            as_outputs(leaves[0], points, self.model.box_coder.num_bins), batch.targets, batch.sizes
        )
        ours.total.backward()
        terms, assigned = their_losses(self.head, leaves[1], points.counts, batch.ground_truth, batch.metas)
        sum(term.sum() for term in terms.values()).backward()

        assignment = self.criterion.assign(points, batch.targets, inside_own_padding(points, batch.sizes))
        labels = batch.targets.labels.gather(1, assignment.gt_index.clamp(min=0))
        mine = torch.where(assignment.gt_index >= 0, labels, assignment.gt_index)
        positives = int((assigned >= 0).sum())
        self.note(f"points assigned{kind}", (mine != assigned).sum().item(), f"{positives} positive, {where}")
        factors = dict.fromkeys(TERMS.values(), 1.0)
        if not batch.targets.valid.any(1).all():
            factors |= {
                term: (positives + here) / (positives + there) for term, (there, here) in self.case.empty.items()
            }
        for term, theirs in terms.items():
            value = getattr(ours, term).detach() * factors[term]
            value = value if len(theirs) == len(value) else value.sum(0, keepdim=True)
            self.note(f"losses{kind}", largest(value, theirs.detach()), f"{term}, {where}")
        for term, *sides in zip(("cls", "box", "quality"), *leaves, strict=False):
            norms = [torch.stack([m.grad.double().norm() for m in side]) for side in sides]
            self.note(f"gradient norms{kind}", largest(norms[0] * factors[term], norms[1]), f"{term}, {where}")

    def run(self, shape: tuple[int, int]) -> None:
        """All comparisons."""
        if self.case.keys is None:
            shape = (512, 512)
            maps, points = self.random_outputs()
        else:
            padded = batch_of(shape, (shape[0] * 4 // 5, shape[1] * 5 // 6 - 10))
            maps, points = self.network(padded)
            if not self.case.has_padding:
                self.losses(padded, maps, points, "padded", ", as it is")
                padded = replace(padded, sizes=torch.tensor([shape, shape]))
            self.losses(padded, maps, points, "padded")
        full = (shape[0] - 10, shape[1] - 16)
        self.losses(batch_of(shape, full), maps, points, "of a size")
        self.losses(batch_of(shape, full, empty=True), maps, points, "one empty")

    def random_outputs(self) -> tuple[Maps, Points]:
        """Logits for a batch of SSD's, whose network differs from MMDetection's."""
        generator = torch.Generator().manual_seed(3)
        sides = [512 // stride for stride in self.model.head.level_strides]
        features = [torch.zeros(2, c, side, side) for c, side in zip(SSD_CHANNELS, sides, strict=True)]
        cells = list(zip(self.model.head.per_cell, sides, strict=True))
        maps = [
            [torch.randn(2, n * k, side, side, generator=generator) for n, side in cells] for k in (NUM_CLASSES, 4)
        ]
        return maps, self.model.head(features).points


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("keys", type=Path)
    arguments.add_argument("--models", nargs="+", choices=CASES, default=list(CASES))
    arguments.add_argument("--size", type=int, nargs=2, default=(800, 1216), help="height and width, multiples of 32")
    chosen = arguments.parse_args()
    configs = import_mmdetection()
    table = Table("model", "what", "largest difference", "bar", "where")
    for name in chosen.models:
        comparison = Comparison(name, configs, chosen.keys)
        comparison.run(tuple(chosen.size))
        for kind, (difference, where) in comparison.found.items():
            on_purpose = kind.endswith("as it is")
            bar = BARS[kind.partition(",")[0]]
            verdict = "on purpose" if on_purpose else f"{bar:.0e}" if difference <= bar else f"{bar:.0e} FAILED"
            table.add_row(name, kind, f"{difference:.1e}", verdict, where)
    Console(width=118).print(table)


if __name__ == "__main__":
    main()
