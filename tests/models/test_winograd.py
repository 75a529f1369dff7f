"""Winograd's convolution gives what the direct one gives, for maps of any size."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from gfocal.models import winograd
from gfocal.models.winograd import WinogradConv, is_suitable


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 3),
    height=st.integers(1, 21),
    width=st.integers(1, 21),
    tiles=st.integers(1, 9),
    data=st.data(),
)
def test_it_is_a_convolution(batch: int, height: int, width: int, tiles: int, data: st.DataObject) -> None:
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    maps = torch.randn(batch, 5, height, width, generator=generator)
    weight, bias = torch.randn(7, 5, 3, 3, generator=generator), torch.randn(7, generator=generator)
    wanted = F.conv2d(maps.double(), weight.double(), bias.double(), padding=1)
    before = winograd.TILES
    winograd.TILES = tiles  # so that maps are computed in several parts
    try:
        with torch.inference_mode():
            found = WinogradConv(weight, bias)(maps.contiguous(memory_format=torch.channels_last))
    finally:
        winograd.TILES = before
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=3e-4)


def test_which_convolutions_gain() -> None:
    assert is_suitable(nn.Conv2d(256, 256, 3, padding=1))
    for other in (
        nn.Conv2d(256, 256, 3, stride=2, padding=1),
        nn.Conv2d(256, 256, 3),
        nn.Conv2d(256, 256, 3, padding=2, dilation=2),
        nn.Conv2d(256, 256, 1),
        nn.Conv2d(256, 256, 3, padding=1, groups=32),
        nn.Conv2d(256, 80, 3, padding=1),
        nn.Conv2d(512, 512, 3, padding=1),
        nn.Conv2d(256, 256, 3, padding="same"),
    ):
        assert not is_suitable(other)
