"""Images by rows: equal to those that are read whole, within the limits."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from gfocal.data import sequential
from gfocal.data.image_rows import ArrayRows, open_rows
from gfocal.data.images import pixel_limit, read_pixels
from gfocal.data.tiff_segments import TiffRows, open_tiff
from gfocal.errors import ImageError

MODES = ["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "LA"]


def make_image(mode: str, height: int, width: int) -> Image.Image:
    """Smooth enough for JPEG, different in every row and column."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([x * 5 % 256, y * 3 % 256, (x + y) * 2 % 256], -1).astype(np.uint8)
    if mode == "I;16":
        return Image.fromarray((x * 731 + y * 397).astype(np.uint16))
    if mode in ("RGBA", "LA"):
        image = Image.fromarray(rgb).convert(mode)
        image.putalpha(Image.fromarray(((x * y) % 256).astype(np.uint8)))
        return image
    return Image.fromarray(rgb).convert(mode)


def save_strips(path: Path, image: Image.Image, compression: str, rows: int) -> None:
    """As a TIFF with so many rows in a strip, as far as PIL and libtiff heed it."""
    size = TiffImagePlugin.STRIP_SIZE
    TiffImagePlugin.STRIP_SIZE = rows * image.width * len(image.getbands())
    try:
        image.save(path, "TIFF", compression=None if compression == "raw" else compression)
    finally:
        TiffImagePlugin.STRIP_SIZE = size


def save_tiles(path: Path, pixels: np.ndarray[Any, Any], tile: int, order: str = "<", sparse: bool = False) -> None:
    """(H, W, 3) of 8 or 16 bits as a tiled TIFF without compression, which PIL does not write."""
    height, width = pixels.shape[:2]
    deep = pixels.dtype == np.uint16
    padded = np.pad(pixels, ((0, -height % tile), (0, -width % tile), (0, 0)))
    blocks = [
        padded[y : y + tile, x : x + tile].astype(f"{order}u2" if deep else "u1").tobytes()
        for y in range(0, height, tile)
        for x in range(0, width, tile)
    ]
    counts = [0 if sparse and i == 1 else len(block) for i, block in enumerate(blocks)]
    offsets = np.cumsum([8, *counts[:-1]]).tolist()
    data = b"".join(block[:count] for block, count in zip(blocks, counts, strict=True))
    tags = [(256, 4, [width]), (257, 4, [height]), (258, 3, [16 if deep else 8] * 3), (259, 3, [1]), (262, 3, [2])]
    tags += [(277, 3, [3]), (284, 3, [1]), (322, 4, [tile]), (323, 4, [tile]), (324, 4, offsets), (325, 4, counts)]
    where = 8 + len(data)
    entries, values = b"", b""
    for number, kind, content in tags:
        packed = struct.pack(f"{order}{len(content)}{'HI'[kind == 4]}", *content)
        behind = where + 2 + 12 * len(tags) + 4 + len(values)
        if len(packed) > 4:
            values += packed
        place = struct.pack(f"{order}I", behind) if len(packed) > 4 else packed.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", number, kind, len(content)) + place
    header = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, where)
    path.write_bytes(header + data + struct.pack(f"{order}H", len(tags)) + entries + b"\0" * 4 + values)


def read_whole(path: Path) -> np.ndarray[Any, Any]:
    return read_pixels(path).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits", "zstd"])
@pytest.mark.parametrize("mode", MODES)
def test_rows_of_a_tiff_are_those_of_the_whole_image(mode: str, compression: str, tmp_path: Path) -> None:
    if compression == "jpeg" and mode not in ("L", "RGB", "CMYK"):
        pytest.skip("JPEG stores no such pixels")
    path = tmp_path / "image.tif"
    save_strips(path, make_image(mode, 150, 37), compression, rows=16)
    whole = read_whole(path)
    rows = open_tiff(path)
    assert isinstance(rows, TiffRows)
    with rows:
        assert rows.size == (150, 37)
        assert rows.layout.segment[0] < 150
        for top, bottom in ((0, 1), (0, 40), (13, 17), (30, 150), (149, 150), (5, 90)):
            found = rows.read(top, bottom)
            if mode == "CMYK" or compression != "jpeg":
                np.testing.assert_array_equal(found, whole[top:bottom])
            else:  # at the border of a segment, chroma of the next one is not known
                assert np.abs(found.astype(int) - whole[top:bottom]).max() <= 2


@settings(max_examples=25)
@given(
    height=st.integers(1, 100),
    width=st.integers(1, 100),
    deep=st.booleans(),
    big=st.booleans(),
    top=st.integers(0, 99),
)
def test_tiled_tiffs_of_both_byte_orders(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, deep: bool, big: bool, top: int
) -> None:
    path = tmp_path_factory.mktemp("tiles") / "image.tif"
    numbers = np.random.default_rng(height * 1000 + width)
    pixels = numbers.integers(0, 65536 if deep else 256, (height, width, 3)).astype(np.uint16 if deep else np.uint8)
    save_tiles(path, pixels, 32, ">" if big else "<")
    top %= height
    with open_rows(path, (0, 4095)) as rows:
        assert isinstance(rows, TiffRows)
        whole = read_pixels(path, value_range=(0, 4095)).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(rows.read(top, height), whole[top:])


