"""Winograd's convolution (``winograd``) with gradients, of several maps at once: float32 training on a CPU.

With V = B' d B of each tile of 6x6 input cells, M = V U over the channels and y = A' M A, the gradients run the same
way back: of M it is A g A', of U the product of V and that, of a tile B (gradient of V) B', summed where tiles
overlap. All three products have a quarter of a direct convolution's multiplications. The maps of a pyramid, which
share their weights, are one product: small ones cost what their cells cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gfocal.models.winograd import INPUT, OUTPUT, WEIGHT, is_suitable, transform_of

TILES = 512  # at a time, to bound memory
MIN_CELLS = 512  # with fewer, weights of four times the size cost more than is saved


def convolve(conv: nn.Module, maps: Sequence[Tensor]) -> list[Tensor]:
    """The outputs of a layer for maps of any sizes; by Winograd's algorithm where training is faster so."""
    if is_gained(conv, maps):
        assert isinstance(conv, nn.Conv2d)
        return list(_Winograd.apply(conv.weight, conv.bias, *maps))
    return [conv(one) for one in maps]


def run_tower(tower: nn.Module, maps: Sequence[Tensor]) -> list[Tensor]:
    """The outputs of a stack of layers for each map: on a CPU layer by layer, so that maps share their work."""
    is_apart = torch.compiler.is_compiling() or not torch.is_grad_enabled() or maps[0].device.type != "cpu"
    if is_apart or type(tower) is not nn.Sequential or tower._forward_hooks or tower._forward_pre_hooks:
        return [tower(one) for one in maps]
    found = list(maps)
    for layer in tower:
        found = convolve(layer, found)
    return found


def is_gained(conv: nn.Module, maps: Sequence[Tensor]) -> bool:
    """Whether a layer is a convolution that trains faster by Winograd's algorithm, and runs nothing else."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return False
    if type(conv) is not nn.Conv2d or not conv.weight.requires_grad or not is_suitable(conv):
        return False
    own = conv.__dict__
    if own["_forward_hooks"] or own["_forward_pre_hooks"] or "forward" in own:
        return False
    tensors = (conv.weight, *maps)
    if any(type(t) not in (Tensor, nn.Parameter) or t.device.type != "cpu" for t in tensors):
        return False
    cells = sum(one.shape[0] * one.shape[2] * one.shape[3] for one in maps)
    return {t.dtype for t in tensors} == {torch.float32} and cells >= MIN_CELLS


class _Winograd(torch.autograd.Function):
    """A 3x3 convolution with padding 1: weight (O, I, 3, 3), bias (O,) or None, maps (B, I, h, w) -> (B, O, h, w)."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor | None, *maps: Tensor) -> tuple[Tensor, ...]:
        out, channels = weight.shape[:2]
        of_input, of_output = (transform_of(matrix, weight.dtype) for matrix in (INPUT, OUTPUT))
        transformed = transform_weight(weight)  # (36, I, O)
        tiles, counts = gather_input(maps)  # (36, N * I)
        found = tiles.new_empty(16, sum(counts) * out)
        for first, number in parts(sum(counts)):
            values = of_input @ tiles[:, first * channels : (first + number) * channels]
            products = torch.bmm(values.view(36, number, channels), transformed)
            torch.mm(of_output, products.view(36, -1), out=found[:, first * out : (first + number) * out])
        if bias is not None:
            found.view(-1, out).add_(bias)
        ctx.save_for_backward(weight, *maps)
        ctx.has_bias = bias is not None
        whole = found.view(4, 4, -1, out).split(counts, 2)
        return tuple(merge(some, one.shape) for some, one in zip(whole, maps, strict=True))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        weight, *maps = ctx.saved_tensors
        out, channels = weight.shape[:2]
        matrices = (transform_of(matrix, weight.dtype) for matrix in (INPUT, OUTPUT, WEIGHT))
        of_input, of_output, of_weight = matrices
        transformed = transform_weight(weight).transpose(1, 2)  # (36, O, I)
        tiles, counts = gather_input(maps)  # (36, N * I)
        given = gather_gradients(gradients)  # (16, N * O)
        products = tiles.new_zeros(36, channels, out)
        needs_maps = any(ctx.needs_input_grad[2:])
        for first, number in parts(sum(counts)):
            some = tiles[:, first * channels : (first + number) * channels]
            values = (of_input @ some).view(36, number, channels)
            of_products = (of_output.T @ given[:, first * out : (first + number) * out]).view(36, number, out)
            products.baddbmm_(values.transpose(1, 2), of_products)
            if needs_maps:  # over the tiles, which are used
                torch.mm(of_input.T, torch.bmm(of_products, transformed).view(36, -1), out=some)
        of_maps: list[Tensor | None] = [None] * len(maps)
        if needs_maps:
            whole = tiles.view(6, 6, -1, channels).split(counts, 2)
            of_maps = [add_tiles(some, one.shape) for some, one in zip(whole, maps, strict=True)]
        shaped = (of_weight.T @ products.view(36, -1)).view(3, 3, channels, out).permute(3, 2, 0, 1)
        of_bias = given.view(-1, out).sum(0) if ctx.has_bias else None
        return shaped, of_bias, *of_maps


