"""The number format in which a detector computes: float32, or bf16 where it is fast and was found to cost nothing."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from gfocal.models.detector import Detector
    from gfocal.structures.calibration import Calibration

Computed = Literal["float32", "bf16"]
Precision = Literal["auto", "float32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("auto", "float32", "bf16")
DTYPES: dict[Computed, torch.dtype] = {"float32": torch.float32, "bf16": torch.bfloat16}
MAX_AP_DIFFERENCE = 0.002  # of AP in 0..1, up to which bf16 counts as good as float32


@dataclass(frozen=True)
class Bf16Check:
    """What bf16 was found to cost on annotated images, for one set of weights."""

    ap: float  # in bf16, 0..1
    float32_ap: float
    num_images: int
    data: str  # on what, in a line
    weights: str  # digest of the weights that were checked

    @property
    def is_passed(self) -> bool:
        """Whether AP is nearly that of float32."""
        return round(abs(self.ap - self.float32_ap), 6) <= MAX_AP_DIFFERENCE


def resolve_precision(model: Detector, precision: Precision = "auto") -> Computed:
    """The number format that a detector is to compute in.

    ``auto`` is bf16 where the device computes it natively and ``model.bf16_check`` says, of these very weights, that
    AP is that of float32; else float32.

    Raises:
        ValueError: there is no such precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is auto, float32 or bf16, not {precision!r}")
    if precision != "auto":
        return precision
    check = model.bf16_check
    if check is None or not check.is_passed or not is_bf16_native(next(model.parameters()).device):
        return "float32"
    return "bf16" if check.weights == digest_weights(model) else "float32"


def current_calibration(model: Detector, warn: bool = True) -> Calibration | None:
    """The calibration of a detector, if it is of its present weights; warns where it is of others."""
    made = model.calibration
    if made is None or made.weights == digest_weights(model):
        return made
    if not warn:
        return None
    warnings.warn(
        "the calibration of this model is of other weights, and is not used: calibrate it again, or set "
        "model.calibration to None",
        stacklevel=3,
    )
    return None


def is_bf16_native(device: torch.device) -> bool:
    """Whether a device has instructions for bf16, so that it is faster than float32."""
    if device.type == "cuda":
        return torch.version.hip is not None or torch.cuda.get_device_capability(device)[0] >= 8  # since Ampere
    if device.type != "cpu":
        return False
    found = torch.cpu.get_capabilities()
    return any(bool(found.get(name)) for name in ("avx512_bf16", "amx_bf16", "amx_tile", "bf16", "sve_bf16"))


def digest_weights(model: Detector) -> str:
    """A hash of all weights and statistics, 16 characters."""
    sha = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(name.encode())
        sha.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()[:16]
