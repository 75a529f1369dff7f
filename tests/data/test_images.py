"""Every kind of image file comes out as upright 8-bit RGB; every broken one as one line of error."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gfocal.data.images import (
    EncodedImage,
    begins_as_video,
    image_header,
    image_size,
    max_pixels,
    pixel_limit,
    read_image,
    to_rgb_tensor,
    value_bounds,
)
from gfocal.errors import ImageError

RAMP = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20  # (3, 4): not square, all values differ


def colors() -> np.ndarray:
    """An image (4, 6, 3) whose every pixel differs from the others."""
    rows, columns = np.mgrid[0:4, 0:6]
    return np.stack((rows * 60, columns * 40, 255 - rows * 10 - columns * 20), -1).astype(np.uint8)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def pixels(path: Path, stated_size: tuple[int, int] | None = None) -> np.ndarray:
    """(H, W, 3) int64; also checks what holds of every image."""
    image = read_image(path, stated_size)
    assert image.dtype == torch.uint8
    assert image.is_contiguous()
    assert tuple(image.shape) == (3, *image_size(path, stated_size))
    return image.permute(1, 2, 0).numpy().astype(np.int64)


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tif", "webp", "ppm"])
def test_lossless_formats_give_the_exact_pixels(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(colors()), **{"lossless": True} if suffix == "webp" else {})
    np.testing.assert_array_equal(pixels(path), colors())


def test_format_is_detected_from_the_content(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", Image.fromarray(colors()), format="PNG")
    np.testing.assert_array_equal(pixels(path), colors())


def test_gray_is_repeated_over_three_channels(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(RAMP))
    np.testing.assert_array_equal(pixels(path), np.stack([RAMP] * 3, -1))


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    bits = (RAMP // 20) % 2 == 1
    path = save(tmp_path / "a.png", Image.fromarray(bits))
    assert Image.open(path).mode == "1"
    np.testing.assert_array_equal(pixels(path)[..., 0], bits * 255)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_gray_is_shifted_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 257, 1000, 32768], [40000, 65278, 65535, 128]], dtype=np.uint16)
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(values))
    expected = values >> 8
    np.testing.assert_array_equal(pixels(path)[..., 1], expected)


def test_32_bit_gray_is_scaled_within_16_bits_else_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(np.array([[0, 65535, 25700]], dtype=np.int32)))
    assert Image.open(path).mode == "I"
    assert pixels(path)[0, :, 0].tolist() == [0, 255, 100]
    save(path, Image.fromarray(np.array([[0, 65536]], dtype=np.int32)))
    with pytest.raises(ImageError, match=r"65535.*--value-range"):
        read_image(path)


def test_signed_values_are_read_with_a_range(tmp_path: Path) -> None:
    """Hounsfield units of computed tomography, -1024 to 3071, as in the signed 16-bit pixels of DICOM exports."""
    path = save(tmp_path / "a.tif", Image.fromarray(np.array([[-1024, -160, 40, 240, 3000]], dtype=np.int32)))
    assert value_bounds(path) == (-1024, 3000)
    assert read_image(path, value_range=(-160, 240))[0, 0].tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_value_range_of_gray_is_scaled_to_8_bits(tmp_path: Path, suffix: str) -> None:
    """12 bits of a microscope, 7400..8600 of a thermal camera."""
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(np.array([[0, 15, 16, 4095, 9000]], dtype=np.uint16)))
    assert image_header(path).is_deep
    assert read_image(path, value_range=(0, 4095))[0, 0].tolist() == [0, 0, 1, 255, 255]
    values = np.array([[0, 7400, 8000, 8600, 65535]], dtype=np.uint16)
    save(path, Image.fromarray(values))
    assert read_image(path, value_range=(7400, 8600))[1, 0].tolist() == [0, 0, 128, 255, 255]
    with Image.open(path) as image:
        assert torch.equal(to_rgb_tensor(image, (7400, 8600)), read_image(path, value_range=(7400, 8600)))


def test_a_value_range_leaves_8_bit_images_alone(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(colors()))
    assert not image_header(path).is_deep
    assert torch.equal(read_image(path), read_image(path, value_range=(0, 4095)))


def png_of_16_bits(path: Path, values: np.ndarray) -> Path:
    """(H, W, C) of 16 bits, which PIL cannot write for C > 1."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, channels = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    content = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


