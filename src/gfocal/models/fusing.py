"""A part of a network rewritten for inference: every convolution together with what follows it.

torch.fx records which layer reads which output; BatchNorm, activations and sums that follow a convolution alone
become part of it (``fused_layers``). A part that fx cannot record, of some networks of timm, stays as it is.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from gfocal.models.convolutions import DeformableConv2d, interleave
from gfocal.models.fused_layers import (
    Activation,
    FusedConv,
    FusedDeformable,
    NormAct,
    StripedMaxPool,
    activation_of,
    can_fuse,
    has_onednn,
    is_striped,
)

_ADDITIONS = (operator.add, operator.iadd, torch.add)
_RELUS = (F.relu, F.relu_, torch.relu, torch.relu_)
_FRESH = (F.interpolate,)  # functions whose result is a tensor of its own


class _Tracer(fx.Tracer):
    """Records whole the layers that are fused."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, nn.Conv2d | DeformableConv2d | nn.modules.batchnorm._BatchNorm | nn.GroupNorm):
            return True
        return super().is_leaf_module(m, module_qualified_name)


def fuse(part: nn.Module, dtype: torch.dtype, device: torch.device, by_torch: bool = False) -> fx.GraphModule:
    """A part of a network in evaluation mode, rewritten; its tensors are shared where they need not change.

    Args:
        part: takes one tensor (B, C, H, W); not changed itself, but for the modules that ``split_norms`` replaces.
        dtype: number format of its convolutions, and of what it gives.
        device: of its tensors.
        by_torch: use torch's own operations alone, which torch.compile fuses itself.

    Raises:
        Exception: of any kind, where fx cannot record it.
    """
    split_norms(part)
    tracer = _Tracer(autowrap_functions=(interleave,))
    traced = fx.GraphModule(part, tracer.trace(part))
    _Rewriting(traced, dtype, has_onednn(device, dtype) and not by_torch).run()
    traced.graph.lint()
    traced.delete_all_unused_submodules()
    traced.recompile()
    return convert_rest(traced, dtype)


def interleave_channels_last(first: Tensor, second: Tensor) -> Tensor:
    """``interleave`` of two maps in the layout channels_last, which it keeps."""
    first, second = first.permute(0, 2, 3, 1), second.permute(0, 2, 3, 1)
    return torch.stack((first, second), -1).flatten(3).permute(0, 3, 1, 2)


def split_norms(part: nn.Module) -> None:
    """Replace timm's BatchNorm with a built-in activation by the two in a row, in place."""
    for module in list(part.modules()):
        for name, child in module.named_children():
            activation = getattr(child, "act", None)
            if isinstance(child, nn.BatchNorm2d) and isinstance(activation, nn.Module):
                norm = nn.BatchNorm2d(child.num_features, child.eps, affine=False, device="meta")
                norm.weight, norm.bias = child.weight, child.bias
                norm.running_mean, norm.running_var = child.running_mean, child.running_var
                setattr(module, name, nn.Sequential(norm.eval(), activation))


def convert_rest(part: fx.GraphModule, dtype: torch.dtype) -> fx.GraphModule:
    """Convert the tensors of layers that are not fused, but for norms, which take their float32 beside any input."""
    if dtype == torch.float32:
        return part
    for module in part.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.GroupNorm | NormAct | FusedDeformable):
            continue
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if tensor.is_floating_point():
                tensor.data = tensor.data.to(dtype)
    return part


