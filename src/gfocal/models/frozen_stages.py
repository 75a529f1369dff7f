"""The leading parts of a timm network that are not trained: in training on a CPU by their copy for inference.

No gradient reaches them, so they run without one, BatchNorm folded into the convolutions. The copy is made when it is
first used, and again when a weight has changed; it is kept beside the network, in no state dict and no copy of it.
"""

from __future__ import annotations

import copy
import weakref
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gfocal.models.fusing import fuse

_TOLERANCE = 1e-3  # of the copy's maps in float32, relative to their size


@dataclass(frozen=True)
class _Copy:
    """A fused copy of the first modules, None where it cannot be made, and the tensors that it was made of."""

    network: nn.Module | None
    values: list[Tensor]
    modules: list[nn.Module]


_copies: weakref.WeakKeyDictionary[nn.Module, dict[torch.dtype, _Copy]] = weakref.WeakKeyDictionary()


def run_body(body: nn.Module, images: Tensor) -> list[Tensor]:
    """The maps of a timm network of several children, in training. (B, 3, H, W) -> finest first"""
    frozen = frozen_prefix(body, images)
    network = _copy_of(body, frozen) if frozen else None
    if network is None:
        return body(images)
    maps: list[Tensor] = []
    returned = body.return_layers
    x = images
    for number, (name, module) in enumerate(body.items()):  # type: ignore[operator]
        if number >= len(frozen):
            x = module(x)
        elif number == len(frozen) - 1:
            with torch.no_grad(), torch.autocast("cpu", enabled=False):
                x = network(images.to(_dtype(), memory_format=torch.channels_last))
        if number >= len(frozen) - 1 and name in returned:  # type: ignore[operator]
            maps.append(x)
    return maps


def frozen_prefix(body: nn.Module, images: Tensor) -> list[nn.Module]:
    """The first children of a network that nothing trains, up to the first that gives a map; none where they are to
    run as they are.
    """
    if torch.compiler.is_compiling() or images.device.type != "cpu" or images.dtype != torch.float32:
        return []
    if images.requires_grad or type(body).__name__ != "FeatureListNet" or body.grad_checkpointing:
        return []
    found: list[nn.Module] = []
    for name, child in body.items():  # type: ignore[operator]
        if any(parameter.requires_grad for parameter in child.parameters()) or not _is_plain(child):
            break
        found.append(child)
        if name in body.return_layers:  # type: ignore[operator]
            break
    return found if any(next(child.parameters(), None) is not None for child in found) else []


def _is_plain(part: nn.Module) -> bool:
    """Whether a part is in evaluation mode, has no hooks and is float32 throughout."""
    for module in part.modules():
        own = module.__dict__
        if own["_forward_hooks"] or own["_forward_pre_hooks"] or "forward" in own:
            return False
        if module.training and isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd):
            return False
    return all(t.dtype == torch.float32 or not t.is_floating_point() for t in _tensors([part]))


def _tensors(modules: list[nn.Module]) -> list[Tensor]:
    return [t for m in modules for t in (*m.parameters(), *m.buffers())]


def _dtype() -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32


def _copy_of(body: nn.Module, modules: list[nn.Module]) -> nn.Module | None:
    """The copy, made now or earlier."""
    dtype, tensors = _dtype(), _tensors(modules)
    kept = _copies.setdefault(body, {}).get(dtype)
    if (
        kept is None
        or len(kept.modules) != len(modules)
        or any(one is not other for one, other in zip(kept.modules, modules, strict=True))
        or len(kept.values) != len(tensors)
        or not all(torch.equal(value, tensor) for value, tensor in zip(kept.values, tensors, strict=True))
    ):
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            kept = _Copy(_fused(modules, dtype), [tensor.detach().clone() for tensor in tensors], modules)
        _copies[body][dtype] = kept
    return kept.network


def _fused(modules: list[nn.Module], dtype: torch.dtype) -> nn.Module | None:
    """A fused copy; None where it cannot be made or, which is not known of any, gives something else."""
    try:
        network = nn.Sequential(*copy.deepcopy(modules)).eval()
        images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
        wanted = network(images)
        device = torch.device("cpu")
        fused = fuse(copy.deepcopy(network), torch.float32, device)
        difference = fused(images.contiguous(memory_format=torch.channels_last)) - wanted
        if not bool(difference.norm() <= _TOLERANCE * wanted.norm()):
            return None
        return fused if dtype == torch.float32 else fuse(network, dtype, device)
    except Exception:  # of any kind, where fx cannot record it
        return None
