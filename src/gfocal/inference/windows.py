"""Image files to batches for the network, off its path: a thread reads, resizes, normalizes and stacks them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from gfocal.data.images import read_pixels
from gfocal.data.preprocess import InputSettings, input_shape, padded_shape
from gfocal.data.value_range import Range
from gfocal.errors import DataError
from gfocal.models.predict import ImageBatch, stack_inputs


@dataclass(frozen=True)
class ImageFile:
    """An image file of a run."""

    index: int  # in the list of all files
    path: str
    name: str  # without suffix, of the files that are written for it; unique


@dataclass(frozen=True)
class ReadImage:
    """A file that was read, and its pixels where they are drawn on."""

    file: ImageFile
    image: Tensor | None  # (3, H, W) uint8
    ends_window: bool  # whether it is in the last batch of its window


@dataclass
class Window:
    """Successive files, read: a batch for each padded size among them, and why the others could not be read.

    Images of another size are no part of a batch: padding would change what the network finds in them.
    """

    batches: list[ImageBatch[ReadImage]] = field(default_factory=list)
    errors: list[DataError] = field(default_factory=list)


def read_window(
    files: Sequence[ImageFile], settings: InputSettings, value_range: Range | None, keep_images: bool
) -> Window:
    """Read files and make the inputs of the network; images themselves are kept only where asked for."""
    window = Window()
    by_size: dict[tuple[int, int], list[tuple[ImageFile, Tensor]]] = defaultdict(list)
    for file in files:
        try:
            image = read_pixels(file.path, value_range=value_range)
        except DataError as error:
            window.errors.append(error)
            continue
        shape = input_shape((int(image.shape[1]), int(image.shape[2])), settings)
        by_size[padded_shape([shape], settings.multiple)].append((file, image))
    for number, members in enumerate(by_size.values(), 1):
        is_last = number == len(by_size)
        keys = [ReadImage(file, image if keep_images else None, is_last) for file, image in members]
        window.batches.append(stack_inputs(keys, [image for _, image in members], settings))
    return window
