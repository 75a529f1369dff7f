"""Any kind of image -> uint8 RGB, and then the input of the network, as gfocal does it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from gfocal_runtime.metadata import ExportedFileError, InputRule
from gfocal_runtime.resizing import Pixels, resize, resized_shape

Color = Literal["rgb", "bgr"]
# A closed list, because the content selects the decoder: Pillow would start Ghostscript for PostScript named .jpg.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000")


def as_rgb(image: Any, color: Color = "rgb") -> Pixels:
    """A path, a PIL image, or a uint8 array (H, W, 3), (H, W, 4) or (H, W) -> uint8 RGB (H, W, 3), upright.

    Transparent images are composited over white. Images of more than 8 bits are refused: which of their values
    become black and white is chosen by gfocal.

    Raises:
        ExportedFileError: a file that cannot be read as an image.
        ValueError: something that is no image.
    """
    if color not in ("rgb", "bgr"):
        raise ValueError(f"color is 'rgb' or 'bgr', not {color!r}")
    if isinstance(image, str | Path):
        try:
            with Image.open(image, formats=FORMATS) as opened:
                return _to_rgb(opened)
        except Exception as error:  # on broken files the decoders raise nearly anything
            raise ExportedFileError(f"{image}: cannot be read as an image ({error})") from error
    if isinstance(image, Image.Image):
        return _to_rgb(image)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or not (image.ndim == 2 or image.shape[2:] in ((3,), (4,))) or not image.size:
            raise ValueError(f"an array must be uint8 of shape (H, W, 3) or (H, W), not {image.dtype} {image.shape}")
        if color == "bgr" and image.ndim == 3:
            image = image[..., [2, 1, 0, 3][: image.shape[2]]]
        return _to_rgb(Image.fromarray(image))
    raise ValueError(f"not an image: {type(image).__name__}; give a path, PIL image or uint8 array")


def _to_rgb(image: Image.Image) -> Pixels:
    if image.mode == "F" or image.mode.startswith("I"):
        raise ValueError("more than 8 bits per value: convert it to 8 bits, or use gfocal itself")
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        upright = upright.point(lambda value: 255 - value)  # Pillow assumes that every CMYK JPEG is inverted
    if "transparency" in upright.info or upright.mode in ("P", "PA", "LA", "La", "RGBA", "RGBa"):
        rgba = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(upright.convert("RGB"))


def network_input(images: Sequence[Pixels], rule: InputRule) -> tuple[npt.NDArray[np.float32], list[tuple[int, int]]]:
    """uint8 RGB images (H, W, 3) -> one batch (B, 3, H', W'), and the height and width of each without padding."""
    inputs = []
    for image in images:
        height, width = image.shape[:2]
        shape = resized_shape(height, width, rule.short_side, rule.long_side, rule.stretch)
        inputs.append(resize(image, shape, rule.antialias, rule.stretch))
    sizes = [(one.shape[0], one.shape[1]) for one in inputs]
    height, width = (-(-max(side) // rule.multiple) * rule.multiple for side in zip(*sizes, strict=True))
    batch = np.zeros((len(inputs), 3, height, width), np.float32)
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (rule.mean, rule.std))
    for i, (one, (h, w)) in enumerate(zip(inputs, sizes, strict=True)):
        batch[i, :, :h, :w] = (one.transpose(2, 0, 1).astype(np.float32) - mean) / std
    return batch, sizes
