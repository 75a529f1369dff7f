"""3x3 convolutions with a quarter of the multiplications: Winograd's algorithm F(4x4, 3x3) (Lavin and Gray 2016).

A tile of 6x6 cells gives 4x4 outputs: V = B' d B of each input tile, a matrix product over the channels for each of
the 36 places of a tile, and A' m A of its results; weights become G g G' once. In float32 on a CPU it takes about
half the time of a direct convolution where there are many channels, with some four times its rounding error. Tiles
are computed a few hundred at a time, so that they stay in the cache and take little memory.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# B', G and A' for the points 0, 1, -1, 2, -2 and infinity.
INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
WEIGHT = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))
TILES = 256  # at a time
MIN_CHANNELS = 128  # with fewer, moving tiles costs more than it saves
MAX_CHANNELS = 384  # with more, weights of four times the size take too much memory


def is_suitable(conv: nn.Conv2d) -> bool:
    """Whether a convolution is 3x3 with stride 1 and padding 1, and has channels with which it gains."""
    return (
        conv.kernel_size == (3, 3)
        and conv.stride == conv.dilation == (1, 1)
        and conv.padding == (1, 1)
        and conv.groups == 1
        and min(conv.in_channels, conv.out_channels) >= MIN_CHANNELS
        and max(conv.in_channels, conv.out_channels) <= MAX_CHANNELS
    )


def transform_weight(weight: Tensor) -> Tensor:
    """(O, I, 3, 3) -> (36, I, O)"""
    places = weight.permute(2, 3, 1, 0).reshape(9, -1)
    return (transform_of(WEIGHT) @ places).view(36, weight.shape[1], weight.shape[0])


def transform_of(matrix: tuple[tuple[float, ...], ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """The transform of the rows and of the columns of a tile as one matrix. (R, S) -> (R * R, S * S)"""
    one = torch.tensor(matrix, dtype=torch.float64)
    return torch.kron(one, one).to(dtype)


class WinogradConv(nn.Module):
    """A convolution of ``is_suitable``; input and output lie in the layout channels_last.

    Args:
        weight: (O, I, 3, 3) float32.
        bias: (O,)
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(transform_weight(weight), requires_grad=False)  # (36, I, O)
        self.bias = None if bias is None else nn.Parameter(bias.clone(), requires_grad=False)
        self.input_transform = nn.Parameter(transform_of(INPUT), requires_grad=False)  # (36, 36)
        self.output_transform = nn.Parameter(transform_of(OUTPUT), requires_grad=False)  # (16, 36)

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H, W) -> (B, O, H, W)"""
        batch, channels, height, width = x.shape
        rows, columns, out = -(-height // 4), -(-width // 4), self.weight.shape[2]  # of tiles
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 4 * columns + 1 - width, 1, 4 * rows + 1 - height))
        _, h, w, c = padded.stride()
        result = x.new_empty(batch, rows, 4, columns, 4, out)
        step = max(1, TILES // columns)  # rows of tiles at a time
        for image, maps in zip(result, padded, strict=True):
            tiles = maps.as_strided((6, 6, rows, columns, channels), (h, w, 4 * h, 4 * w, c))
            for first in range(0, rows, step):
                values = self.input_transform @ tiles[:, :, first : first + step].reshape(36, -1)
                products = torch.bmm(values.view(36, -1, channels), self.weight)
                found = (self.output_transform @ products.view(36, -1)).view(4, 4, -1, columns, out)
                if self.bias is not None:
                    found += self.bias
                image[first : first + step] = found.permute(2, 0, 3, 1, 4)
        whole = result.view(batch, 4 * rows, 4 * columns, out)[:, :height, :width].permute(0, 3, 1, 2)
        return whole.contiguous(memory_format=torch.channels_last)