def tiff_of_16_bits(path: Path, values: np.ndarray, order: str) -> Path:
    """(H, W, 3) of 16 bits in one strip, which PIL cannot write."""
    height, width, _ = values.shape
    pixels_at, bits_at = 8, 8 + values.size * 2
    entries = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, bits_at), (259, 3, 1, 1), (262, 3, 1, 2)]
    entries += [(273, 4, 1, pixels_at), (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, values.size * 2)]
    table = struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in entries:
        is_short = kind == 3 and count == 1
        table += struct.pack(f"{order}HHI", tag, kind, count)
        table += struct.pack(f"{order}HH", value, 0) if is_short else struct.pack(f"{order}I", value)
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", bits_at + 6)
    bits = struct.pack(f"{order}HHH", 16, 16, 16)
    path.write_bytes(start + values.astype(f"{order}u2").tobytes() + bits + table + struct.pack(f"{order}I", 0))
    return path


@pytest.mark.parametrize("kind", ["png", "png with alpha", "little tif", "big tif"])
def test_a_value_range_of_color_is_scaled_to_8_bits(tmp_path: Path, kind: str) -> None:
    """PIL alone keeps the upper byte of 16-bit color: 12-bit values, as of a raw converter, would be nearly black."""
    values = np.random.default_rng(0).integers(0, 4096, (5, 7, 4 if "alpha" in kind else 3)).astype(np.uint16)
    expected = values[..., :3] >> 4
    if "alpha" in kind:
        values[..., 3] = 65535
    if "png" in kind:
        path = png_of_16_bits(tmp_path / "a.png", values)
    else:
        path = tiff_of_16_bits(tmp_path / "a.tif", values, "<" if "little" in kind else ">")
    assert image_header(path).is_deep
    assert value_bounds(path) == (values[..., :3].min(), values[..., :3].max())
    found = read_image(path, value_range=(0, 4095)).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(pixels(path), values[..., :3] >> 8)


def test_deep_gray_with_alpha_is_no_dark_image(tmp_path: Path) -> None:
    path = png_of_16_bits(tmp_path / "a.png", np.full((4, 5, 2), 4000, np.uint16))
    assert image_header(path).is_deep
    with pytest.raises(ImageError, match="save them as"):
        read_image(path, value_range=(0, 4095))


def test_floating_point_is_refused_because_its_range_is_unknown(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(np.array([[0.0, 0.5]], dtype=np.float32)))
    with pytest.raises(ImageError, match="floating-point"):
        read_image(path)


def test_palette(tmp_path: Path) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 200, 100, 50, 1, 2, 3])
    image.putdata([1, 0, 2])
    path = save(tmp_path / "a.png", image)
    assert pixels(path)[0].tolist() == [[200, 100, 50], [10, 20, 30], [1, 2, 3]]


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_transparent_palette_entry_is_white(tmp_path: Path, suffix: str) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 200, 100, 50, 1, 2, 3])
    image.putdata([1, 0, 2])
    path = save(tmp_path / f"a.{suffix}", image, transparency=0)
    assert pixels(path)[0].tolist() == [[200, 100, 50], [255, 255, 255], [1, 2, 3]]


