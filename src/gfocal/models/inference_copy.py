"""The inference copy of a detector: the same network arranged for speed, made once and used while the weights last.

BatchNorm is folded into the convolutions, weights and maps lie in the layout channels_last, and in ``bf16`` the
weights are converted once. What predicts (the last convolutions of the head, softmax, decoding) stays float32.

The copy is kept beside the detector, not in it: it is in no state dict, no file and no copy of the model. Before each
use it is compared with the detector: versions, addresses and samples of all tensors, and which modules there are.
Whatever changes weights in torch is noticed so; only writing a few single numbers of a large weight past autograd
(``weight.data[3, 5] = 0``) may not be: ``forget_copy`` helps there. With hooks on a module, or weights that are not
float32, the detector itself runs.
"""

from __future__ import annotations

import copy
import threading
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gfocal.models.convolutions import convolve
from gfocal.models.fused_layers import FusedConv, can_fuse, has_onednn
from gfocal.models.fusing import fuse
from gfocal.models.precision import DTYPES, Computed, Precision, current_calibration, resolve_precision
from gfocal.structures import HeadOutputs
from gfocal.structures.calibration import Calibration

if TYPE_CHECKING:
    from gfocal.models.detector import Detector

Key = tuple[object, ...]

_SMALL, _SAMPLES = 64, 16  # numbers of a tensor that are compared: all of a small one, else so many
# Largest difference between the maps of copy and detector, relative to their size. bf16 has 8 significant bits.
_TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 0.1}


@dataclass(frozen=True)
class _Kept:
    """A copy, and what it was made of."""

    network: InferenceNetwork
    key: Key
    modules: list[weakref.ref[nn.Module]]
    samples: list[Tensor]  # views of the detector's tensors, whose memory is not used for others while they exist
    values: Tensor  # what they were


_kept: weakref.WeakKeyDictionary[Detector, _Kept] = weakref.WeakKeyDictionary()
_lock = threading.RLock()


def inference_network(
    model: Detector, precision: Precision = "auto", compiled: bool = False
) -> InferenceNetwork | None:
    """The inference copy of a detector, made now or earlier; None where only the detector itself will do.

    Args:
        model: in either mode, which does not change; the copy is in evaluation mode.
        precision: number format of the network, see ``resolve_precision``; its outputs are float32.
        compiled: compile it (torch.compile).
    """
    is_own = type(model).forward.__module__ != "gfocal.models.detector"  # a subclass runs what it has instead
    modules = None if is_own else _modules(model)
    if modules is None:
        forget_copy(model)
        return None
    key = (precision, compiled, model.bf16_check, model.calibration, *_versions(modules))
    with _lock:
        kept = _kept.get(model)
        if kept is not None and _is_current(kept, key, modules):
            return kept.network
        _kept.pop(model, None)  # before the new one, so that memory never holds both
        del kept
        tensors = [t for m in modules for t in (*m._parameters.values(), *m._buffers.values()) if t is not None]
        if not _is_plain(tensors):
            return None
        with torch.inference_mode(False), torch.no_grad():
            samples = [_sample(tensor) for tensor in tensors if tensor.is_floating_point()]
            network = _make(model, resolve_precision(model, precision), compiled)
            kept = _Kept(network, key, [weakref.ref(m) for m in modules], samples, torch.cat(samples))
        _kept[model] = kept
        return network


def forget_copy(model: Detector) -> None:
    """Drop the inference copy, if there is one; the next use makes another."""
    with _lock:
        _kept.pop(model, None)


def _training_only(model: Detector) -> list[nn.Module]:
    """The parts that only training uses: of NanoDet-Plus and of SAPD."""
    parts = [part._modules.get(name) for part in (model.neck, model.head) for name in ("auxiliary", "selector")]
    return [part for part in parts if part is not None]


def _modules(model: Detector) -> list[nn.Module] | None:
    """What the copy has, in a fixed order; None if a module has hooks or its own forward, which it would not run."""
    skipped = {id(part) for part in _training_only(model)}
    found: list[nn.Module] = []
    waiting: list[nn.Module] = [model]
    while waiting:
        module = waiting.pop()
        known = module.__dict__
        if known["_forward_hooks"] or known["_forward_pre_hooks"]:
            return None
        if "forward" in known and getattr(known["forward"], "func", None) is not convolve:
            return None
        found.append(module)
        waiting += [child for child in known["_modules"].values() if child is not None and id(child) not in skipped]
    return found


def _versions(modules: list[nn.Module]) -> list[object]:
    """Address and version of every tensor. Versions grow whenever torch changes a tensor in place."""
    found: list[object] = []
    for module in modules:
        for tensors in (module._parameters, module._buffers):
            for tensor in tensors.values():
                if tensor is not None:
                    found += (tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version)
    return found


def _is_current(kept: _Kept, key: Key, modules: list[nn.Module]) -> bool:
    if kept.key != key or len(kept.modules) != len(modules):
        return False
    if any(known() is not module for known, module in zip(kept.modules, modules, strict=True)):
        return False
    return torch.equal(torch.cat(kept.samples), kept.values)


