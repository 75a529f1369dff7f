"""An exported network beside the model that it was made of, on the same images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from gfocal.errors import ExportError
from gfocal.export.network import ExportedNetwork
from gfocal.ops.boxes import clip_boxes, iou

Run = Callable[[Tensor], Mapping[str, Tensor]]  # images (B, 3, H, W) -> outputs by name

NUM_POINTS = 100  # of each image at most, those with the best scores in the model
CONFIDENT = 0.3  # points that score less count only in an image that has no other
LOGIT_LIMIT = 1e-6  # scores are compared as logits between this and 1 minus this

# Precision -> the largest differences that are no error.
BOUNDS: Mapping[str, Mapping[str, float]] = {
    "float32": {"box_max": 1e-2, "score_max": 1e-4, "tv_mean": 1e-4, "ap_loss": 1e-3},
    "bf16": {"iou_loss": 0.03, "score_mean": 0.02, "tv_mean": 0.02, "ap_loss": 5e-3},
    "int8": {"iou_loss": 0.05, "score_mean": 0.02, "tv_mean": 0.02, "ap_loss": 5e-3},
}


@dataclass(frozen=True)
class Reference:
    """What the model says of an image, at its best points."""

    images: Tensor  # (1, 3, H, W), the input
    chosen: Tensor  # (N,) indices of points
    outputs: dict[str, Tensor]  # at these points


@dataclass(frozen=True)
class Differences:
    """Exported network against model, over the best points of all images; pixels are those of the network's input."""

    num_images: int
    num_points: int
    logit_mean: float  # of the classes
    logit_max: float
    score_mean: float
    score_max: float
    box_mean: float  # px, of an edge
    box_max: float
    iou_loss: float  # 1 - the mean IoU of the two boxes of a point
    edge_std_mean: float | None  # px; None: no distributions
    edge_std_max: float | None
    tv_mean: float | None  # total variation of the two distributions of an edge
    tv_max: float | None
    ap_model: float | None = None  # None: no annotated images
    ap_file: float | None = None

    @property
    def ap_loss(self) -> float | None:
        """How much AP the file loses."""
        return None if self.ap_model is None or self.ap_file is None else self.ap_model - self.ap_file

    def to_json(self) -> dict[str, Any]:
        """Rounded to four digits."""
        found = {key: float(f"{v:.4g}") if isinstance(v, float) else v for key, v in asdict(self).items()}
        return {key: value for key, value in found.items() if value is not None}

    def rows(self) -> list[tuple[str, str, str]]:
        """Name, mean and maximum of each difference, as text."""

        def pair(mean: float | None, most: float | None) -> tuple[str, str]:
            return ("" if mean is None else f"{mean:.2g}", "" if most is None else f"{most:.2g}")

        found = [
            ("class logits", *pair(self.logit_mean, self.logit_max)),
            ("scores", *pair(self.score_mean, self.score_max)),
            ("box edges, px", *pair(self.box_mean, self.box_max)),
            ("1 - IoU of boxes", *pair(self.iou_loss, None)),
        ]
        if self.tv_mean is not None:
            found.append(("std of edges, px", *pair(self.edge_std_mean, self.edge_std_max)))
            found.append(("total variation of edges", *pair(self.tv_mean, self.tv_max)))
        if self.ap_model is not None and self.ap_file is not None:
            found.append(
                (
                    f"AP {self.ap_file:.4f}, of the model {self.ap_model:.4f}",
                    f"{-self.ap_model + self.ap_file:+.4f}",
                    "",
                )
            )
        return found


@torch.inference_mode()
def reference_of(network: ExportedNetwork, inputs: Sequence[Tensor]) -> list[Reference]:
    """The model's outputs at the best points of each input (3, H, W), padded as the network needs it."""
    found = []
    for images in inputs:
        outputs = dict(zip(network.output_names, network(images.unsqueeze(0)), strict=True))
        best = final_scores(outputs)[0].amax(-1)
        scores, chosen = best.topk(min(NUM_POINTS, len(best)))
        if bool(scores[0] > CONFIDENT):  # else, as of random weights, all of them
            chosen = chosen[scores > CONFIDENT]
        found.append(Reference(images.unsqueeze(0), chosen, at_points(outputs, chosen, images.shape)))
    return found