def test_palette_with_alpha_gives_no_warning(tmp_path: Path) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([0, 0, 0, 200, 100, 50, 1, 2, 3])
    image.putdata([1, 0, 2])
    path = save(tmp_path / "a.png", image, transparency=bytes([128, 255, 0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = pixels(path)[0]
    np.testing.assert_allclose(found, [[200, 100, 50], [127, 127, 127], [255, 255, 255]], atol=1)


def test_transparency_is_composited_over_white(tmp_path: Path) -> None:
    alpha = np.linspace(0, 255, 24).round().astype(np.uint8).reshape(4, 6)
    path = save(tmp_path / "a.png", Image.fromarray(np.dstack((colors(), alpha))))
    share = alpha[..., None] / 255
    np.testing.assert_allclose(pixels(path), colors() * share + 255 * (1 - share), atol=1)


def test_gray_with_alpha_is_composited_over_white(tmp_path: Path) -> None:
    image = Image.merge("LA", (Image.fromarray(RAMP), Image.new("L", (4, 3), 51)))
    found = pixels(save(tmp_path / "a.png", image))
    np.testing.assert_allclose(found[..., 2], RAMP * 0.2 + 255 * 0.8, atol=1)


def test_color_key_transparency_is_white(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(colors()), transparency=tuple(map(int, colors()[2, 3])))
    expected = colors()
    expected[2, 3] = 255
    np.testing.assert_array_equal(pixels(path), expected)


def without_adobe_marker(jpeg: bytes) -> bytes:
    start = jpeg.index(b"\xff\xee")
    length = int.from_bytes(jpeg[start + 2 : start + 4], "big")
    assert jpeg[start + 4 : start + 9] == b"Adobe"
    return jpeg[:start] + jpeg[start + 2 + length :]


@pytest.mark.parametrize("adobe", [True, False])
def test_cmyk_jpeg_whether_inverted_by_adobe_or_plain(tmp_path: Path, adobe: bool) -> None:
    inks = {(0, 0, 0, 0): (255, 255, 255), (255, 0, 0, 0): (0, 255, 255), (0, 0, 0, 255): (0, 0, 0)}
    for number, (ink, expected) in enumerate(inks.items()):
        stored = ink if adobe else tuple(255 - value for value in ink)  # PIL inverts whatever it writes
        stream = io.BytesIO()
        Image.new("CMYK", (16, 8), stored).save(stream, "JPEG", quality=100)
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(stream.getvalue() if adobe else without_adobe_marker(stream.getvalue()))
        np.testing.assert_allclose(pixels(path)[4, 8], expected, atol=2)


def test_cmyk_tiff(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", Image.new("CMYK", (4, 2), (0, 255, 255, 0)))
    np.testing.assert_allclose(pixels(path)[0, 0], (255, 0, 0), atol=1)


def test_only_the_first_frame_of_an_animation_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (5, 4), color) for color in ("red", "lime", "blue")]
    path = save(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert pixels(path)[0, 0].tolist() == [255, 0, 0]


def test_jpeg_with_an_appended_image(tmp_path: Path) -> None:
    left, right = Image.new("RGB", (16, 8), "white"), Image.new("RGB", (16, 8), "black")
    path = save(tmp_path / "a.jpg", left, format="MPO", save_all=True, append_images=[right])
    assert pixels(path).min() > 250


# What a viewer shows of the stored array, written by hand from the EXIF definition.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}


def oriented(path: Path, orientation: int, array: np.ndarray) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return save(path, Image.fromarray(array), exif=exif, **{"lossless": True} if path.suffix == ".webp" else {})


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = oriented(tmp_path / f"a.{suffix}", orientation, colors())
    np.testing.assert_array_equal(pixels(path), UPRIGHT[orientation](colors()))


def test_exif_orientation_of_a_jpeg(tmp_path: Path) -> None:
    array = np.zeros((16, 32, 3), dtype=np.uint8)
    array[:8, :8] = 255  # white corner, top left as stored
    found = pixels(oriented(tmp_path / "a.jpg", 6, array))  # 6: to be turned clockwise
    assert found.shape == (32, 16, 3)
    assert found[3, 12].tolist() == [255, 255, 255]
    assert found[3, 3].tolist() == [0, 0, 0]


def test_image_annotated_as_stored_is_not_rotated(tmp_path: Path) -> None:
    path = oriented(tmp_path / "a.png", 6, colors())
    np.testing.assert_array_equal(pixels(path, (4, 6)), colors())
    for stated in ((6, 4), (600, 400), None):
        np.testing.assert_array_equal(pixels(path, stated), UPRIGHT[6](colors()))
    upside_down = oriented(tmp_path / "b.png", 3, colors())  # same size either way: nothing to tell from
    np.testing.assert_array_equal(pixels(upside_down, (4, 6)), UPRIGHT[3](colors()))


def test_orientation_outside_1_to_8_and_broken_exif_are_ignored(tmp_path: Path) -> None:
    np.testing.assert_array_equal(pixels(oriented(tmp_path / "a.png", 99, colors())), colors())
    path = save(tmp_path / "b.png", Image.fromarray(colors()), exif=b"Exif\x00\x00MM\x00*\xff\xff")
    np.testing.assert_array_equal(pixels(path), colors())


def test_size_is_read_from_the_header_alone(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 200, 3), dtype=np.uint8)
    path = save(tmp_path / "a.jpg", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[:2000])
    assert image_size(path) == (300, 200)
    with pytest.raises(ImageError, match="truncated"):
        read_image(path)


def broken_files(folder: Path) -> dict[str, Path]:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    files = {}
    for suffix in ("jpg", "png", "tif", "bmp", "webp", "gif"):
        path = save(folder / f"truncated.{suffix}", Image.fromarray(noise))
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        files[f"truncated {suffix}"] = path
    files["empty file"] = folder / "empty.jpg"
    files["empty file"].touch()
    files["not an image"] = folder / "text.jpg"
    files["not an image"].write_text("This is no image.\nIt is text.")
    files["no such file"] = folder / "missing.jpg"
    files["a folder"] = folder / "folder.jpg"
    files["a folder"].mkdir()
    files["bad name"] = Path(f"{folder}/nul\0.jpg")
    Image.fromarray(noise).save(folder / "rare.jpg", format="PCX")  # PIL could read it; not in the list
    files["its start is broken"] = folder / "rare.jpg"
    files["PostScript"] = folder / "script.jpg"
    files["PostScript"].write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    return files


def test_every_broken_file_gives_one_line_with_file_and_reason(tmp_path: Path) -> None:
    for kind, path in broken_files(tmp_path).items():
        with warnings.catch_warnings(record=True) as leaked:
            warnings.simplefilter("always")
            with pytest.raises(ImageError) as caught:
                read_image(path)
        assert leaked == [], kind
        message = str(caught.value)
        assert message.startswith(str(path).replace("\0", "\\x00") + ": "), kind
        assert len(message) > len(f"{path}: ") + 5, kind
        assert "\n" not in message, kind
        if kind in ("empty file", "not an image", "its start is broken", "no such file", "a folder"):
            with pytest.raises(ImageError, match=kind):
                image_size(path)


@pytest.mark.parametrize(
    ("head", "is_video"),
    [
        (b"\0\0\0\x20ftypisom", True),
        (b"\0\0\0\x14ftypqt  ", True),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81", True),
        (b"RIFF\0\0\1\0AVI LIST", True),
        (b"\0\0\0\x18ftypheic", False),
        (b"RIFF\0\0\1\0WEBPVP8 ", False),
        (b"text", False),
        (b"", False),
    ],
)
def test_videos_by_their_first_bytes(tmp_path: Path, head: bytes, is_video: bool) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(head)
    assert begins_as_video(path) == is_video
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert ("begins as a video" in str(caught.value)) == is_video


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_does_not_hang_the_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("factor", [1.5, 3])  # PIL warns from 1 and raises from 2 times the limit
def test_a_decompression_bomb_is_refused_by_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    path = save(tmp_path / "a.png", Image.new("L", (100, 100)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(10_000 / factor))
    for read in (read_image, image_size):
        with warnings.catch_warnings(record=True) as leaked:
            warnings.simplefilter("always")
            with pytest.raises(ImageError, match=r"megapixels|--max-megapixels"):
                read(path)
        assert leaked == []
    with pixel_limit(0.01):
        assert image_size(path) == (100, 100)
    assert max_pixels() == int(10_000 / factor)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert image_size(path) == (100, 100)


def test_the_message_of_the_limit_says_the_option_that_allows_the_image(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.new("L", (1500, 1400)))
    with pixel_limit(2), pytest.raises(ImageError, match=r"1500x1400 = 2\.1 megapixels.*2\.0.*--max-megapixels 3,"):
        read_image(path)
    with pixel_limit(3):
        assert read_image(path).shape == (3, 1400, 1500)


def test_no_file_is_left_open(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(colors()))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        for _ in range(3):
            read_image(path)
            image_size(path)
    path.unlink()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_pil_image_is_converted_by_the_same_rules(tmp_path: Path, suffix: str) -> None:
    path = oriented(tmp_path / f"a.{suffix}", 6, colors())
    with Image.open(path) as image:
        torch.testing.assert_close(to_rgb_tensor(image), read_image(path), rtol=0, atol=0)
    with pytest.raises(ImageError, match="floating-point"):
        to_rgb_tensor(Image.fromarray(np.zeros((2, 2), dtype=np.float32)))


def test_the_content_of_a_file_is_read_as_the_file(tmp_path: Path) -> None:
    deep = tmp_path / "deep.png"
    values = np.arange(4 * 6 * 3, dtype=">u2").reshape(4, 18) * 800
    header = struct.pack(">IIBBBBB", 6, 4, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    deep.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    for path in (deep, save(tmp_path / "a.jpg", Image.fromarray(colors()))):
        content = EncodedImage(path.read_bytes(), "sent")
        assert torch.equal(read_image(content, value_range=(0, 4095)), read_image(path, value_range=(0, 4095)))
        assert image_header(content) == image_header(path)
    assert value_bounds(EncodedImage(deep.read_bytes())) == value_bounds(deep)


def test_errors_name_content_by_the_name_that_was_given() -> None:
    for content, reason in ((b"", "empty file"), (b"hello", "not an image")):
        with pytest.raises(ImageError, match=f"^sent: {reason}"):
            read_image(EncodedImage(content, "sent"))