def _is_plain(tensors: list[Tensor]) -> bool:
    """Whether all tensors are float32, or counters, on one device, each in one block of memory, with versions."""
    if len({tensor.device for tensor in tensors}) != 1 or tensors[0].device.type == "meta":
        return False
    return all(
        type(t) in (Tensor, nn.Parameter)
        and (t.dtype == torch.float32 or not t.is_floating_point())
        and (t.is_contiguous() or (t.ndim == 4 and t.is_contiguous(memory_format=torch.channels_last)))
        and not t.is_inference()
        for t in tensors
    )


def _sample(tensor: Tensor) -> Tensor:
    """A view of some numbers of a tensor, of all if they are few."""
    count = tensor.numel() if tensor.numel() <= _SMALL else _SAMPLES
    return tensor.detach().as_strided((count,), (max(tensor.numel() // max(count, 1), 1),))


class _Trunk(nn.Module):
    """Backbone and neck as one."""

    def __init__(self, backbone: nn.Module, neck: nn.Module) -> None:
        super().__init__()
        self.backbone, self.neck = backbone, neck

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> maps of the pyramid."""
        return self.neck(self.backbone(images))


class InferenceNetwork(nn.Module):
    """Trunk and head of the copy."""

    def __init__(self, trunk: nn.Module, head: nn.Module, precision: Computed, compiled: bool) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head
        self.precision, self.dtype = precision, DTYPES[precision]
        self.calibration: Calibration | None = None  # of these weights
        self.run = torch.compile(self.compute, dynamic=True) if compiled else self.compute

    def compute(self, images: Tensor) -> HeadOutputs:
        """Images in ``dtype``, channels_last -> logits of every point."""
        return self.head(self.trunk(images))

    def forward(self, images: Tensor) -> HeadOutputs:
        """Normalized images (B, 3, H, W) -> logits of every point, float32."""
        with torch.autocast(images.device.type, enabled=False):
            return self.run(images.to(self.dtype, memory_format=torch.channels_last))


def _make(model: Detector, precision: Computed, compiled: bool) -> InferenceNetwork:
    dtype, device = DTYPES[precision], next(model.parameters()).device
    shell = _share(model)
    trunk = _fuse_trunk(
        _Trunk(shell.get_submodule("backbone"), shell.neck), shell.input_settings.multiple, dtype, device, compiled
    )
    _fuse_head(shell.head, dtype, device, compiled)
    network = InferenceNetwork(trunk, shell.head, precision, compiled)
    network.calibration = current_calibration(model)
    return network


def _share(model: Detector) -> Detector:
    """A copy of a detector in evaluation mode whose tensors are those of the original, not copied."""
    memo: dict[int, object] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    memo |= {id(buffer): buffer.detach() for buffer in model.buffers()}
    memo |= {id(part): None for part in _training_only(model)}
    shell = copy.deepcopy(model, memo)
    for module in shell.modules():
        module.__dict__.pop("forward", None)  # of depthwise convolutions, for autocast
    return shell.eval()


def _fuse_trunk(trunk: _Trunk, multiple: int, dtype: torch.dtype, device: torch.device, compiled: bool) -> nn.Module:
    """Backbone and neck, fused; of a network that cannot be, or whose maps would be others, as they are."""
    is_fixed = multiple > 64  # SSD's VGG, whose input is large; tests compare it
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)).to(device)
    wanted = [] if is_fixed else [level.clone() for level in trunk(images)]
    try:
        fused = fuse(trunk, dtype, device, by_torch=compiled)
        found = [] if is_fixed else fused(images.to(dtype, memory_format=torch.channels_last))
        if all(_is_close(one, other, _TOLERANCES[dtype]) for one, other in zip(found, wanted, strict=True)):
            return fused
    except Exception:
        pass
    return _Unfused(trunk, dtype)


def _is_close(found: Tensor, wanted: Tensor, tolerance: float) -> bool:
    return bool((found.float() - wanted).norm() <= tolerance * wanted.norm())


class _Unfused(nn.Module):
    """Backbone and neck as they are, under autocast where the copy is not float32."""

    def __init__(self, trunk: _Trunk, dtype: torch.dtype) -> None:
        super().__init__()
        self.trunk, self.dtype = trunk, dtype

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> maps of the pyramid."""
        if self.dtype == torch.float32:
            return self.trunk(images)
        with torch.autocast(images.device.type, self.dtype):
            return self.trunk(images)


def _fuse_head(head: nn.Module, dtype: torch.dtype, device: torch.device, compiled: bool) -> None:
    """Fuse the towers of a head and, in float32, the convolutions that predict; in place."""
    for name, child in head.named_children():
        if isinstance(child, nn.Sequential):
            setattr(head, name, fuse(child, dtype, device, by_torch=compiled))
        elif can_fuse(child):
            assert isinstance(child, nn.Conv2d)
            onednn = has_onednn(device, torch.float32) and not compiled
            setattr(head, name, FusedConv(child, None, None, "", torch.float32, onednn))
        else:
            _fuse_head(child, dtype, device, compiled)