def parts(number: int) -> list[tuple[int, int]]:
    """First and number of the tiles of each part."""
    return [(first, min(TILES, number - first)) for first in range(0, number, TILES)]


def transform_weight(weight: Tensor) -> Tensor:
    """(O, I, 3, 3) -> (36, I, O), in the weight's number format."""
    out, channels = weight.shape[:2]
    return (transform_of(WEIGHT, weight.dtype) @ weight.permute(2, 3, 1, 0).reshape(9, -1)).view(36, channels, out)


def grid(shape: torch.Size) -> tuple[int, int]:
    """Rows and columns of the 4x4 tiles of a map (B, C, h, w)."""
    return -(-shape[2] // 4), -(-shape[3] // 4)


def gather_input(maps: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
    """The overlapping 6x6 tiles of all maps, (36, N * I), and how many of the N are of each map."""
    counts = [one.shape[0] * grid(one.shape)[0] * grid(one.shape)[1] for one in maps]
    channels = maps[0].shape[1]
    tiles = maps[0].new_empty(6, 6, sum(counts), channels)
    for one, place in zip(maps, tiles.split(counts, 2), strict=True):
        (batch, _, height, width), (rows, columns) = one.shape, grid(one.shape)
        padded = F.pad(one.permute(0, 2, 3, 1), (0, 0, 1, 4 * columns + 1 - width, 1, 4 * rows + 1 - height))
        b, h, w, c = padded.stride()
        overlapping = padded.as_strided((6, 6, batch, rows, columns, channels), (h, w, b, 4 * h, 4 * w, c))
        place.unflatten(2, (batch, rows, columns)).copy_(overlapping)
    return tiles.view(36, -1), counts


def gather_gradients(gradients: Sequence[Tensor]) -> Tensor:
    """The 4x4 tiles of the gradients of all outputs, zero beyond the maps. (16, N * O)"""
    counts = [one.shape[0] * grid(one.shape)[0] * grid(one.shape)[1] for one in gradients]
    tiles = gradients[0].new_empty(4, 4, sum(counts), gradients[0].shape[1])
    for one, place in zip(gradients, tiles.split(counts, 2), strict=True):
        (batch, out, height, width), (rows, columns) = one.shape, grid(one.shape)
        whole = F.pad(one.permute(0, 2, 3, 1), (0, 0, 0, 4 * columns - width, 0, 4 * rows - height))
        cells = whole.reshape(batch, rows, 4, columns, 4, out).permute(2, 4, 0, 1, 3, 5)
        place.unflatten(2, (batch, rows, columns)).copy_(cells)
    return tiles.view(16, -1)


def merge(tiles: Tensor, shape: torch.Size) -> Tensor:
    """4x4 tiles (4, 4, N, O) of a map of shape (B, I, h, w) as a map. (B, O, h, w), channels last"""
    (batch, _, height, width), (rows, columns), out = shape, grid(shape), tiles.shape[-1]
    cells = tiles.unflatten(2, (batch, rows, columns)).permute(2, 3, 0, 4, 1, 5)
    whole = cells.reshape(batch, 4 * rows, 4 * columns, out)[:, :height, :width]
    return whole.contiguous().permute(0, 3, 1, 2)


def add_tiles(tiles: Tensor, shape: torch.Size) -> Tensor:
    """Overlapping 6x6 tiles (6, 6, N, I) of a map of shape (B, I, h, w), summed. (B, I, h, w), channels last"""
    (batch, channels, height, width), (rows, columns) = shape, grid(shape)
    tiles = tiles.unflatten(2, (batch, rows, columns))
    total = tiles.new_zeros(batch, rows + 1, 4, columns + 1, 4, channels)
    cells = total.permute(2, 4, 0, 1, 3, 5)  # (4, 4, B, rows + 1, columns + 1, I)
    cells[:, :, :, :rows, :columns] = tiles[:4, :4]
    cells[:2, :, :, 1:, :columns] += tiles[4:, :4]
    cells[:, :2, :, :rows, 1:] += tiles[:4, 4:]
    cells[:2, :2, :, 1:, 1:] += tiles[4:, 4:]
    whole = total.view(batch, 4 * rows + 4, 4 * columns + 4, channels)
    return whole[:, 1 : height + 1, 1 : width + 1].contiguous().permute(0, 3, 1, 2)
