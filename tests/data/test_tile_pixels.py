"""The pixels of tiles: those of the image at its scales, whatever they are read from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from gfocal.data import tile_pixels
from gfocal.data.image_rows import ArrayRows, open_rows
from gfocal.data.tile_pixels import read_overview, read_tiles
from gfocal.ops.tiles import Tiling, level_sizes


def make_image(height: int, width: int) -> Tensor:
    numbers = np.random.default_rng(height * 7919 + width)
    return torch.from_numpy(numbers.integers(0, 256, (height, width, 3)).astype(np.uint8)).permute(2, 0, 1)


class CountedRows:
    """Rows that remember what was asked for."""

    def __init__(self, image: Tensor) -> None:
        self.rows, self.asked, self.size = ArrayRows(image), [], (int(image.shape[1]), int(image.shape[2]))

    def read(self, top: int, bottom: int) -> np.ndarray:
        self.asked.append((top, bottom))
        return self.rows.read(top, bottom)


@given(st.integers(1, 200), st.integers(1, 200), st.floats(0, 0.6), st.floats(1, 40), st.booleans())
def test_tiles_have_the_pixels_of_the_image(
    height: int, width: int, overlap: float, grid: float, fills: bool
) -> None:
    image = make_image(height, width)
    tiling = Tiling(48, overlap, grid=grid)
    sizes = level_sizes((height, width), tiling)
    whole = [Image.fromarray(image.permute(1, 2, 0).numpy()).reduce(2**level) for level in range(len(sizes))]
    assert [(level.height, level.width) for level in whole] == sizes
    levels = [torch.from_numpy(np.array(level)).permute(2, 0, 1) for level in whole]
    for tile, pixels in read_tiles(ArrayRows(image), tiling, (1.4, 2.0, 3.6) if fills else None):
        inside = levels[tile.level][:, tile.top : tile.top + 48, tile.left : tile.left + 48]
        assert torch.equal(pixels[:, : inside.shape[1], : inside.shape[2]], inside)
        if fills:
            assert pixels.shape == (3, 48, 48)
            assert all(
                edge.unique(dim=1).flatten().tolist() in ([], [1, 2, 4])
                for edge in (pixels[:, inside.shape[1] :].flatten(1), pixels[:, :, inside.shape[2] :].flatten(1))
            )
        else:
            assert pixels.shape == inside.shape
        assert pixels.stride(0) == 1


def test_each_level_is_one_pass_from_the_top_in_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_pixels, "CHUNK", 4000)
    rows = CountedRows(make_image(500, 200))
    count = sum(1 for _ in read_tiles(rows, Tiling(64, 0.25)))
    assert count > 20
    levels = len(level_sizes((500, 200), Tiling(64, 0.25)))
    assert sum(bottom - top for top, bottom in rows.asked) == levels * 500  # no row of a level is read twice
    assert sum(top == 0 for top, _ in rows.asked) == levels
    assert max(bottom - top for top, bottom in rows.asked) * 200 <= 4000


def test_tiles_of_a_file_are_those_of_its_image_in_memory(tmp_path: Path) -> None:
    image = make_image(150, 130)
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "a.tif", compression="tiff_lzw")
    with open_rows(tmp_path / "a.tif") as rows:
        of_file = list(read_tiles(rows, Tiling(64)))
    of_memory = list(read_tiles(ArrayRows(image), Tiling(64)))
    assert [tile for tile, _ in of_file] == [tile for tile, _ in of_memory]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(of_file, of_memory, strict=True))


def test_the_overview_is_smaller_by_a_power_of_two() -> None:
    image = make_image(90, 401)
    assert torch.equal(read_overview(ArrayRows(image), 401), image)
    smaller = read_overview(ArrayRows(image), 120)
    assert smaller.shape == (3, 23, 101)
    expected = np.array(Image.fromarray(image.permute(1, 2, 0).numpy()).reduce(4))
    np.testing.assert_array_equal(smaller.permute(1, 2, 0).numpy(), expected)