class _Rewriting:
    """One pass over the recorded layers, in the order in which they run."""

    def __init__(self, traced: fx.GraphModule, dtype: torch.dtype, onednn: bool) -> None:
        self.traced, self.dtype, self.onednn = traced, dtype, onednn
        self.modules = dict(traced.named_modules())
        self.order = {node: i for i, node in enumerate(traced.graph.nodes)}
        self.fused: set[fx.Node] = set()

    def run(self) -> None:
        """Rewrite all."""
        for node in list(self.traced.graph.nodes):
            module = self._module(node)
            if module is not None and can_fuse(module):
                self._fuse_convolution(node, module)
            elif isinstance(module, DeformableConv2d):
                norm, last = self._norm_after(node)
                activation, last = self._activation_after(last)
                self._replace(node, last, FusedDeformable(module, norm, activation), node.args)
            elif isinstance(module, nn.GroupNorm):
                activation, last = self._activation_after(node)
                self._replace(node, last, NormAct(module, activation), node.args)
            elif self.onednn and is_striped(module) and not node.kwargs:
                self._replace(node, node, StripedMaxPool(), node.args)
            elif isinstance(module, nn.Identity | nn.Dropout) and len(node.args) == 1 and not node.kwargs:
                node.replace_all_uses_with(node.args[0])
                self.traced.graph.erase_node(node)
            elif node.op == "call_function" and node.target is interleave:
                node.target = interleave_channels_last

    def _module(self, node: fx.Node) -> nn.Module | None:
        return self.modules.get(str(node.target)) if node.op == "call_module" else None

    def _fuse_convolution(self, node: fx.Node, conv: nn.Module) -> None:
        assert isinstance(conv, nn.Conv2d)
        norm, last = self._norm_after(node)
        activation, last = self._activation_after(last)
        adds, other = "", None
        if activation is None and (found := self._sum_after(last, node)) is not None:
            other, last = found
            adds = "into" if self._is_free(other, last, node) else "new"
            activation, last = self._activation_after(last)
        layer = FusedConv(conv, norm, activation, adds, self.dtype, self.onednn)
        self._replace(node, last, layer, node.args if other is None else (*node.args, other))

    def _norm_after(self, node: fx.Node) -> tuple[nn.Module | None, fx.Node]:
        user = self._only_user(node)
        module = None if user is None else self._module(user)
        if (
            user is not None
            and isinstance(module, nn.modules.batchnorm._BatchNorm)
            and module.running_mean is not None
        ):
            return module, user
        return None, node

    def _activation_after(self, node: fx.Node) -> tuple[Activation | None, fx.Node]:
        user = self._only_user(node)
        if user is None:
            return None, node
        if user.op == "call_function" and user.target in _RELUS:
            return Activation("relu"), user
        module = self._module(user)
        activation = None if module is None else activation_of(module)
        return activation, node if activation is None else user

    def _sum_after(self, node: fx.Node, conv: fx.Node) -> tuple[fx.Node, fx.Node] | None:
        """The map that is added to a convolution's output, if it is there before the convolution; and the sum."""
        user = self._only_user(node)
        if user is None or user.op != "call_function" or user.target not in _ADDITIONS or user.kwargs:
            return None
        others = [arg for arg in user.args if arg is not node]
        if len(user.args) != 2 or len(others) != 1 or not isinstance(others[0], fx.Node):
            return None
        return (others[0], user) if self.order[others[0]] < self.order[conv] else None

    def _is_free(self, other: fx.Node, total: fx.Node, conv: fx.Node) -> bool:
        """Whether a map is a tensor of its own that nothing reads from this convolution on, nor a view of it."""
        if other not in self.fused and not (other.op == "call_function" and other.target in _FRESH):
            return False
        readers = [user for user in other.users if user is not total]
        return all(user in self.fused and self.order[user] < self.order[conv] for user in readers)

    @staticmethod
    def _only_user(node: fx.Node) -> fx.Node | None:
        return next(iter(node.users)) if len(node.users) == 1 else None

    def _replace(self, first: fx.Node, last: fx.Node, layer: nn.Module, args: tuple[Any, ...]) -> None:
        """Put a layer in the place of the nodes from the first to the last."""
        name = f"fused_{self.order[first]}"
        self.traced.add_submodule(name, layer)
        graph = self.traced.graph
        with graph.inserting_before(first):
            new = graph.call_module(name, args)
        last.replace_all_uses_with(new)
        node = last
        while node is not first:  # each reads the one before it first, and perhaps the map that is added
            before = next(arg for arg in node.args if isinstance(arg, fx.Node) and self._leads_to(arg, first))
            graph.erase_node(node)
            node = before
        graph.erase_node(first)
        self.order[new] = self.order[first]
        self.fused.add(new)

    def _leads_to(self, node: fx.Node, first: fx.Node) -> bool:
        return node is first or (self.order[node] > self.order[first] and node not in self.fused)