def final_scores(outputs: Mapping[str, Tensor]) -> Tensor:
    """Class scores times quality, where there is one. (B, P, C)"""
    return outputs["scores"] * outputs["quality"].unsqueeze(-1) if "quality" in outputs else outputs["scores"]


def at_points(outputs: Mapping[str, Tensor], chosen: Tensor, shape: Sequence[int]) -> dict[str, Tensor]:
    """The outputs of the one image of a batch at some points; boxes clipped to its shape (..., H, W)."""
    found = {
        name: (value if name == "points" else value[0])[chosen]
        for name, value in {**outputs, "scores": final_scores(outputs)}.items()
        if name != "quality"
    }
    return found | {"boxes": clip_boxes(found["boxes"], shape[-2], shape[-1])}


def compare(
    references: Sequence[Reference], run: Run, delta: float, aps: tuple[float | None, float | None] = (None, None)
) -> Differences:
    """The differences of what ``run`` computes.

    ``delta`` is the distance of two bins in strides, ``aps`` the AP of model and file.
    """
    pairs = [(one.outputs, at_points(run(one.images), one.chosen, one.images.shape)) for one in references]
    a, b = ({key: torch.cat([pair[side][key] for pair in pairs]).double() for key in pairs[0][0]} for side in (0, 1))
    if not all(value.isfinite().all() for value in b.values()):
        raise ExportError("the exported network gives numbers that are not finite")
    score, box = (a["scores"] - b["scores"]).abs(), (a["boxes"] - b["boxes"]).abs()
    logit = (a["scores"].logit(LOGIT_LIMIT) - b["scores"].logit(LOGIT_LIMIT)).abs()
    std = tv = None
    if "edge_logits" in a:
        p, q = a["edge_logits"].softmax(-1), b["edge_logits"].softmax(-1)
        tv = (p - q).abs().sum(-1) / 2
        std = (edge_std(p) - edge_std(q)).abs() * a["points"][:, 2:] * delta
    return Differences(
        num_images=len(references),
        num_points=len(box),
        logit_mean=float(logit.mean()),
        logit_max=float(logit.max()),
        score_mean=float(score.mean()),
        score_max=float(score.max()),
        box_mean=float(box.mean()),
        box_max=float(box.max()),
        iou_loss=float(1 - iou(a["boxes"], b["boxes"]).mean()),
        edge_std_mean=None if std is None else float(std.mean()),
        edge_std_max=None if std is None else float(std.max()),
        tv_mean=None if tv is None else float(tv.mean()),
        tv_max=None if tv is None else float(tv.max()),
        ap_model=aps[0],
        ap_file=aps[1],
    )


def edge_std(probabilities: Tensor) -> Tensor:
    """Standard deviation of each edge, in bins. (..., K) -> (...)"""
    bins = torch.arange(probabilities.shape[-1], dtype=probabilities.dtype)
    mean = (probabilities * bins).sum(-1, keepdim=True)
    return (probabilities * (bins - mean) ** 2).sum(-1).clamp(min=0).sqrt()


def require_within(differences: Differences, precision: str) -> None:
    """Raise ExportError if a difference is beyond the bound of its precision."""
    hint = " (int8 of --to openvino corrects the bias of each layer, and loses less)" if precision == "int8" else ""
    for name, bound in BOUNDS[precision].items():
        value = getattr(differences, name)
        if value is not None and not value <= bound:  # so that NaN is refused
            raise ExportError(
                f"the exported network differs from the model: {name} is {value:.3g}, more than the {bound:g} that "
                f"{precision} may have; nothing was written{hint}. All: {differences.to_json()}"
            )
