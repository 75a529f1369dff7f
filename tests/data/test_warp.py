"""The stretch to a fixed size is that of NanoDet's reference with OpenCV 4, to the last bit."""

from __future__ import annotations

import runpy
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gfocal.data.images import read_image
from gfocal.data.warp import warp

Pixels = npt.NDArray[np.int64]


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def exact_positions(old: int, new: int) -> tuple[Pixels, npt.NDArray[np.bool_]]:
    """Sampled indices in 1/32 pixel without any rounding error, and which of them are no ties."""
    exact = [Fraction(32 * i * old, new) for i in range(new)]
    return np.array([round(x) for x in exact]), np.array(
        [(2 * x).denominator > 1 or x.denominator == 1 for x in exact]
    )


def expected(image: Tensor, shape: tuple[int, int]) -> tuple[Pixels, npt.NDArray[np.bool_]]:
    """The stretched image, pixel by pixel from four neighbors, and where rounding of an index is no tie."""
    _, height, width = image.shape
    (ys, plain_y), (xs, plain_x) = exact_positions(height, shape[0]), exact_positions(width, shape[1])
    inside = np.zeros((3, height + 2, width + 2), np.int64)  # black around it
    inside[:, :height, :width] = image.numpy()
    result = np.zeros((3, *shape), np.int64)
    for dy in (0, 1):
        for dx in (0, 1):
            weight_y = np.where(dy, ys % 32, 32 - ys % 32)[:, None]
            weight_x = np.where(dx, xs % 32, 32 - xs % 32)
            result += inside[:, (ys // 32 + dy)[:, None], xs // 32 + dx] * weight_y * weight_x
    return (result + 512) // 1024, np.logical_and.outer(plain_y, plain_x)


@settings(max_examples=80)
@given(
    old=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    new=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    seed=st.integers(0, 99),
)
def test_a_pixel_is_the_weighted_mean_of_four(old: tuple[int, int], new: tuple[int, int], seed: int) -> None:
    image = noise(*old, seed)
    stretched = warp(image, new)
    assert stretched.dtype == torch.uint8
    assert stretched.is_contiguous()
    want, is_plain = expected(image, new)
    assert (stretched.numpy() == want)[:, is_plain].all()


@pytest.mark.parametrize(
    "size", [(480, 640), (427, 640), (640, 480), (375, 500), (333, 500), (200, 300), (1080, 1920)]
)
@pytest.mark.parametrize("side", [320, 416])
def test_sizes_of_photographs(size: tuple[int, int], side: int) -> None:
    image = noise(*size)
    want, is_plain = expected(image, (side, side))
    assert is_plain.mean() >= 0.25
    assert (warp(image, (side, side)).numpy() == want)[:, is_plain].all()


def test_an_image_of_the_right_size_is_unchanged() -> None:
    image = noise(33, 47)
    assert torch.equal(warp(image, (33, 47)), image)


def test_last_columns_and_rows_blend_with_black_where_an_image_is_enlarged() -> None:
    white = torch.full((3, 40, 30), 255, dtype=torch.uint8)
    stretched = warp(white, (40, 60))
    assert (stretched[:, :, :59] == 255).all()
    assert (stretched[:, :, 59] == 128).all()  # halfway between the last column and the black beside it
    stretched = warp(white, (80, 15))
    assert (stretched[:, :79] == 255).all()
    assert (stretched[:, 79] == 128).all()


def test_an_image_on_another_axis_of_memory_gives_the_same() -> None:
    image = noise(31, 50)
    turned = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert torch.equal(warp(turned, (64, 96)), warp(image, (64, 96)))
    gray = image[:1].expand(3, -1, -1)
    assert torch.equal(warp(gray, (64, 96)), warp(gray.contiguous(), (64, 96)))


def photographs(shared: Path) -> list[tuple[Path, int, int]]:
    """File, checksum of its BGR pixels, and that of these stretched to 416 x 416 by the reference."""
    with np.load(shared / "parity" / "nanodet" / "ncnn_outputs_416.npz") as file:
        rows = zip(file["ids"].tolist(), file["crc_decoded"].tolist(), file["crc_input"].tolist(), strict=True)
        folder = shared / "data" / "coco_ccby"
        return [
            (next(folder.rglob(f"{image_id:012d}.jpg")), decoded, stretched) for image_id, decoded, stretched in rows
        ]


def bgr(image: Tensor) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy()[:, :, ::-1])


def test_photographs_equal_those_of_the_reference(shared: Path) -> None:
    compared = 0
    for path, decoded, stretched in photographs(shared):
        image = read_image(path)
        if zlib.crc32(bgr(image).tobytes()) != decoded:  # another JPEG decoder
            continue
        assert zlib.crc32(bgr(warp(image, (416, 416))).tobytes()) == stretched, path.name
        compared += 1
    if not compared:
        pytest.skip("the JPEG decoder of this Pillow gives other pixels than that of the reference")
    assert compared == 6


def test_all_sizes_equal_the_script_beside_the_reference(shared: Path) -> None:
    script: dict[str, Any] = runpy.run_path(str(shared / "parity" / "nanodet" / "make_input.py"))
    for path, _, _ in photographs(shared):
        image = read_image(path)
        for side in (320, 416, 513):
            assert np.array_equal(bgr(warp(image, (side, side))), script["warp"](bgr(image), side)), (path.name, side)
    generator = np.random.default_rng(0)
    for _ in range(25):  # exact ties too
        height, width, side = (int(n) for n in generator.integers(16, 700, 3))
        image = noise(height, width)
        assert np.array_equal(bgr(warp(image, (side, side))), script["warp"](bgr(image), side)), (height, width, side)