def test_a_segment_that_a_sparse_file_leaves_out_is_black(tmp_path: Path) -> None:
    save_tiles(tmp_path / "a.tif", np.full((64, 64, 3), 200, np.uint8), 32, sparse=True)
    with open_rows(tmp_path / "a.tif") as rows:
        pixels = rows.read(0, 64)
    assert pixels[:32, 32:].max() == 0
    assert pixels[32:].min() == 200


def test_one_strip_without_compression_is_read_in_parts(tmp_path: Path) -> None:
    image = make_image("RGB", 300, 20)
    save_strips(tmp_path / "a.tif", image, "raw", rows=1000)
    rows = open_tiff(tmp_path / "a.tif")
    assert rows is not None
    assert rows.layout.segment == (64, 20)
    with rows:
        np.testing.assert_array_equal(rows.read(60, 300), np.asarray(image)[60:])


def test_what_cannot_be_read_by_rows_is_read_whole(tmp_path: Path) -> None:
    image = make_image("RGB", 40, 30)
    image.save(tmp_path / "a.jpg")
    rotated = Image.Exif()
    rotated[0x0112] = 6
    image.save(tmp_path / "a.tif", exif=rotated)
    for path in (tmp_path / "a.jpg", tmp_path / "a.tif"):
        with open_rows(path) as rows:
            assert isinstance(rows, ArrayRows)
            np.testing.assert_array_equal(rows.read(3, 20), read_whole(path)[3:20])


def test_a_tiff_that_ends_early_is_an_error_of_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    save_tiles(path, np.zeros((64, 64, 3), np.uint8), 32)
    content = path.read_bytes()
    # Its directory is moved before its pixels, which then end early.
    path.write_bytes(content.replace(struct.pack("<4I", 3072, 3072, 3072, 3072), struct.pack("<4I", *[99_999] * 4)))
    with open_rows(path) as rows, pytest.raises(ImageError, match="ends before its pixels"):
        rows.read(0, 64)
    with pytest.raises(ImageError, match="no such file"), open_rows(tmp_path / "none.tif"):
        pass
    (tmp_path / "none.tif").write_bytes(content[:30])
    with pytest.raises(ImageError), open_rows(tmp_path / "none.tif"):
        pass


def test_images_by_rows_may_have_a_hundred_times_as_many_pixels(tmp_path: Path) -> None:
    save_tiles(tmp_path / "a.tif", np.zeros((64, 128, 3), np.uint8), 32)
    make_image("RGB", 64, 128).save(tmp_path / "a.png")
    with pixel_limit(0.002):
        with open_rows(tmp_path / "a.tif") as rows:
            assert rows.size == (64, 128)
        with pytest.raises(ImageError, match="than the limit"), open_rows(tmp_path / "a.png"):
            pass
    with pixel_limit(0.00002), pytest.raises(ImageError, match="limit"), open_rows(tmp_path / "a.tif"):
        pass


@pytest.mark.skipif(importlib.util.find_spec("pyvips") is None, reason="pyvips is not installed (the extra large)")
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_libvips_reads_the_same_rows(name: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequential, "MIN_PIXELS", 1)
    path = tmp_path / name
    make_image(mode, 700, 90).save(path, quality=95)
    whole = read_whole(path)
    with open_rows(path) as rows:
        assert isinstance(rows, sequential.SequentialRows)
        for top, bottom in ((0, 100), (80, 300), (300, 700), (0, 10)):
            assert np.abs(rows.read(top, bottom).astype(int) - whole[top:bottom]).max() <= 1
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with open_rows(path) as rows, pytest.raises(ImageError, match="cannot be read"):
        rows.read(0, 700)


def test_kinds_that_libvips_would_hold_whole_are_decoded_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequential, "MIN_PIXELS", 1)
    image = make_image("RGB", 40, 30)
    image.save(tmp_path / "progressive.jpg", progressive=True)
    make_image("CMYK", 40, 30).save(tmp_path / "cmyk.jpg")
    make_image("I;16", 40, 30).save(tmp_path / "deep.png")
    make_image("RGBA", 40, 30).save(tmp_path / "alpha.png")
    for path in tmp_path.iterdir():
        with open_rows(path) as rows:
            assert isinstance(rows, ArrayRows)
            np.testing.assert_array_equal(rows.read(0, 40), read_whole(path))
    assert ArrayRows(torch.zeros(3, 4, 5, dtype=torch.uint8)).size == (4, 5)
